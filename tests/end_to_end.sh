#!/usr/bin/env bash
# The whole pipeline through the real binaries, with a model that trains in seconds: each stage
# alone, then all of them by the one command, then what must fail.
#
# usage: tests/end_to_end.sh FOLDER_OF_BINARIES
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "${1:?usage: tests/end_to_end.sh FOLDER_OF_BINARIES}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
expected=44 # checks below; one that is skipped by mistake is a failure too
passed=0

step() { echo "end-to-end: $1" >&2; }

# check COMMAND...: the command must succeed.
check() {
    "$@" || { echo "failed: $*" >&2; exit 1; }
    passed=$((passed + 1))
}

# stage_is FILE STAGE SKIPPED: the summary in FILE says whether STAGE was skipped.
stage_is() { grep -A6 "\"stage\": \"$2\"" "$1" | grep -q "\"skipped\": $3"; }

# all_skipped FILE: every stage but the last one, which verifies the bundle and always runs.
all_skipped() { [ "$(grep -c '"skipped": true' "$1")" = "$(($(grep -c '"skipped"' "$1") - 1))" ]; }

# fails_with CODE PATTERN COMMAND...: the command must end with CODE and one line like PATTERN.
fails_with() {
    local code=$1 pattern=$2 status=0
    shift 2
    "$@" >out 2>err || status=$?
    if [ "$status" != "$code" ] || ! grep -q -- "$pattern" err; then
        echo "expected exit $code and '$pattern', found exit $status from: $*" >&2
        cat err >&2
        exit 1
    fi
    passed=$((passed + 1))
}

step 'each stage alone'
tiny=$root/configs/tiny.toml
"$bin/train" --config "$tiny" --set run.dir=alone --json >train.json
ckpt=alone/checkpoints/$(cat alone/latest)
for file in config.json model.safetensors tokenizer.json optimizer.safetensors trainer.json golden.safetensors; do
    check test -s "$ckpt/$file"
done
check grep -q '^%PDF' alone/loss.pdf
"$bin/export" --input "$ckpt" --output tiny-F32.gguf
"$bin/export" --input "$ckpt" --to huggingface --output hugging-face
"$bin/quantize" --input tiny-F32.gguf --bits 8 --output tiny-Q8_0.gguf
"$bin/quantize" --input "$ckpt" --bits 4 --output tiny-Q4_K_M.gguf
"$bin/quantize" --input "$ckpt" --target-bits 9 --output tiny-planned.gguf >planned.txt
check grep -q '^search   on' planned.txt
check grep -q 'token_embd.weight' tiny-planned.recipe.toml
"$bin/quantize" --input tiny-F32.gguf --plan tiny-planned.recipe.toml --output tiny-again.gguf
fails_with 2 'give --calibration FILE' "$bin/quantize" --input tiny-F32.gguf --type Q4_0 --search --output no.gguf
"$bin/fragment" split --input tiny-Q8_0.gguf --output pieces --max-bytes 1048576
"$bin/fragment" verify --input pieces
"$bin/fragment" join --input pieces --output joined.gguf
check cmp tiny-Q8_0.gguf joined.gguf
"$bin/eval" --checkpoint "$ckpt" --f32 tiny-F32.gguf --quantized tiny-Q8_0.gguf --quantized tiny-Q4_K_M.gguf \
    --output report.json
for engine in reference llama; do
    "$bin/generate" --model tiny-F32.gguf --engine "$engine" --prompt 'The clock' --greedy --max-tokens 8 >"$engine.txt"
done
check test -s reference.txt
check cmp reference.txt llama.txt
"$bin/generate" --model pieces --prompt 'The clock' --greedy --max-tokens 4 >pieces.txt
check test -s pieces.txt
"$bin/bundle" pack --no-app --license MIT --variant Q8_0=pieces --variant Q4_K_M=tiny-Q4_K_M.gguf --tokenizer "$ckpt/tokenizer.json" \
    --report report.json --prompt 'The' --output pocket
check "$bin/bundle" verify --input pocket
check "$bin/bundle" plan --input "$tiny" >/dev/null

step 'all stages by one command'
run=("$bin/pocketgpt" run --config "$tiny" --set run.dir=runs/tiny)
"${run[@]}" >first.txt
check grep -q '^bundle: runs/tiny/bundle$' first.txt

step 'a second run has nothing to do, a changed setting redoes what depends on it'
"${run[@]}" --json >second.json
check all_skipped second.json
"${run[@]}" --set 'quantize.recipes=["Q8_0"]' --json >third.json
check stage_is third.json 'quantize Q8_0' true
check stage_is third.json bundle false

step 'a setting of training changed: refused, nothing lost, resumed when asked to'
fails_with 2 'resume' "${run[@]}" --set train.max_steps=14
"${run[@]}" --json >fourth.json
check stage_is fourth.json train true
run+=(--set train.max_steps=14)
"${run[@]}" --resume --json >fifth.json
check stage_is fifth.json train false
check grep -q step-000014 runs/tiny/latest

step 'the other families, with a vocabulary of their own'
family() { # family NAME SETTING...
    local name=$1
    shift
    set -- --set model.architecture="$name" --set run.dir="runs/$name" "$@"
    "$bin/pocketgpt" run --config "$tiny" --set data.tokenizer=trained --set data.vocab_size=400 \
        --set 'quantize.recipes=["Q8_0", "Q4_0"]' "$@" >"$name.txt"
    check grep -q "^bundle: runs/$name/bundle$" "$name.txt"
}
family llama --set model.n_kv_head=1 --set model.qkv_bias=false
family qwen2 --set model.n_kv_head=1
family gptneox

step 'LoRA on one of them'
"$bin/pocketgpt" run --config "$tiny" --set model.qkv_bias=false --set train.init_from=runs/llama \
    --set lora.rank=2 --set run.dir=runs/lora >lora.txt
check grep -q '^bundle: runs/lora/bundle$' lora.txt
check test -s "runs/lora/checkpoints/$(cat runs/lora/latest)/adapter/adapter_model.safetensors"

step 'what must fail'
fails_with 1 'mean KL' "${run[@]}" --set eval.gates.mean_kl.Q8_0=0.0
fails_with 1 'mean KL' "$bin/pocketgpt" run --config "$tiny" --set run.dir=gated --set eval.gates.mean_kl.Q8_0=0.0
check test ! -e gated/bundle
printf '[train]\nbatch_size = 2\nbatchsize = 3\n' >typo.toml
fails_with 2 'typo.toml:3: unknown field `batchsize`' "$bin/pocketgpt" run --config typo.toml
fails_with 2 'quantize.recipes = "Q9_0": expected one of' "$bin/pocketgpt" run --config "$tiny" --set run.dir=refused --set 'quantize.recipes=["Q9_0"]'
fails_with 2 'recipes is empty' "$bin/pocketgpt" run --config "$tiny" --set run.dir=refused --set 'quantize.recipes=[]'
check test ! -e refused
mkdir thesis && echo mine >thesis/config.toml
fails_with 2 'no run file' "$bin/pocketgpt" run --config "$tiny" --set run.dir=thesis --force
check test "$(ls -A thesis)" = config.toml
check grep -q mine thesis/config.toml
fails_with 2 'no-such.toml' "$bin/train" --config no-such.toml
head -c 100000 tiny-Q8_0.gguf >short.gguf
fails_with 2 'short.gguf' "$bin/fragment" split --input short.gguf --output short
fails_with 2 'short.gguf' "$bin/generate" --model short.gguf --prompt x
printf 'damage' | dd of="$(ls pieces/*.dat | head -1)" bs=1 seek=1000 conv=notrunc status=none
fails_with 2 '.dat' "$bin/fragment" verify --input pieces
fails_with 2 'force' "$bin/export" --input "$ckpt" --output tiny-F32.gguf

if [ "$passed" != "$expected" ]; then
    echo "expected $expected checks, found $passed: a check was added or lost" >&2
    exit 1
fi
echo "$passed passed, 0 failed"
