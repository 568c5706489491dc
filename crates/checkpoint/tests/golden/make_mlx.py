"""Writes the files of mlx/: matrices as MLX quantizes them, and what they stand for.

    pip install mlx[cpu] numpy && python make_mlx.py

`BITS-GROUP.safetensors` holds `a.weight`, `a.scales` and `a.biases`, the latter in another format
in each file; `values.json` holds what MLX dequantizes them to in float32.
"""

import json
import pathlib

import mlx.core as mx
import numpy as np

OUT = pathlib.Path(__file__).with_name("mlx")
FORMATS = {2: mx.float16, 3: mx.bfloat16, 4: mx.bfloat16, 5: mx.float32, 6: mx.float16, 8: mx.bfloat16}


def main():
    OUT.mkdir(exist_ok=True)
    mx.random.seed(3)
    values = {}
    for bits, format in FORMATS.items():
        group = 64 if bits == 4 else 32
        matrix = mx.random.normal((3, 64 if bits != 4 else 128)).astype(format)
        codes, scales, biases = mx.quantize(matrix, group_size=group, bits=bits)
        name = f"{bits}-{group}"
        parts = {"a.weight": codes, "a.scales": scales, "a.biases": biases}
        mx.save_safetensors(str(OUT / f"{name}.safetensors"), parts, {"format": "mlx"})
        wide = [part.astype(mx.float32) for part in (scales, biases)]
        exact = mx.dequantize(codes, *wide, group_size=group, bits=bits)
        values[name] = np.array(exact).flatten().tolist()
    (OUT / "values.json").write_text(json.dumps({"mlx": mx.__version__, "matrices": values}) + "\n")


main()
