"""Writes bundle.json, the golden bytes of tests/damage.rs: python3 make_bundle.py"""
import json
import pathlib

SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
BLAKE3 = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"

bundle = {
    "format": "pocketgpt-bundle",
    "version": 1,
    "name": "tiny",
    "architecture": "gpt2",
    "context_length": 48,
    "parameters": 20000,
    "license": "MIT",
    "release": 3,
    "expires": "2027-06-30",
    "variants": [{
        "recipe": "Q8_0",
        "manifest": "model/Q8_0.manifest.json",
        "size": 21250,
        "sha256": SHA256,
        "blake3": BLAKE3,
        "bits_per_weight": 8.5,
        "quality": {"mean_kl": 0.0012, "top1_agreement": 0.985, "perplexity": 21.5,
                    "reference_perplexity": None},
        "memory": {"context": 48, "weights": 21000, "kv_cache": 300, "compute": 200,
                   "total": 21500},
    }],
    "generation": {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.1,
                   "max_new_tokens": 128, "eos_token_ids": [0, 7]},
    "special_tokens": ["<|endoftext|>"],
    "provenance": {"run_file": "[run]\nseed = 1\n", "data_blake3": None,
                   "program_version": "0.1.0"},
    "self_test": {"prompt": "a b c", "prompt_tokens": [1, 2, 3],
                  "expected": [{"recipe": "Q8_0", "tokens": [4, 5], "text": "é "}]},
    "files": [{"path": "model/Q8_0.manifest.json", "size": 900, "sha256": SHA256,
               "blake3": BLAKE3}],
}
path = pathlib.Path(__file__).with_name("bundle.json")
path.write_text(json.dumps(bundle, indent=2, ensure_ascii=False) + "\n")
