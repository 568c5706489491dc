#!/usr/bin/env bash
# `eval sweep` against llama-perplexity: the same perplexity, divergence and agreement on the same
# files and text.
#
# usage: tests/peers/perplexity.sh FOLDER_OF_BINARIES [MODEL-F32.gguf TEXT CONTEXT [VARIANT.gguf...]]
#
# Without a model: a tiny GPT-2, trained in seconds, on this project's README.md, and the 260K LLaMA
# of the test data on its stories, whose windows begin with a token (skipped by name if missing).
# TOKENS=20000 bounds the text. LLAMA_TOOLS names the folder of llama.cpp's tools; by default they
# are built under target/.
set -euo pipefail

source "$(dirname "$0")/environment.sh"
source "$root/tests/peers/llama_tools.sh"
bin=$(cd "${1:?usage: tests/peers/perplexity.sh FOLDER_OF_BINARIES}" && pwd)
shift
compare=("$python" "$root/tests/peers/perplexity.py" "$bin/eval" "$llama_tools/llama-perplexity")
if [ $# -gt 0 ]; then
    exec "${compare[@]}" "$@"
fi

data=${POCKETGPT_TEST_DATA:-$root/../shared/data}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$bin/train" --config "$root/configs/tiny.toml" --set run.dir="$work/run" --json >/dev/null
"$bin/export" --input "$work/run" --output "$work/tiny-F32.gguf" >/dev/null
passed=1
variants() {
    for recipe in Q8_0 Q4_0; do
        "$bin/quantize" --input "$work/$1-F32.gguf" --type $recipe --output "$work/$1-$recipe.gguf" \
            --json >/dev/null
        echo "$work/$1-$recipe.gguf"
    done
}
"${compare[@]}" "$work/tiny-F32.gguf" "$root/README.md" 64 $(variants tiny)
if [ -d "$data/stories260K" ]; then
    "$bin/export" --input "$data/stories260K/stories260K.bin" \
        --tokenizer "$data/stories260K/tok512.bin" --output "$work/stories-F32.gguf" >/dev/null
    "${compare[@]}" "$work/stories-F32.gguf" "$data/texts/tinystories.txt" 256 $(variants stories)
    passed=2
else
    echo "perplexity of a LLaMA skipped: $data/stories260K not found"
fi
echo "perplexity: $passed passed, 0 failed"
