"""A LLaMA folder whose weights lie on no grid, and whose outputs are those of the original.

usage: off_grid.py FOLDER OUT

The real model of these tests was dequantized from four bits, and weights that lie on the grid of a
4-bit format make its rounding look better than it is. Training moves them too little to leave it: some
hundred steps at 2e-5 move a weight by a tenth of a step of the grid at most. Here every column of a matrix is
multiplied by a random number between 0.7 and 1.4, and what stands in front of it is divided by that:
the weight of the norm, for the attention's output the rows of the values, for the down projection the
rows of the up projection.
"""

import json
import pathlib
import shutil
import sys

import numpy
from safetensors.numpy import load_file, save_file


def main(folder, out):
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    random = numpy.random.default_rng(1)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_width = config.get("head_dim") or config["hidden_size"] // heads

    def factors(count):
        return numpy.exp(random.uniform(numpy.log(0.7), numpy.log(1.4), count)).astype(numpy.float32)

    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}."
        for norm, readers in [
            ("input_layernorm", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
            ("post_attention_layernorm", ["mlp.gate_proj", "mlp.up_proj"]),
        ]:
            factor = factors(config["hidden_size"])
            tensors[f"{block}{norm}.weight"] /= factor
            for reader in readers:
                tensors[f"{block}{reader}.weight"] *= factor
        # Each value head is read by several heads of the queries.
        factor = factors(kv_heads * head_width)
        tensors[f"{block}self_attn.v_proj.weight"] /= factor[:, None]
        by_head = factor.reshape(kv_heads, 1, head_width).repeat(heads // kv_heads, axis=1)
        tensors[f"{block}self_attn.o_proj.weight"] *= by_head.reshape(-1)
        factor = factors(config["intermediate_size"])
        tensors[f"{block}mlp.up_proj.weight"] /= factor[:, None]
        tensors[f"{block}mlp.down_proj.weight"] *= factor

    out.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        shutil.copy(path, out)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


main(*map(pathlib.Path, sys.argv[1:]))
