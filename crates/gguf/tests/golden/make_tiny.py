"""Writes tiny.gguf with the `gguf` package of llama.cpp (pip install gguf numpy).

Every scalar type, the arrays that the package can write, three formats, and a last tensor that
needs padding. `golden.rs` builds the same file with this crate and compares byte for byte.

    python make_tiny.py
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

writer = GGUFWriter(Path(__file__).parent / "tiny.gguf", arch="tiny")
writer.add_uint8("scalar.u8", 200)
writer.add_int8("scalar.i8", -100)
writer.add_uint16("scalar.u16", 60_000)
writer.add_int16("scalar.i16", -30_000)
writer.add_uint32("scalar.u32", 4_000_000_000)
writer.add_int32("scalar.i32", -2_000_000_000)
writer.add_float32("scalar.f32", 1e-5)
writer.add_bool("scalar.bool", True)
writer.add_string("scalar.string", "Grüße\n")
writer.add_uint64("scalar.u64", 1 << 63)
writer.add_int64("scalar.i64", -(1 << 62))
writer.add_float64("scalar.f64", 0.1)
writer.add_array("array.string", ["a", "", "Ġthe"])
writer.add_array("array.i32", [1, -2, 3])
writer.add_array("array.f32", [0.5, -1.5])
writer.add_array("array.bool", [True, False])

writer.add_tensor("vector", np.array([1.0, -2.0, 0.5], dtype=np.float32))
writer.add_tensor("matrix", np.arange(8, dtype=np.float16).reshape(2, 4))
# One block: the scale 1.0 as f16, then the weights 0 to 31.
block = np.concatenate([np.array([0x00, 0x3C], np.uint8), np.arange(32, dtype=np.uint8)])
writer.add_tensor("blocks", block.reshape(1, 34), raw_dtype=GGMLQuantizationType.Q8_0)

writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
