"""Writes files such as lie about in the wild, with the `gguf` package of llama.cpp, and what that
package's own reader says of them (pip install gguf numpy).

    python make_raw.py
"""

import json
from pathlib import Path

import gguf.gguf_writer
import numpy as np
from gguf import GGMLQuantizationType as Format
from gguf import GGUFEndian, GGUFReader, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES, GGUF_VERSION

here = Path(__file__).parent


def keys(writer):
    """Keys with hyphens, as older converters and other programs write them."""
    writer.add_uint32("rwkv-7.block-count", 3)
    writer.add_float32("rwkv-7.rope.freq_base", 1e6)
    writer.add_array("tokenizer.tokens", ["<s>", "Ġthe", "", "日本"])
    writer.add_array("layer-sizes", [1, -2, 300])
    writer.add_bool("flag", True)


def tensors(writer, formats):
    """One tensor of two rows of two blocks for each format; the bytes are 0, 1, 2, ..."""
    for number in formats:
        block, size = GGML_QUANT_SIZES[number]
        data = np.arange(4 * size, dtype=np.uint8).reshape(2, 2 * size)
        writer.add_tensor(f"blk.0.{number.name}", data, raw_shape=(2, 2 * size), raw_dtype=number)


def write(name, formats, version=GGUF_VERSION, **arguments):
    gguf.gguf_writer.GGUF_VERSION = version
    writer = GGUFWriter(here / name, arch="rwkv-7", **arguments)
    keys(writer)
    tensors(writer, formats)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def seen_by_the_package(name):
    """GGUFReader on one file."""
    reader = GGUFReader(here / name)
    return {
        "keys": {
            key: [str(kind.name) for kind in field.types] + [field.contents()]
            for key, field in reader.fields.items()
            if not key.startswith("GGUF.")
        },
        "data_start": int(reader.data_offset),
        "tensors": [
            {
                "name": tensor.name,
                "shape": [int(n) for n in tensor.shape],
                "format": tensor.tensor_type.name,
                "size": int(tensor.n_bytes),
                "at": int(tensor.data_offset),
            }
            for tensor in reader.tensors
        ],
    }


# The package has an old size for Q8_1, which no file holds.
write("v3.gguf", [number for number in GGML_QUANT_SIZES if number is not Format.Q8_1])
write("v2.gguf", [Format.F32, Format.Q5_K, Format.IQ4_XS], version=2)
write("big-endian.gguf", [Format.F32, Format.F16], endianess=GGUFEndian.BIG)
write("split.gguf", [Format.F32, Format.F16, Format.Q3_K, Format.MXFP4, Format.TQ1_0], split_max_tensors=2)

expected = {path.name: seen_by_the_package(path.name) for path in sorted(here.glob("*.gguf"))}
(here / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
