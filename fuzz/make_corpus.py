#!/usr/bin/env python3
"""Makes the seed corpus of the fuzz targets: real files of a model with a few thousand parameters.

usage: fuzz/make_corpus.py FOLDER_OF_BINARIES
"""
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TINY = HERE.parent / "configs/tiny.toml"
SIZE = ["model.n_embd=8", "model.n_layer=1", "model.context_length=16", "data.context=16", "train.max_steps=2",
        "train.checkpoint_interval=2", "train.eval_interval=2", "train.batch_size=1", "eval.golden_windows=1"]
OWN = ["data.tokenizer=trained", "data.vocab_size=260"]


def main():
    bin_folder = Path(sys.argv[1]).resolve()
    work = Path(tempfile.mkdtemp())

    def run(program, *arguments, stdin=""):
        done = subprocess.run([bin_folder / program, *arguments], cwd=work, input=stdin, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{program} {' '.join(map(str, arguments))}: {done.stderr}")

    def train(folder, *settings):
        run("train", "--config", TINY, *[word for one in [*SIZE, f"run.dir={folder}", *settings] for word in ("--set", one)])
        return work / folder / "checkpoints/step-000002"

    def seed(target, name, source):
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(source if isinstance(source, bytes) else Path(source).read_bytes())

    shutil.rmtree(HERE / "corpus", ignore_errors=True)
    (work / "text.txt").write_text("The clock struck, and every effort moved the lamp a little. " * 8)
    step = train("gpt2", *OWN)
    llama = train("llama", *OWN, "model.architecture=llama", "model.qkv_bias=false")
    adapter = train("lora", "train.init_from=gpt2", "lora.rank=2") / "adapter"
    run("export", "--input", "gpt2", "--output", "model.gguf")
    run("quantize", "--input", "model.gguf", "--bits", "8", "--output", "q8.gguf")
    run("quantize", "imatrix", "--input", "model.gguf", "--text", "text.txt", "--context", "16", "--output", "imatrix.gguf")
    run("eval", "--checkpoint", step, "--f32", "model.gguf", "--quantized", "q8.gguf", "--output", "report.json")
    run("bundle", "pack", "--variant", "Q8_0=q8.gguf", "--tokenizer", step / "tokenizer.json", "--license", "MIT",
        "--no-app", "--prompt", "a", "--self-test-tokens", "2", "--release", "1", "--output", "pocket")
    for key in ("key.pem", "next.pem"):
        run("bundle", "keygen", "--output", key)
    run("bundle", "rotate-key", "--key", "key.pem", "--new-key", "next.pem.pub", "--output", "rotated.json")
    run("bundle", "sign", "--input", "pocket", "--key", "next.pem", "--statement", "rotated.json")
    run("data", "encode", "text.txt", "--output", "tokens.bin")
    run("generate", "chat", "--model", "gpt2", "--plain", "--greedy", "--max-tokens", "2", "--system", "s", "--save",
        "chat.json", stdin="a\n")
    for target in ("gguf", "raw"):
        seed(target, "model", work / "q8.gguf")
    seed("manifest", "pieces", work / "pocket/model/Q8_0.manifest.json")
    seed("bundle_manifest", "packed", work / "pocket/bundle.json")
    seed("signature", "rotated", (work / "pocket/bundle.json").read_bytes() + b"\0" + (work / "pocket/bundle.sig").read_bytes())
    seed("signature", "short", b"{}\0" + (work / "pocket/bundle.sig").read_bytes())
    seed("tokenizer_json", "bpe", step / "tokenizer.json")
    seed("tokenizer_json", "words", words())
    seed("tokenizer_json", "unigram", unigram())
    seed("sentencepiece", "bpe", sentencepiece(2))
    seed("sentencepiece", "unigram", sentencepiece(1))
    seed("safetensors", "gpt2", step / "model.safetensors")
    seed("safetensors", "two", safetensors())
    seed("index_json", "two", json.dumps({"metadata": {"total_size": 32}, "weight_map": {
        "a": "model-00001-of-00001.safetensors", "b": "model-00001-of-00001.safetensors"}}).encode())
    seed("config_json", "gpt2", step / "config.json")
    seed("config_json", "llama", llama / "config.json")
    seed("lora", "peft", adapter / "adapter_config.json")
    seed("imatrix", "gguf", work / "imatrix.gguf")
    seed("imatrix", "old", old_imatrix())
    seed("token_file", "tokens", work / "tokens.bin")
    seed("conversation", "chat", work / "chat.json")
    seed("run_file", "tiny", TINY)
    seed("run_file", "whole", work / "gpt2/config.toml")
    seed("llama2c", "model", llama2c())
    seed("report_json", "report", work / "report.json")
    seed("plan_file", "plan", PLAN)
    for name, text in TEMPLATES.items():
        seed("chat_template", name, text.encode())
    seed("pickle", "state", PICKLE)
    seed("nanogpt", "pickle", PICKLE)
    for name, source in [("gpt2.safetensors", step / "model.safetensors"), ("gpt2.json", step / "config.json"),
                         ("adapter_model.safetensors", adapter / "adapter_model.safetensors")]:
        shutil.copy(source, HERE / "seeds" / name)
    shutil.rmtree(work)


TEMPLATES = {
    "chatml": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
              "'<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "generation": "{%- for m in messages -%}\n{% generation %}{{ m.content | trim }}{# a #}{%- endgeneration -%}\n"
                  "{% raw %}{% generation %}{% endraw %}{%- endfor -%}{{ bos_token }}",
    "functions": "{% set n = namespace(x=1) %}{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
                 "{{ messages | tojson(indent=2) }}{{ strftime_now('%Y') }}{{ '%5d|%s' | format(n.x, 'a') }}",
}

PLAN = b'# A note.\nformat = 1\n\n[tensors]\n"blk.0.attn_qkv.weight" = "Q8_0"\n"token_embd.weight" = "Q4_K"\n'

# A dictionary of a text, a number, a list and a tuple, protocol 2.
PICKLE = b"\x80\x02}q\x00(X\x05\x00\x00\x00modelq\x01]q\x02(K\x01K\x02eX\x04\x00\x00\x00iterq\x03M\xe8\x03\x86q\x04u."


def words():
    vocab = {"[UNK]": 0, "The": 1, "lamp": 2, "a": 3}
    return json.dumps({"version": "1.0", "added_tokens": [], "normalizer": None,
                       "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
                       "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"}}).encode()


def unigram():
    pieces = [["<unk>", 0.0], ["\u2581", -1.0], ["\u2581The", -2.0], ["a", -3.5]]
    return json.dumps({"version": "1.0", "added_tokens": [], "normalizer": None,
                       "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"},
                       "post_processor": None, "decoder": None,
                       "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": False}}).encode()


def field(number, kind, value):
    """A field of protobuf: kind 0 is a number, 2 bytes, 5 a float."""
    varint = lambda n: bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)
    body = {0: lambda: varint(value), 2: lambda: varint(len(value)) + value, 5: lambda: struct.pack("<f", value)}
    return varint(number << 3 | kind) + body[kind]()


def sentencepiece(kind):
    """kind 1 is Unigram, 2 BPE."""
    piece = lambda text, score, type: field(1, 2, field(1, 2, text.encode()) + field(2, 5, score) + field(3, 0, type))
    pieces = [piece("<unk>", 0, 2), piece("<s>", 0, 3), piece("</s>", 0, 3)]
    pieces += [piece(f"<0x{byte:02X}>", 0, 6) for byte in range(256)]
    pieces += [piece(text, -i, 1) for i, text in enumerate(["\u2581", "T", "h", "e", "\u2581T", "he", "\u2581The"])]
    trainer = field(2, 2, field(3, 0, kind) + field(35, 0, 1) + field(40, 0, 0))
    return b"".join(pieces) + trainer + field(3, 2, field(3, 0, 1) + field(4, 0, 0) + field(5, 0, 1))


def safetensors():
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
                         "b": {"dtype": "F32", "shape": [4], "data_offsets": [16, 32]}}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + struct.pack("<8f", *range(8))


def old_imatrix():
    text = lambda t: struct.pack("<i", len(t)) + t
    entry = text(b"blk.0.ffn_up.weight") + struct.pack("<ii4f", 2, 4, 1, 2, 3, 4)
    return struct.pack("<i", 1) + entry + struct.pack("<i", 2) + text(b"text.txt")


def llama2c():
    dim, hidden, layers, heads, kv_heads, vocab, length = 8, 8, 1, 2, 2, 8, 8
    head = dim // heads
    sizes = vocab * dim + 2 * dim + 2 * dim * dim + 2 * kv_heads * head * dim + 3 * hidden * dim + dim + length * head
    model = struct.pack("<7i", dim, hidden, layers, heads, kv_heads, vocab, length) + struct.pack(f"<{sizes}f", *[0.5] * sizes)
    token = lambda score, text: struct.pack("<fi", score, len(text)) + text
    texts = [b"<unk>", b"\n<s>\n", b"\n</s>\n", b"<0x0A>", b" a", b"b", b"c", b"d"]
    tokenizer = struct.pack("<i", 6) + b"".join(token(-i, text) for i, text in enumerate(texts))
    return struct.pack("<H", len(tokenizer)) + tokenizer + model


if __name__ == "__main__":
    main()
