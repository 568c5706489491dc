"""Hugging Face folders with small random models of every class that is supported, in odd sizes."""

import json
from dataclasses import dataclass

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

CONTEXT = 96
"""Positions of every model."""

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

LLAMA3_ROPE = dict(
    rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=48,
)
"""Llama 3.1's rotation for a context of 48, so that some waves stay, some are stretched and some mixed."""

CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

CORPUS = """The clock on the wharf had stopped at ten past four, and nobody minded. It's 1908, said the
captain; we'll sail in 3 or 40 or 500 days. Grüße aus Köln, naïve café, 日本語もあります, and so on!
    def tick(n):\n        return n + 1\n\n"""


def byte_level(vocabulary, split):
    """Byte-level BPE of `vocabulary` tokens: GPT-2's pattern, LLaMA 3's or Qwen2's."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=split == "llama3"))
    if split == "gpt2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        pattern = Regex(LLAMA3 if split == "llama3" else QWEN2)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(pattern, behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])
    if split == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    tokenizer.train_from_iterator([CORPUS], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[0], chat_template=CHAT
    )


def sentencepiece(vocabulary, prefix=True):
    """SentencePiece's BPE with byte tokens, as LLaMA's and Mistral's folders have it; without the space
    before a text, as Gemma's."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    text = "▁" + CORPUS.replace(" ", "▁").replace("\n", "")
    merged, characters = [], sorted(set(text))
    pieces = list(text)
    while len(tokens) + len(merged) + len(characters) < vocabulary:
        pairs = {}
        for pair in zip(pieces, pieces[1:]):
            if not pair[1].startswith("▁"):
                pairs[pair] = pairs.get(pair, 0) + 1
        best = max(sorted(pairs), key=pairs.get)
        if "".join(best) not in merged:
            merged.append("".join(best))
        joined, i = [], 0
        while i < len(pieces):
            step = 2 if tuple(pieces[i : i + 2]) == best else 1
            joined.append("".join(pieces[i : i + step]))
            i += step
        pieces = joined
    tokens += merged + characters
    ids = {token: i for i, token in enumerate(tokens)}
    # Every way to make a token of two others, as generate_merges of transformers has it.
    merges = [
        [token[:i], token[i:]]
        for token in merged
        for i in range(1, len(token))
        if token[:i] in ids and token[i:] in ids
    ]
    special = [
        {"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for i in range(3)
    ]
    marks = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    begin, sequence = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    description = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, marks]} if prefix else marks,
        # Finds nothing to split, since no space is left.
        "pre_tokenizer": None if prefix else {
            "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, sequence],
            "pair": [begin, sequence, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ] + [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] * prefix},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True,
            "ignore_merges": False, "vocab": ids, "merges": merges,
        },
    }
    tokenizer = Tokenizer.from_str(json.dumps(description))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=CHAT
    )


@dataclass
class Case:
    """One folder: a class, its settings, and how it lies on disk."""

    name: str
    model: type
    config: type
    settings: dict
    tokenizer: object
    dtype: torch.dtype = torch.float32
    shard: str = "1GB"
    gelu: bool = False
    """Whether the activation is GELU."""
    adapter: bool = False
    """Whether a LoRA adapter is tried on it, too."""
    rows: int | None = None
    """Rows of the embedding, if more than there are tokens."""
    norm_center: float = 1.0
    """What the weights of normalisations are drawn around."""
    llama: bool = True
    """Whether llama.cpp computes what transformers does."""
    fused: bool = False
    """Whether all experts of a layer lie in one tensor, as transformers 5 has them in memory."""

    @property
    def burn(self):
        """Whether the model is trained here: those with experts are not."""
        return "num_experts_per_tok" not in self.settings


def llama_like(heads=9, shared=3, width=576, inner=1000, layers=2, **settings):
    """Grouped queries: `heads` heads of queries over `shared` of keys and values."""
    return dict(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=shared, max_position_embeddings=CONTEXT, **settings,
    )


def mixtral_like(experts, used, *shape, **settings):
    """`used` of `experts` for each token; `shape` as for `llama_like`."""
    return llama_like(*shape, num_local_experts=experts, num_experts_per_tok=used, **settings)


def qwen3_moe_like(experts, used, *shape, **settings):
    """As `mixtral_like`; the width of the experts is the inner one of `shape`."""
    heads, shared, width, inner, layers = shape
    return llama_like(
        heads, shared, width, 3 * inner, layers, moe_intermediate_size=inner, num_experts=experts,
        num_experts_per_tok=used, norm_topk_prob=True, **settings,
    )


def gpt2_like(**settings):
    return dict(n_embd=60, n_head=3, n_layer=3, n_positions=CONTEXT, resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0, **settings)


def neox_like(**settings):
    return dict(
        hidden_size=132, intermediate_size=330, num_hidden_layers=2, num_attention_heads=11, rotary_pct=1.0,
        use_parallel_residual=False, hidden_act="gelu_new", max_position_embeddings=CONTEXT, **settings,
    )


def gemma3_like(heads=3, shared=1, width=96, head_width=20, layers=7, **settings):
    """Five layers with a window that is shorter than the context to one without."""
    settings = dict(sliding_window=9, query_pre_attn_scalar=head_width) | settings
    return dict(llama_like(heads, shared, width, 180, layers), head_dim=head_width, **settings)


def phi3_like(heads=6, shared=2, width=96, layers=2, original=CONTEXT, rotated=1.0, scaled=False, **settings):
    """`original` is the context up to which the first of two lists of factors holds, if `scaled`."""
    pairs = int(width // heads * rotated) // 2
    rope = dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=rotated)
    if scaled:
        short, long = ([1 + a * i for i in range(pairs)] for a in (0.1, 0.9))
        rope = dict(
            rope, rope_type="longrope", short_factor=short, long_factor=long, original_max_position_embeddings=original,
        )
    sizes = dict(llama_like(heads, shared, width, 170, layers), pad_token_id=None) | settings
    return dict(sizes, rope_parameters=rope, original_max_position_embeddings=original)


def cases():
    """Every class; between them every type, tied and not, one file and several, every tokenizer."""
    gpt2, llama3, qwen2 = (byte_level(331, split) for split in ("gpt2", "llama3", "qwen2"))
    pieces, bare = sentencepiece(359), sentencepiece(359, prefix=False)
    half, brain = torch.float16, torch.bfloat16
    return [
        Case("gpt2-tied", GPT2LMHeadModel, GPT2Config, gpt2_like(), gpt2, gelu=True, adapter=True),
        Case("gpt2-untied-bf16", GPT2LMHeadModel, GPT2Config, gpt2_like(tie_word_embeddings=False, n_inner=100), gpt2, brain, gelu=True),
        Case("llama-tied", LlamaForCausalLM, LlamaConfig, llama_like(tie_word_embeddings=True), pieces, adapter=True),
        Case("llama-untied-f16-sharded", LlamaForCausalLM, LlamaConfig, llama_like(rms_norm_eps=1e-5), llama3, half, "3MB"),
        Case("llama-wide-heads-bf16", LlamaForCausalLM, LlamaConfig, llama_like(2, 1, 256, 333, rope_theta=5e5), pieces, brain),
        Case("mistral-bf16", MistralForCausalLM, MistralConfig, llama_like(6, 2, 96, 200, sliding_window=None), pieces, brain),
        Case("qwen2-tied", Qwen2ForCausalLM, Qwen2Config, llama_like(tie_word_embeddings=True, rope_theta=1e6), qwen2),
        Case("qwen2-untied-f16-sharded", Qwen2ForCausalLM, Qwen2Config, llama_like(7, 1, 140, 190, 3), qwen2, half, "200KB", adapter=True),
        Case("llama3-tied", LlamaForCausalLM, LlamaConfig, llama_like(6, 2, 144, 200, 3, rope_parameters=LLAMA3_ROPE, tie_word_embeddings=True), llama3, adapter=True),
        Case("llama3-wide-heads-bf16", LlamaForCausalLM, LlamaConfig, llama_like(6, 3, 90, 130, 2, rope_parameters=LLAMA3_ROPE, head_dim=26), llama3, brain),
        Case("llama-linear", LlamaForCausalLM, LlamaConfig, llama_like(4, 2, 72, 130, rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=2.5)), llama3),
        Case("qwen3-tied", Qwen3ForCausalLM, Qwen3Config, llama_like(6, 2, 90, 130, 3, head_dim=26, tie_word_embeddings=True, rope_theta=1e6), qwen2, adapter=True),
        Case("qwen3-untied-bf16-sharded", Qwen3ForCausalLM, Qwen3Config, llama_like(5, 5, 70, 190, head_dim=10), qwen2, brain, "100KB"),
        Case("smollm3-tied", SmolLM3ForCausalLM, SmolLM3Config, llama_like(6, 2, 96, 130, 5, pad_token_id=None), llama3, adapter=True),
        Case("smollm3-untied-f16", SmolLM3ForCausalLM, SmolLM3Config, llama_like(5, 1, 70, 190, 9, tie_word_embeddings=False, pad_token_id=None), llama3, half),
        Case("gptneox-untied", GPTNeoXForCausalLM, GPTNeoXConfig, neox_like(), gpt2, gelu=True),
        Case("gptneox-tied-bf16", GPTNeoXForCausalLM, GPTNeoXConfig, neox_like(tie_word_embeddings=True), gpt2, brain, gelu=True),
        Case("olmo2-untied", Olmo2ForCausalLM, Olmo2Config, llama_like(6, 6, 96, 150, 3), gpt2, adapter=True),
        Case("olmo2-tied-shared-bf16", Olmo2ForCausalLM, Olmo2Config, llama_like(6, 2, 84, 150, tie_word_embeddings=True, rope_theta=5e5), gpt2, brain),
        Case("gemma3-tied", Gemma3ForCausalLM, Gemma3TextConfig, gemma3_like(), bare, gelu=True, adapter=True, norm_center=0.0),
        Case("gemma3-scaled-bf16-sharded", Gemma3ForCausalLM, Gemma3TextConfig, gemma3_like(
            4, 2, 72, 34, 3, sliding_window=40, layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            rope_scaling=dict(rope_type="linear", factor=8.0)), bare, brain, "50KB", gelu=True, norm_center=0.0),
        # llama.cpp asks a model with "phi3" in its name for tokens of that model.
        Case("phi", Phi3ForCausalLM, Phi3Config, phi3_like(), pieces, adapter=True),
        Case("phi-partial-tied-f16-sharded", Phi3ForCausalLM, Phi3Config, phi3_like(4, 2, 128, rotated=0.75, tie_word_embeddings=True), llama3, half, "200KB"),
        Case("phi-longrope-beyond", Phi3ForCausalLM, Phi3Config, phi3_like(original=32, rotated=0.75, scaled=True), pieces),
        # llama.cpp goes by the room for tokens, in steps of 256.
        Case("phi-longrope-within", Phi3ForCausalLM, Phi3Config, phi3_like(original=512, scaled=True, max_position_embeddings=1024), pieces),
        # llama.cpp leaves this window out.
        Case("phi-window", Phi3ForCausalLM, Phi3Config, phi3_like(sliding_window=11), pieces, llama=False),
        Case("mixtral", MixtralForCausalLM, MixtralConfig, mixtral_like(3, 2, 6, 2, 96, 56, 2), pieces),
        Case("mixtral-8-bf16-sharded", MixtralForCausalLM, MixtralConfig, mixtral_like(8, 2, 4, 1, 72, 40, 3), pieces, brain, "80KB", adapter=True),
        Case("mixtral-fused-tied", MixtralForCausalLM, MixtralConfig, mixtral_like(5, 2, 5, 5, 90, 34, 2, tie_word_embeddings=True), llama3, fused=True),
        Case("mixtral-one-of-two", MixtralForCausalLM, MixtralConfig, mixtral_like(2, 1, 2, 2, 32, 17, 2), pieces),
        Case("qwen3moe", Qwen3MoeForCausalLM, Qwen3MoeConfig, qwen3_moe_like(5, 2, 6, 2, 90, 34, 3, head_dim=26, rope_theta=1e6), qwen2),
        Case("qwen3moe-tied-f16-sharded", Qwen3MoeForCausalLM, Qwen3MoeConfig, qwen3_moe_like(7, 3, 4, 1, 64, 23, 2, head_dim=18, tie_word_embeddings=True), qwen2, half, "60KB"),
        Case("qwen3moe-fused-bf16", Qwen3MoeForCausalLM, Qwen3MoeConfig, qwen3_moe_like(11, 4, 5, 5, 70, 19, 2), qwen2, brain, fused=True),
        # More rows than tokens, as many published models have.
        Case("llama-padded", LlamaForCausalLM, LlamaConfig, llama_like(4, 4, 64, 96), pieces, rows=384),
    ]


def write(case, path, seed):
    """Makes the model with weights that are large enough to tell one from another, and saves it."""
    torch.manual_seed(seed)
    rows = case.rows or len(case.tokenizer)
    ids = dict(bos_token_id=case.tokenizer.bos_token_id, eos_token_id=case.tokenizer.eos_token_id)
    model = case.model(case.config(vocab_size=rows, **ids, **case.settings)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                center = case.norm_center if name.endswith("weight") else 0.0
                weight.copy_(center + 0.3 * torch.randn_like(weight))
            else:
                weight.mul_(3.0)
    model = model.to(case.dtype)
    model.save_pretrained(path, max_shard_size=case.shard)
    if case.fused:
        heads = ["lm_head.weight"] if model.config.tie_word_embeddings else []
        tensors = {name: tensor for name, tensor in model.state_dict().items() if name not in heads}
        save_file(tensors, f"{path}/model.safetensors", {"format": "pt"})
    case.tokenizer.save_pretrained(path)
