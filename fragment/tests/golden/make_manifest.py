"""Writes manifest.json, the golden bytes of tests/manifest.rs: python3 make_manifest.py"""
import json
import pathlib

BLAKE3 = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def piece(number, offset, size):
    blake3 = BLAKE3[:63] + str(number)
    return {"id": number, "file": blake3 + ".dat", "offset": offset, "size": size,
            "sha256": SHA256, "blake3": blake3}


def shard(fragment, index, total, offset, length):
    return {"fragment_id": fragment, "shard_index": index, "total_shards": total,
            "offset": offset, "length": length}


def tensor(name, kind, shape, shards):
    return {"tensor_name": name, "tensor_type": kind, "shape": shape, "dtype": "F32",
            "shards": shards}


manifest = {
    "format": "pocketgpt-fragments",
    "version": 1,
    "file": {"name": "a.gguf", "size": 300, "sha256": SHA256, "blake3": BLAKE3},
    "fragments": [piece(0, 0, 128), piece(1, 128, 128), piece(2, 256, 44)],
    "tensors": [
        tensor("a.weight", "weight", [8, 5], [shard(0, 0, 2, 96, 32), shard(1, 1, 2, 0, 128)]),
        tensor("a.bias", "bias", [11], [shard(2, 0, 1, 0, 44)]),
    ],
}
path = pathlib.Path(__file__).with_name("manifest.json")
path.write_text(json.dumps(manifest, indent=2) + "\n")
