"""Makes one .json per family: what Hugging Face's models answer, in float64, with the weights of
random_weights/mod.rs.

    python make_golden.py        (transformers 5.23, torch 2.15)
"""

import json
import math
from pathlib import Path

import torch
import transformers
from transformers import (
    Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel, GPTNeoXConfig,
    GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM, Olmo2Config,
    Olmo2ForCausalLM, Phi3Config, Phi3ForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
    Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM, SmolLM3Config,
    SmolLM3ForCausalLM,
)

VOCAB, CONTEXT, LAYERS, INNER = 101, 130, 2, 70
TOKENS = [(i * 37 + i * i * 11) % VOCAB for i in range(20)]


class Numbers:
    """Knuth's MMIX generator: the upper 24 bits, between -0.5 and 0.5."""

    def __init__(self):
        self.state = 1

    def __call__(self, *shape):
        values = []
        for _ in range(torch.Size(shape).numel()):
            self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
            values.append(((self.state >> 40) / 2**23 - 1) * 0.5)
        return torch.tensor(values, dtype=torch.float64).reshape(shape)


def gpt2(draw):
    heads, width = 3, 51
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=CONTEXT, n_layer=LAYERS, n_head=heads, n_embd=width,
        n_inner=INNER, activation_function="gelu_new", layer_norm_epsilon=1e-5,
        tie_word_embeddings=True, attn_implementation="eager",
    )
    # In the order in which the Rust test draws them. Conv1D is [in, out], so matrices drawn as
    # [out, in] are transposed.
    weights = {
        "transformer.wte.weight": draw(VOCAB, width),
        "transformer.wpe.weight": draw(CONTEXT, width),
        "transformer.ln_f.weight": draw(width),
        "transformer.ln_f.bias": draw(width),
    }
    for layer in range(LAYERS):
        h = f"transformer.h.{layer}"
        weights[f"{h}.ln_1.weight"] = draw(width)
        weights[f"{h}.ln_1.bias"] = draw(width)
        weights[f"{h}.attn.c_attn.weight"] = draw(3 * width, width).T
        weights[f"{h}.attn.c_attn.bias"] = draw(3 * width)
        weights[f"{h}.attn.c_proj.weight"] = draw(width, width).T
        weights[f"{h}.attn.c_proj.bias"] = draw(width)
        weights[f"{h}.ln_2.weight"] = draw(width)
        weights[f"{h}.ln_2.bias"] = draw(width)
        weights[f"{h}.mlp.c_fc.weight"] = draw(INNER, width).T
        weights[f"{h}.mlp.c_fc.bias"] = draw(INNER)
        weights[f"{h}.mlp.c_proj.weight"] = draw(width, INNER).T
        weights[f"{h}.mlp.c_proj.bias"] = draw(width)
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    return GPT2LMHeadModel(config), weights


def gptneox(draw):
    heads, width = 3, 54
    config = GPTNeoXConfig(
        vocab_size=VOCAB, max_position_embeddings=CONTEXT, num_hidden_layers=LAYERS,
        num_attention_heads=heads, hidden_size=width, intermediate_size=INNER,
        hidden_act="gelu_new", layer_norm_eps=1e-5, use_parallel_residual=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0},
        tie_word_embeddings=False, attn_implementation="eager",
    )

    def per_head(qkv):
        """All Q, all K, all V -> Q, K, V of one head after the other."""
        parts = qkv.reshape(3, heads, width // heads, -1).transpose(0, 1)
        return parts.reshape(qkv.shape)

    weights = {
        "gpt_neox.embed_in.weight": draw(VOCAB, width),
        "gpt_neox.final_layer_norm.weight": draw(width),
        "gpt_neox.final_layer_norm.bias": draw(width),
    }
    for layer in range(LAYERS):
        h = f"gpt_neox.layers.{layer}"
        weights[f"{h}.input_layernorm.weight"] = draw(width)
        weights[f"{h}.input_layernorm.bias"] = draw(width)
        weights[f"{h}.attention.query_key_value.weight"] = per_head(draw(3 * width, width))
        weights[f"{h}.attention.query_key_value.bias"] = per_head(draw(3 * width))
        weights[f"{h}.attention.dense.weight"] = draw(width, width)
        weights[f"{h}.attention.dense.bias"] = draw(width)
        weights[f"{h}.post_attention_layernorm.weight"] = draw(width)
        weights[f"{h}.post_attention_layernorm.bias"] = draw(width)
        weights[f"{h}.mlp.dense_h_to_4h.weight"] = draw(INNER, width)
        weights[f"{h}.mlp.dense_h_to_4h.bias"] = draw(INNER)
        weights[f"{h}.mlp.dense_4h_to_h.weight"] = draw(width, INNER)
        weights[f"{h}.mlp.dense_4h_to_h.bias"] = draw(width)
    model = GPTNeoXForCausalLM(config)
    head = next(name for name in ("lm_head.weight", "embed_out.weight") if name in model.state_dict())
    weights[head] = draw(VOCAB, width)
    return model, weights


def gated(
    draw, model, config, heads, kv_heads, width, adjacent, tied, bias=False, head_norms=False,
    head_dim=None, scaling=None, layers=LAYERS, norms=("before",), all_norms=False, joined=False,
    norm_offset=0.0, experts=None, **settings
):
    """LLaMA and what came of it; `adjacent` rows of queries and keys are drawn in GGUF's order.

    A norm's weight is drawn as the factor, from which Hugging Face's differs by `norm_offset`."""
    d = head_dim or width // heads

    def halves(rows):
        """Pairs of neighbours -> the first of all pairs, then the second of all pairs."""
        if not adjacent:
            return rows
        return rows.reshape(-1, d // 2, 2, width).transpose(1, 2).reshape(rows.shape)

    def norm(n=width):
        return draw(n) - norm_offset

    before, after = "before" in norms, "after" in norms
    weights = {"model.embed_tokens.weight": draw(VOCAB, width), "model.norm.weight": norm()}
    for layer in range(layers):
        h = f"model.layers.{layer}"
        if before:
            weights[f"{h}.input_layernorm.weight"] = norm()
        projections = [("q", heads), ("k", kv_heads), ("v", kv_heads)]
        if joined:
            projections = [("qkv", heads + 2 * kv_heads)]
        for name, n in projections:
            rows = draw(n * d, width)
            weights[f"{h}.self_attn.{name}_proj.weight"] = rows if name == "v" else halves(rows)
            if bias:
                weights[f"{h}.self_attn.{name}_proj.bias"] = draw(n * d)
        if head_norms or all_norms:
            weights[f"{h}.self_attn.q_norm.weight"] = norm(heads * d if all_norms else d)
            weights[f"{h}.self_attn.k_norm.weight"] = norm(kv_heads * d if all_norms else d)
        weights[f"{h}.self_attn.o_proj.weight"] = draw(width, heads * d)
        if after:
            weights[f"{h}.post_attention_layernorm.weight"] = norm()
        if before:
            second = "pre_feedforward" if after else "post_attention"
            weights[f"{h}.{second}_layernorm.weight"] = norm()
        if experts:
            weights[f"{h}.mlp.gate.weight"] = draw(experts, width)
            gate, up = draw(experts, INNER, width), draw(experts, INNER, width)
            weights[f"{h}.mlp.experts.gate_up_proj"] = torch.cat([gate, up], dim=1)
            weights[f"{h}.mlp.experts.down_proj"] = draw(experts, width, INNER)
            continue
        if joined:
            weights[f"{h}.mlp.gate_up_proj.weight"] = draw(2 * INNER, width)
        else:
            weights[f"{h}.mlp.gate_proj.weight"] = draw(INNER, width)
            weights[f"{h}.mlp.up_proj.weight"] = draw(INNER, width)
        weights[f"{h}.mlp.down_proj.weight"] = draw(width, INNER)
        if after:
            weights[f"{h}.post_feedforward_layernorm.weight"] = norm()
    embedding = weights["model.embed_tokens.weight"]
    weights["lm_head.weight"] = embedding if tied else draw(VOCAB, width)
    config = config(
        vocab_size=VOCAB, max_position_embeddings=CONTEXT, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, hidden_size=width,
        intermediate_size=INNER, rms_norm_eps=1e-5,
        rope_parameters=(
            scaling if scaling and "full_attention" in scaling else
            {"rope_type": "default", "rope_theta": 1e4 if adjacent else 1e6} | (scaling or {})
        ),
        tie_word_embeddings=tied, attn_implementation="eager", head_dim=d, **settings,
    )
    return model(config), weights


def llama(draw):
    return gated(draw, LlamaForCausalLM, LlamaConfig, 9, 3, 54, adjacent=True, tied=True)


def qwen2(draw):
    return gated(draw, Qwen2ForCausalLM, Qwen2Config, 7, 1, 70, adjacent=False, tied=False, bias=True)


def qwen3(draw):
    return gated(
        draw, Qwen3ForCausalLM, Qwen3Config, 6, 2, 54, adjacent=False, tied=True, head_norms=True,
        head_dim=14,
    )


def llama3(draw):
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 60,
    }
    return gated(
        draw, LlamaForCausalLM, LlamaConfig, 6, 3, 54, adjacent=True, tied=True, head_dim=14,
        scaling=scaling,
    )


def smollm3(draw):
    return gated(
        draw, SmolLM3ForCausalLM, SmolLM3Config, 4, 2, 56, adjacent=True, tied=False, layers=5,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )


def mixtral(draw):
    return gated(
        draw, MixtralForCausalLM, MixtralConfig, 9, 3, 54, adjacent=True, tied=False, experts=3,
        num_local_experts=3, num_experts_per_tok=2, experts_implementation="eager",
    )


def qwen3moe(draw):
    return gated(
        draw, Qwen3MoeForCausalLM, Qwen3MoeConfig, 4, 2, 54, adjacent=False, tied=True,
        head_norms=True, head_dim=14, experts=5, num_experts=5, num_experts_per_tok=2,
        moe_intermediate_size=INNER, norm_topk_prob=True, experts_implementation="eager",
    )


class ExactRouter(torch.nn.Module):
    """The routers of both classes in float64: transformers takes their softmax in float32."""

    def __init__(self, router):
        super().__init__()
        self.router = router

    def forward(self, x):
        logits = torch.nn.functional.linear(x.reshape(-1, x.shape[-1]), self.router.weight)
        scores, chosen = torch.topk(logits.softmax(-1), self.router.top_k, dim=-1)
        return logits, scores / scores.sum(-1, keepdim=True), chosen


def olmo2(draw):
    return gated(
        draw, Olmo2ForCausalLM, Olmo2Config, 6, 3, 60, adjacent=False, tied=False, norms=("after",),
        all_norms=True, pad_token_id=None, eos_token_id=None,
    )


def gemma3(draw):
    rotations = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    return gated(
        draw, Gemma3ForCausalLM, Gemma3TextConfig, 3, 1, 54, adjacent=False, tied=True,
        head_norms=True, head_dim=14, scaling=rotations, layers=5, norms=("before", "after"),
        norm_offset=1.0, sliding_window=7, sliding_window_pattern=3, query_pre_attn_scalar=14,
    )


def phi3(draw, scaling=None, **settings):
    scaling = dict(scaling or {}, rope_theta=1e4, partial_rotary_factor=0.75)
    return gated(
        draw, Phi3ForCausalLM, Phi3Config, 4, 2, 56, adjacent=False, tied=False, joined=True,
        scaling=scaling, pad_token_id=None, **{"sliding_window": 9, **settings},
    )


def phi3_longrope(draw):
    scaling = {
        "rope_type": "longrope", "short_factor": [1.0, 1.0, 1.0, 1.0, 1.0],
        "long_factor": [1.0, 1.25, 2.0, 3.5, 7.0],
    }
    return phi3(draw, scaling, sliding_window=None, original_max_position_embeddings=12)


def exact_angles(config, layer_type=None, positions=0):
    """Rotary frequencies in float64, and what cosines and sines are multiplied by: transformers has
    the frequencies in float32 whatever the model is in."""
    rope = config.rope_parameters if layer_type is None else config.rope_parameters[layer_type]
    d = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    d = int(d * rope.get("partial_rotary_factor", 1.0))
    frequencies = rope["rope_theta"] ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    if rope["rope_type"] == "linear":
        return frequencies / rope["factor"], 1.0
    if rope["rope_type"] == "longrope":
        original = rope["original_max_position_embeddings"]
        factors = rope["long_factor" if positions > original else "short_factor"]
        stretch = math.log(config.max_position_embeddings / original) / math.log(original)
        return frequencies / torch.tensor(factors, dtype=torch.float64), math.sqrt(1 + stretch)
    if rope["rope_type"] != "llama3":
        return frequencies, 1.0
    # As _compute_llama3_parameters of transformers has it.
    low, high = (rope[f"{name}_freq_factor"] for name in ("low", "high"))
    waves = rope["original_max_position_embeddings"] * frequencies / (2 * torch.pi)
    smooth = (waves - low) / (high - low)
    mixed = (1 - smooth) * frequencies / rope["factor"] + smooth * frequencies
    frequencies = torch.where(waves > high, frequencies, torch.where(
        waves < low, frequencies / rope["factor"], mixed
    ))
    return frequencies, 1.0


def exact_rotary(self, x, position_ids, layer_type=None):
    frequencies, magnitude = exact_angles(self.config, layer_type, position_ids.max() + 1)
    angles = position_ids[:, :, None].double() * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos() * magnitude, angles.sin() * magnitude


FAMILIES = (
    gpt2, gptneox, llama, qwen2, qwen3, llama3, smollm3, olmo2, gemma3, phi3, phi3_longrope,
    mixtral, qwen3moe,
)


def exact_model(family):
    """A family's model in float64 throughout."""
    model, weights = family(Numbers())
    model = model.double().eval()
    model.load_state_dict(weights, strict=True)
    rotary = getattr(getattr(model, "model", model), "rotary_emb", None)
    if rotary is not None:
        kinds = ["full_attention", "sliding_attention"] if family is gemma3 else [None]
        for kind in kinds:
            exact, magnitude = exact_angles(model.config, kind)
            prefix = f"{kind}_" if kind else ""
            found = getattr(rotary, f"{prefix}inv_freq").double()
            assert torch.allclose(found, exact, rtol=1e-6), family.__name__
            assert abs(getattr(rotary, f"{prefix}attention_scaling") - magnitude) < 1e-12
    for module in model.modules():
        if type(module).__name__.endswith("RotaryEmbedding"):
            module.forward = exact_rotary.__get__(module)
        if hasattr(getattr(module, "gate", None), "top_k"):
            before = module.gate(torch.ones(1, model.config.hidden_size, dtype=torch.float64))
            module.gate = ExactRouter(module.gate)
            after = module.gate(torch.ones(1, model.config.hidden_size, dtype=torch.float64))
            assert torch.allclose(before[1].double(), after[1], rtol=1e-5) and torch.equal(before[2], after[2])
    return model


def main():
    for family in FAMILIES:
        model = exact_model(family)
        with torch.no_grad():
            logits = model(torch.tensor([TOKENS])).logits[0]
        rows = [[float(f"{x:.9g}") for x in row] for row in logits.tolist()]
        path = Path(__file__).with_name(f"{family.__name__}.json")
        path.write_text(json.dumps({"tokens": TOKENS, "logits": rows}) + "\n")


if __name__ == "__main__":
    main()
