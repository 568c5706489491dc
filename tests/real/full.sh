#!/usr/bin/env bash
# Everything that a person does with a Hugging Face folder, on a real model: to a GGUF, into every
# recipe (the bytes must be llama-quantize's), searched beside importance data of llama-imatrix in
# one table, answers in three engines, LoRA steps, a bundle that is verified.
#
# usage: tests/real/full.sh FOLDER_OF_BINARIES [OUT]
#
# needs: what tests/real/short.sh needs; wiki.test.raw in texts/ of the test data
# (POCKETGPT_TEST_DATA, by default ../shared/data); llama.cpp's tools (LLAMA_TOOLS names their
# folder, otherwise they are built). Hours on two cores. OUT keeps the files.
set -euo pipefail

bin=$(cd "${1:?usage: tests/real/full.sh FOLDER_OF_BINARIES [OUT]}" && pwd)
out=${2:-}
"$(dirname "$0")/short.sh" "$bin"
source "$(dirname "$0")/prepare.sh"
source "$root/tests/peers/llama_tools.sh"
wiki=${POCKETGPT_TEST_DATA:-$root/../shared/data}/texts/wiki.test.raw
if [ ! -f "$wiki" ]; then
    echo "real model: full form skipped: $wiki not found"
    exit 0
fi
wiki=$(cd "$(dirname "$wiki")" && pwd)/wiki.test.raw
if [ -z "$out" ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"
cd "$out"
passed=0
step() { echo "real model: $1" >&2; }

head -c 60000 "$wiki" >calibration.txt
tail -c 60000 "$wiki" >text.txt

# quality MODEL-F32.gguf NAME: searched files beside those of llama-quantize with the importance
# data of llama-imatrix, from the same calibration text.
quality() {
    local model=$1 name=$2 recipe labels=()
    "$llama_tools/llama-imatrix" -m "$model" -f calibration.txt -o "$name.imatrix.gguf" -c 512 >"$name.imatrix.log" 2>&1
    for recipe in Q4_K_M Q4_0 IQ4_XS Q3_K_M Q2_K; do
        "$llama_tools/llama-quantize" --imatrix "$name.imatrix.gguf" "$model" "$name-llama-$recipe.gguf" "$recipe" \
            >"$name-llama-$recipe.log" 2>&1
        "$bin/quantize" --input "$model" --type "$recipe" --imatrix "$name.imatrix.gguf" \
            --output "$name-plain-$recipe.gguf" --force >/dev/null
        cmp -s "$name-llama-$recipe.gguf" "$name-plain-$recipe.gguf" || same_tensors "$name-llama-$recipe.gguf" "$name-plain-$recipe.gguf"
        passed=$((passed + 1))
        "$bin/quantize" --input "$model" --type "$recipe" --search --calibration calibration.txt \
            --output "$name-search-$recipe.gguf" --force | tee "$name-search-$recipe.txt"
        labels+=("llama-$recipe=$name-llama-$recipe.gguf" "search-$recipe=$name-search-$recipe.gguf")
    done
    "$bin/eval" sweep --base "$model" --text text.txt --tokens 6144 --context 512 --no-speed --force \
        --markdown "$name.md" "${labels[@]}"
}

# same_tensors A B: every tensor of two GGUFs has the same type and bytes (their metadata differ in
# what llama-quantize records of the importance data).
same_tensors() {
    "$python" - "$1" "$2" <<'PY'
import sys
import gguf
a, b = ({t.name: t for t in gguf.GGUFReader(path).tensors} for path in sys.argv[1:])
different = [name for name in a.keys() | b.keys() if name not in a or name not in b
             or a[name].tensor_type != b[name].tensor_type or (a[name].data != b[name].data).any()]
sys.exit(f"tensors that differ from llama-quantize's: {different[:5]}" if different else 0)
PY
}

step 'every recipe, byte for byte'
"$bin/export" --input "$real" --output f32.gguf --force
for recipe in Q8_0 Q6_K Q5_1 Q5_K_M Q5_K_S Q5_0 Q4_1 Q4_K_S IQ4_NL Q3_K_L Q3_K_S; do
    "$llama_tools/llama-quantize" f32.gguf "llama-$recipe.gguf" "$recipe" >"llama-$recipe.log" 2>&1
    "$bin/quantize" --input f32.gguf --type "$recipe" --output "ours-$recipe.gguf" --force >/dev/null
    cmp -s "llama-$recipe.gguf" "ours-$recipe.gguf" || same_tensors "llama-$recipe.gguf" "ours-$recipe.gguf"
    rm -f "llama-$recipe.gguf" "ours-$recipe.gguf"
    passed=$((passed + 1))
done

step 'the search beside importance data'
quality f32.gguf as-published

step 'the search on weights that lie on no grid'
"$python" "$root/tests/real/off_grid.py" "$real" off-grid
"$bin/export" --input off-grid --output off-grid-f32.gguf --force
"$bin/eval" sweep --base f32.gguf --text text.txt --tokens 2048 --context 512 --no-speed --json --force \
    same=off-grid-f32.gguf >same.json
"$python" -c 'import json; kl = json.load(open("same.json"))["rows"][-1]["quality"]["kl"]["mean"]
assert kl < 1e-6, f"the model off its grid is another one: mean KL {kl}"'
passed=$((passed + 1))
quality off-grid-f32.gguf off-grid

step 'training goes on: LoRA, then all weights'
cat >train.toml <<TOML
[run]
dir = "run"
[data]
path = "$wiki"
context = 256
train_fraction = 0.95
[train]
init_from = "$real"
batch_size = 2
epochs = 1
max_steps = 4
eval_interval = 2
eval_windows = 2
sample_prompt = "The river"
sample_tokens = 8
[optimizer]
learning_rate = 2e-5
weight_decay = 0.0
TOML
"$bin/train" --config train.toml --set run.dir=lora --set 'lora={ rank = 8, alpha = 16.0 }' --force >/dev/null
"$bin/train" --config train.toml --set run.dir=tuned --force >/dev/null
"$bin/export" --input tuned --output tuned-f32.gguf --force
"$bin/eval" --checkpoint tuned --f32 tuned-f32.gguf
passed=$((passed + 2))

step 'a bundle'
"$bin/fragment" split --input as-published-search-Q4_K_M.gguf --output pieces --force
"$bin/eval" --f32 f32.gguf --quantized as-published-search-Q4_K_M.gguf --tokens-from text.txt --context 512 \
    --output report.json --force
"$bin/bundle" pack --variant Q4_K_M=pieces --tokenizer "$real/tokenizer.json" --report report.json \
    --prompt 'The capital of France is' --name SmolLM2 --license Apache-2.0 --output pocket --force
"$bin/bundle" verify --input pocket
passed=$((passed + 1))
echo "real model, full form: $passed passed, 0 failed"
