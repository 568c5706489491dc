#!/usr/bin/env bash
# Everything but training beside its peer, in turn: tokenizing (Python's tiktoken), quantizing
# (llama.cpp in process), splitting with both hashes (sha256sum).
#
# usage: tests/bench.sh FOLDER_OF_BINARIES [ROUNDS]
#
# needs: ../shared/data (or DATA=...) for texts and vocabulary, and Python with tiktoken
# (PYTHON=...; by default an environment under target/ is made).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "${1:?usage: tests/bench.sh FOLDER_OF_BINARIES [ROUNDS]}" && pwd)
rounds=${2:-5}
data=${DATA:-$root/../shared/data}
text=$data/texts/wiki.test.raw
[ -f "$text" ] || { echo "bench: $text is missing" >&2; exit 2; }
python=${PYTHON:-$root/target/peer/bin/python}
if [ ! -x "$python" ] && ! command -v "$python" >/dev/null; then
    python3 -m venv "$root/target/peer"
    "$root/target/peer/bin/pip" install -q tiktoken numpy
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root"

echo '== tokenizing, 2 threads, then 1'
cargo build -q --release --workspace --examples
for threads in 2 1; do
    for _ in $(seq "$rounds"); do
        target/release/examples/tokenizer_speed "$text" --threads "$threads" --runs 5
        "$python" data/examples/tokenizer_speed.py "$text" --vocabulary "$data/tokenizer" --threads "$threads" --runs 5
    done
done

echo '== a GPT-2 124M of random weights, as F32'
"$bin/train" --config configs/gpt2-124m.toml --set run.dir="$work/run" --set data.path=builtin \
    --set train.max_steps=1 --set train.eval_windows=1 --set train.sample_tokens=0 --set eval.golden_windows=1 \
    >/dev/null
"$bin/export" --input "$work/run" --output "$work/model-F32.gguf"

echo '== quantizing beside llama.cpp'
for recipe in Q8_0 Q4_0 Q4_K_M; do
    target/release/examples/against_llama "$work/model-F32.gguf" "$recipe"
done

echo '== splitting with both hashes beside sha256sum (seconds, seconds, ratio)'
for _ in $(seq "$rounds"); do
    begin=$(date +%s.%N)
    "$bin/fragment" split --input "$work/model-F32.gguf" --output "$work/pieces" --force >/dev/null
    middle=$(date +%s.%N)
    sha256sum "$work/model-F32.gguf" >/dev/null
    end=$(date +%s.%N)
    awk -v a="$begin" -v b="$middle" -v c="$end" 'BEGIN { printf "%.2f  %.2f  %.2f\n", b - a, c - b, (b - a) / (c - b) }'
done
