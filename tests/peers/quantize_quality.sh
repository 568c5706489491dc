#!/usr/bin/env bash
# How near quantized files stay to the original: our search beside llama-quantize with importance
# data of llama-imatrix from the same calibration text, in one table of `eval sweep`.
#
# usage: tests/peers/quantize_quality.sh FOLDER_OF_BINARIES MODEL-F32.gguf CALIBRATION TEXT [RECIPE...]
#
# CALIBRATION and TEXT must not overlap. TOKENS=8192 of TEXT are read, CONTEXT=256 in a window.
# The files stay in OUT (default: a folder that is removed). LLAMA_TOOLS names the folder of
# llama.cpp's tools; by default they are built under target/.
set -euo pipefail

source "$(dirname "$0")/environment.sh"
source "$root/tests/peers/llama_tools.sh"
bin=$(cd "${1:?usage: tests/peers/quantize_quality.sh BINARIES MODEL CALIBRATION TEXT [RECIPE...]}" && pwd)
model=${2:?the F32 file is missing} calibration=${3:?the calibration text is missing}
text=${4:?the text is missing}
shift 4
recipes=("$@")
[ ${#recipes[@]} -gt 0 ] || recipes=(Q4_0 Q4_K_M Q3_K_M Q2_K)
context=${CONTEXT:-256} tokens=${TOKENS:-8192} calibration_tokens=${CALIBRATION_TOKENS:-16384}
out=${OUT:-}
if [ -z "$out" ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi

"$llama_tools/llama-imatrix" -m "$model" -f "$calibration" -o "$out/imatrix.gguf" -c "$context" \
    --chunks $((calibration_tokens / context)) >"$out/imatrix.log" 2>&1
ours=() theirs=()
for recipe in "${recipes[@]}"; do
    "$bin/quantize" --input "$model" --type "$recipe" --search --calibration "$calibration" \
        --calibration-tokens "$calibration_tokens" --output "$out/ours-$recipe.gguf" --force |
        grep -E '^(search|time)'
    "$llama_tools/llama-quantize" --imatrix "$out/imatrix.gguf" "$model" \
        "$out/llama-$recipe.gguf" "$recipe" >"$out/llama-$recipe.log" 2>&1
    ours+=("ours-$recipe=$out/ours-$recipe.gguf")
    theirs+=("llama-$recipe=$out/llama-$recipe.gguf")
done
"$bin/eval" sweep --base "$model" --text "$text" --tokens "$tokens" --context "$context" \
    --no-speed "${ours[@]}" --peer "${theirs[@]}"
