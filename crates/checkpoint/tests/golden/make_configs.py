"""Writes configs.json: what transformers itself writes for small models of every class.

    pip install transformers && python make_configs.py

The sizes are odd on purpose. `refused` are models that transformers computes otherwise than we
do; the key is the one that has to be named.
"""

import json
import pathlib

import transformers
from transformers import (
    Gemma3TextConfig, GPT2Config, GPTNeoXConfig, LlamaConfig, MistralConfig, Olmo2Config, Phi3Config,
    Qwen2Config, Qwen3Config, SmolLM3Config,
)

SIZES = dict(
    vocab_size=99, hidden_size=72, intermediate_size=100, num_hidden_layers=2,
    num_attention_heads=9, max_position_embeddings=40,
)
GROUPED = dict(SIZES, num_key_value_heads=3, rms_norm_eps=1e-5)
NO_IDS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
NEOX = dict(SIZES, use_parallel_residual=False, hidden_act="gelu_new", rotary_pct=1.0)
LLAMA3 = dict(
    rope_type="llama3", rope_theta=1e4, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=20,
)

GEMMA3 = dict(GROUPED, head_dim=16, query_pre_attn_scalar=16, sliding_window=7)
LONGROPE = dict(
    rope_type="longrope", rope_theta=1e4, partial_rotary_factor=0.5, short_factor=[1.0, 1.5],
    long_factor=[2.0, 3.5],
)

ACCEPTED = {
    "gpt2": GPT2Config(vocab_size=99, n_embd=72, n_layer=2, n_head=9, n_positions=40, n_inner=100),
    "gptneox": GPTNeoXConfig(**NEOX),
    "gptneox base": GPTNeoXConfig(**NEOX, rotary_emb_base=5000),
    "llama": LlamaConfig(**GROUPED),
    "llama tied": LlamaConfig(**GROUPED, tie_word_embeddings=True),
    "llama base": LlamaConfig(**GROUPED, rope_theta=500000.0),
    "llama wide heads": LlamaConfig(**GROUPED, head_dim=16),
    "llama3": LlamaConfig(**GROUPED, rope_parameters=LLAMA3),
    "llama linear": LlamaConfig(
        **GROUPED, rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=2.5)
    ),
    "mistral": MistralConfig(**GROUPED, sliding_window=None),
    "mistral wide window": MistralConfig(**GROUPED, sliding_window=40),
    "qwen2": Qwen2Config(**GROUPED),
    "qwen3": Qwen3Config(**GROUPED, head_dim=20),
    "olmo2": Olmo2Config(**GROUPED),
    "gemma3": Gemma3TextConfig(**GEMMA3),
    "gemma3 linear": Gemma3TextConfig(
        **dict(GEMMA3, num_hidden_layers=3, layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
        rope_scaling=dict(rope_type="linear", factor=8.0), tie_word_embeddings=False,
    ),
    "gemma3 without windows": Gemma3TextConfig(**GEMMA3, sliding_window_pattern=1),
    "phi3": Phi3Config(**GROUPED, **NO_IDS),
    "phi3 window": Phi3Config(**GROUPED, **NO_IDS, sliding_window=5),
    "phi3 longrope": Phi3Config(
        **GROUPED, **NO_IDS, rope_parameters=LONGROPE, original_max_position_embeddings=10
    ),
    "smollm3": SmolLM3Config(**GROUPED, rope_theta=1e4, tie_word_embeddings=False, **NO_IDS),
}
REFUSED = {
    "use_parallel_residual": GPTNeoXConfig(**dict(NEOX, use_parallel_residual=True)),
    "hidden_act": GPTNeoXConfig(**dict(NEOX, hidden_act="gelu")),
    "rope_parameters.partial_rotary_factor": GPTNeoXConfig(**dict(NEOX, rotary_pct=0.25)),
    "rope_parameters.rope_type": LlamaConfig(
        **GROUPED, rope_parameters=dict(rope_type="dynamic", rope_theta=1e4, factor=2.0)
    ),
    "query_pre_attn_scalar": Gemma3TextConfig(**dict(GEMMA3, query_pre_attn_scalar=20)),
    "final_logit_softcapping": Gemma3TextConfig(**GEMMA3, final_logit_softcapping=30.0),
    "attention_bias": LlamaConfig(**GROUPED, attention_bias=True),
    "mlp_bias": LlamaConfig(**GROUPED, mlp_bias=True),
    "sliding_window": MistralConfig(**GROUPED, sliding_window=39),
    "layer_types": Qwen2Config(
        **GROUPED, use_sliding_window=True, sliding_window=16, max_window_layers=1
    ),
}
CLASSES = {
    "gpt2": "GPT2LMHeadModel", "gpt_neox": "GPTNeoXForCausalLM", "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM", "olmo2": "Olmo2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
}


def written(config):
    config.architectures = [CLASSES[config.model_type]]
    return json.loads(config.to_json_string())


out = {
    "transformers": transformers.__version__,
    "accepted": {name: written(config) for name, config in ACCEPTED.items()},
    "refused": {name: written(config) for name, config in REFUSED.items()},
}
path = pathlib.Path(__file__).with_name("configs.json")
path.write_text(json.dumps(out, indent=1, sort_keys=True) + "\n")
