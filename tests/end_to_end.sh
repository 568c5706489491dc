#!/usr/bin/env bash
# The whole pipeline through the real binaries, with a model that trains in seconds: each stage
# alone, then all of them by the one command, then what must fail.
#
# usage: tests/end_to_end.sh FOLDER_OF_BINARIES
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
passed=0

step() { echo "end-to-end: $1" >&2; }
ok() { passed=$((passed + 1)); }

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
    ok
}

step 'each stage alone'
tiny=$root/configs/tiny.toml
"$bin/train" --config "$tiny" --set run.dir=alone --json >train.json
ckpt=alone/checkpoints/$(cat alone/latest)
for file in config.json model.safetensors tokenizer.json optimizer.safetensors trainer.json golden.safetensors; do
    [ -s "$ckpt/$file" ] || { echo "missing $ckpt/$file" >&2; exit 1; }
done
head -c 4 alone/loss.pdf | grep -q '%PDF' && ok
"$bin/export" --input "$ckpt" --output tiny-F32.gguf
"$bin/export" --input "$ckpt" --to huggingface --output hugging-face
"$bin/quantize" --input tiny-F32.gguf --bits 8 --output tiny-Q8_0.gguf
"$bin/quantize" --input "$ckpt" --bits 4 --output tiny-Q4_K_M.gguf
"$bin/fragment" split --input tiny-Q8_0.gguf --output pieces --max-bytes 1048576
"$bin/fragment" verify --input pieces
"$bin/fragment" join --input pieces --output joined.gguf
cmp tiny-Q8_0.gguf joined.gguf && ok
"$bin/eval" --checkpoint "$ckpt" --f32 tiny-F32.gguf --quantized tiny-Q8_0.gguf --quantized tiny-Q4_K_M.gguf \
    --output report.json
for engine in reference llama; do
    "$bin/generate" --model tiny-F32.gguf --engine "$engine" --prompt 'The clock' --greedy --max-tokens 8 >"$engine.txt"
done
cmp reference.txt llama.txt && ok
"$bin/generate" --model pieces --prompt 'The clock' --greedy --max-tokens 4 >/dev/null && ok
"$bin/bundle" pack --variant Q8_0=pieces --variant Q4_K_M=tiny-Q4_K_M.gguf --tokenizer "$ckpt/tokenizer.json" \
    --report report.json --prompt 'The' --output pocket
"$bin/bundle" verify --input pocket && ok
"$bin/bundle" plan --input "$tiny" >/dev/null && ok

step 'all stages by one command'
run=("$bin/pocketgpt" run --config "$tiny" --set run.dir=runs/tiny)
"${run[@]}" >first.txt
grep -q '^bundle: runs/tiny/bundle$' first.txt && ok

step 'a second run has nothing to do, a changed setting redoes what depends on it'
"${run[@]}" --json >second.json
[ "$(grep -c '"skipped": true' second.json)" = "$(($(grep -c '"skipped"' second.json) - 1))" ] && ok
"${run[@]}" --set 'quantize.recipes=["Q8_0"]' --json >third.json
grep -A6 '"stage": "quantize Q8_0"' third.json | grep -q '"skipped": true' && ok
grep -A6 '"stage": "bundle"' third.json | grep -q '"skipped": false' && ok

step 'what must fail'
fails_with 1 'mean KL' "${run[@]}" --set eval.gates.mean_kl.Q8_0=0.0 --set run.dir=runs/tiny
rm -rf gated
fails_with 1 'mean KL' "$bin/pocketgpt" run --config "$tiny" --set run.dir=gated --set eval.gates.mean_kl.Q8_0=0.0
[ ! -e gated/bundle ] && ok
printf '[train]\nbatch_size = 2\nbatchsize = 3\n' >typo.toml
fails_with 2 'typo.toml:3: unknown field `batchsize`' "$bin/pocketgpt" run --config typo.toml
fails_with 2 'no-such.toml' "$bin/train" --config no-such.toml
head -c 100000 tiny-Q8_0.gguf >short.gguf
fails_with 2 'short.gguf' "$bin/fragment" split --input short.gguf --output short
fails_with 2 'short.gguf' "$bin/generate" --model short.gguf --prompt x
printf 'damage' | dd of="$(ls pieces/*.dat | head -1)" bs=1 seek=1000 conv=notrunc status=none
fails_with 2 '.dat' "$bin/fragment" verify --input pieces
fails_with 2 'force' "$bin/export" --input "$ckpt" --output tiny-F32.gguf

echo "$passed passed, 0 failed"
