"""Makes gpt2.json: what Hugging Face's GPT-2 answers, in float64, with the weights of
random_weights/mod.rs.

    python make_gpt2.py > gpt2.json        (transformers 5.23, torch 2.15)
"""

import json

import torch
from transformers import GPT2Config, GPT2LMHeadModel

VOCAB, CONTEXT, LAYERS, HEADS, WIDTH, INNER = 101, 130, 2, 3, 51, 70

state = 1


def numbers(*shape):
    """Knuth's MMIX generator: the upper 24 bits, between -0.5 and 0.5."""
    global state
    values = []
    for _ in range(torch.Size(shape).numel()):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values.append(((state >> 40) / 2**23 - 1) * 0.5)
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


config = GPT2Config(
    vocab_size=VOCAB, n_positions=CONTEXT, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH,
    n_inner=INNER, activation_function="gelu_new", layer_norm_epsilon=1e-5,
    tie_word_embeddings=True, attn_implementation="eager",
)
model = GPT2LMHeadModel(config).double().eval()

# In the order in which the Rust test draws them. Hugging Face's Conv1D is [in, out], so matrices
# drawn as [out, in] are transposed.
weights = {
    "transformer.wte.weight": numbers(VOCAB, WIDTH),
    "transformer.wpe.weight": numbers(CONTEXT, WIDTH),
    "transformer.ln_f.weight": numbers(WIDTH),
    "transformer.ln_f.bias": numbers(WIDTH),
}
for layer in range(LAYERS):
    h = f"transformer.h.{layer}"
    weights[f"{h}.ln_1.weight"] = numbers(WIDTH)
    weights[f"{h}.ln_1.bias"] = numbers(WIDTH)
    weights[f"{h}.attn.c_attn.weight"] = numbers(3 * WIDTH, WIDTH).T
    weights[f"{h}.attn.c_attn.bias"] = numbers(3 * WIDTH)
    weights[f"{h}.attn.c_proj.weight"] = numbers(WIDTH, WIDTH).T
    weights[f"{h}.attn.c_proj.bias"] = numbers(WIDTH)
    weights[f"{h}.ln_2.weight"] = numbers(WIDTH)
    weights[f"{h}.ln_2.bias"] = numbers(WIDTH)
    weights[f"{h}.mlp.c_fc.weight"] = numbers(INNER, WIDTH).T
    weights[f"{h}.mlp.c_fc.bias"] = numbers(INNER)
    weights[f"{h}.mlp.c_proj.weight"] = numbers(WIDTH, INNER).T
    weights[f"{h}.mlp.c_proj.bias"] = numbers(WIDTH)
weights["lm_head.weight"] = weights["transformer.wte.weight"]
model.load_state_dict(weights, strict=True)

tokens = [(i * 37 + i * i * 11) % VOCAB for i in range(20)]
with torch.no_grad():
    logits = model(torch.tensor([tokens])).logits[0]
print(json.dumps({"tokens": tokens, "logits": [[float(f"{x:.9g}") for x in row] for row in logits.tolist()]}))
