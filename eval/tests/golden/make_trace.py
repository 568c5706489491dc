"""Makes trace/: a Gemma 3 with random weights as a Hugging Face folder, and the intermediate results
of transformers for it. Gemma 3 has all norms, shared heads, a window and two rotations.

    python make_trace.py        (transformers 5.24, torch 2.15)
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

here = Path(__file__).resolve().parent
sys.path.append(str(here.parents[2] / "tests/peers"))
from trace_hf import trace  # noqa: E402

torch.manual_seed(1)
config = Gemma3TextConfig(
    vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
    num_key_value_heads=1, head_dim=8, max_position_embeddings=32, sliding_window=4,
    sliding_window_pattern=3, query_pre_attn_scalar=8, tie_word_embeddings=True,
    attn_implementation="eager",
)
model = Gemma3ForCausalLM(config)
with torch.no_grad():
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter) * (0.3 if parameter.dim() == 2 else 0.1))
model.save_pretrained(here / "trace")
(here / "trace/generation_config.json").unlink(missing_ok=True)
ids = [3, 17, 5, 39, 0, 22, 8, 31]
save_file(trace(model, ids), here / "trace/trace.safetensors")
