#!/usr/bin/env bash
# A trained LLaMA of somebody else through every stage that comes after training: from its llama2.c
# file to a verified bundle, with the text that it is known to write at each stop.
#
# usage: tests/stories260k.sh FOLDER_OF_BINARIES
#
# needs: stories260K of the test data (POCKETGPT_TEST_DATA, by default ../shared/data beside the
# project); without it this prints that it is skipped.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "${1:?usage: tests/stories260k.sh FOLDER_OF_BINARIES}" && pwd)
data=${POCKETGPT_TEST_DATA:-$root/../shared/data}
if [ ! -d "$data/stories260K" ]; then
    echo "stories260k skipped: $data/stories260K not found"
    exit 0
fi
data=$(cd "$data/stories260K" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# writes FILE ARGUMENTS...: the model of ARGUMENTS goes on from the first words as FILE does.
writes() {
    local expected=$1
    shift
    "$bin/generate" "$@" --prompt 'Once upon' --greedy --max-tokens 100 >text 2>/dev/null
    if ! head -c "$(($(wc -c <text) - 1))" text | cmp -n 200 - "$expected"; then
        echo "another text than $expected from: generate $*" >&2
        exit 1
    fi
}

"$bin/export" --input "$data/stories260K.bin" --tokenizer "$data/tok512.bin" --output model-F32.gguf
"$bin/export" --input "$data/stories260K.bin" --tokenizer "$data/tok512.bin" --to huggingface --output folder
known=$data/expected-greedy-200.txt
writes "$known" --model folder
writes "$known" --model model-F32.gguf
writes "$known" --model model-F32.gguf --engine llama

"$bin/quantize" --input folder --bits 8 --output model-Q8_0.gguf
"$bin/eval" --f32 model-F32.gguf --quantized model-Q8_0.gguf --tokens-from "$known" --output report.json
"$bin/pocketgpt" eval sweep --base model-F32.gguf --text "$known" --context 64 --threads 1 \
    --base-logits base.kld --markdown sweep.md --plot sweep.pdf model-Q8_0.gguf
grep -q '^| Q8_0 \*' sweep.md
"$bin/fragment" split --input model-Q8_0.gguf --output pieces --max-bytes 100000
"$bin/generate" --model model-Q8_0.gguf --prompt 'Once upon' --greedy --max-tokens 100 >quantized.txt
writes quantized.txt --model pieces
"$bin/bundle" pack --no-app --variant Q8_0=pieces --tokenizer folder/tokenizer.json --report report.json \
    --prompt 'Once upon a time' --name stories260K --license MIT --output pocket
"$bin/bundle" verify --input pocket
echo "stories260k: 1 passed, 0 failed"
