"""A LoRA adapter as a GGUF (`export --adapter`) beside llama.cpp: the tensors of its own converter, and
the perplexity and the KL divergence of a model with `--lora` from the same model with the adapter merged.

usage: lora_gguf.py EXPORT CONVERT LLAMA_PERPLEXITY

EXPORT is the program `export`, CONVERT llama.cpp's convert_lora_to_gguf.py. Models are tiny and have
random weights; adapters are peft's, with random factors.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

TEXT = "The clock of the old quay has stopped, and nobody in the town can say when. " * 24


def save_tokenizer(folder):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # llama.cpp wants merges.
    vocabulary = {token: at for at, token in enumerate([*alphabet, "th", "<|endoftext|>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("t", "h")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>").save_pretrained(folder)
    return len(vocabulary)


def tiny(family, rows):
    shape = dict(
        vocab_size=rows, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2, bos_token_id=rows - 1,
        eos_token_id=rows - 1,
    )
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape)), ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    if family == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=16)), ["q_proj", "v_proj", "down_proj"]
    config = GPT2Config(
        vocab_size=rows, n_embd=64, n_layer=2, n_head=4, n_positions=256, initializer_range=0.2,
        bos_token_id=rows - 1, eos_token_id=rows - 1,
    )
    return GPT2LMHeadModel(config), ["c_attn", "attn.c_proj", "c_fc"]


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout + done.stderr


def tensors(path):
    reader = gguf.GGUFReader(path)
    return {tensor.name: numpy.array(tensor.data) for tensor in reader.tensors}, reader


def check(family, rslora, export, convert, perplexity, scratch):
    torch.manual_seed(7)
    base, adapter = scratch / "base", scratch / "adapter"
    rows = save_tokenizer(base)
    model, targets = tiny(family, rows)
    model.save_pretrained(base)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, use_rslora=rslora, init_lora_weights=False, fan_in_fan_out=family == "gpt2", task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(adapter)
    run(export, "--input", base, "--adapter", adapter, "--output", scratch / "adapter.gguf")
    run(export, "--input", base, "--output", scratch / "base.gguf")
    run(export, "--input", base, "--merge-lora", adapter, "--output", scratch / "merged.gguf")

    ours, reader = tensors(scratch / "adapter.gguf")
    if not rslora and family != "gpt2":  # the converter ignores use_rslora, and knows no Conv1D
        run(sys.executable, convert, "--base", base, "--outtype", "f32", "--outfile", scratch / "theirs.gguf", adapter)
        theirs, other = tensors(scratch / "theirs.gguf")
        assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
        for name, values in theirs.items():
            assert (ours[name] == values).all(), name
        for key in ["general.type", "general.architecture", "adapter.type", "adapter.lora.alpha"]:
            assert reader.get_field(key).contents() == other.get_field(key).contents(), key

    text, logits = scratch / "text.txt", scratch / "logits"
    text.write_text(TEXT)
    common = [perplexity, "-f", text, "-c", "128", "-b", "128", "-t", "2", "--no-warmup"]
    run(*common, "-m", scratch / "merged.gguf", "--save-all-logits", logits)

    def divergence(*options):
        said = run(*common, "-m", scratch / "base.gguf", "--kl-divergence-base", logits, "--kl-divergence", *options)
        return float(re.search(r"Mean\s+KLD:\s+([-\d.einfa+]+)", said)[1])

    without, with_adapter = divergence(), divergence("--lora", scratch / "adapter.gguf")
    assert with_adapter < 1e-4 < 1e-2 < without, (with_adapter, without)
    print(f"{family}{', rslora' if rslora else ''}: {len(ours)} tensors; KL divergence from the merged model {with_adapter:.1e}, of the base {without:.2f}")


def main():
    export, convert, perplexity = map(Path, sys.argv[1:4])
    for family, rslora in [("llama", False), ("llama", True), ("qwen3", False), ("gpt2", False)]:
        with tempfile.TemporaryDirectory() as scratch:
            check(family, rslora, export.resolve(), convert.resolve(), perplexity.resolve(), Path(scratch))


main()
