#!/usr/bin/env bash
# What quantization-aware training is worth to a finished run: its model rounded as it is, searched
# for, and trained through the rounding, on the text and by its own predictions, beside as many steps
# without rounding. One table of `eval sweep` against the model before, and one against the unrounded
# weights after.
#
# usage: tests/qat.sh FOLDER_OF_BINARIES RUN TEXT [RECIPE]    (Q4_0 by default)
#
# RUN is a finished run folder, and TEXT one that it has not seen. Batch, context, text and optimizer
# are those of the run, but for:
#   STEPS=400      optimizer steps of each of the three
#   RATE=3e-5      peak learning rate; it falls to 0 on a cosine
#   SET=           more settings for all three, for example "train.batch_size=8 optimizer.beta2=0.99"
#   TOKENS=8192    tokens of TEXT that are read, CONTEXT=256 in a window
#   OUT=           folder for runs, files and tables; by default one that is removed. A call after
#                  one that was stopped goes on there.
set -euo pipefail

usage='usage: tests/qat.sh FOLDER_OF_BINARIES RUN TEXT [RECIPE]'
[ $# -ge 3 ] && [ -x "$1/train" ] && [ -f "$2/config.toml" ] && [ -f "$3" ] || {
    echo "$usage" >&2
    exit 2
}
bin=$(cd "$1" && pwd)
base=$(cd "$2" && pwd)
text=$3
recipe=${4:-Q4_0}
steps=${STEPS:-400} rate=${RATE:-3e-5}
out=${OUT:-}
if [ -z "$out" ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"

settings=()
for setting in ${SET:-}; do
    settings+=(--set "$setting")
done

# tune NAME OPTION...: goes on from the run for some steps, and exports; leaves NAME-F32.gguf.
tune() {
    local name=$1
    shift
    [ ! -f "$out/$name-F32.gguf" ] || return 0
    echo "qat: $name" >&2
    "$bin/train" --config "$base/config.toml" --set run.dir="$out/$name" \
        --set train.init_from="$base" --set data.tokenizer=gpt2 --set model.dropout=0.0 \
        --set train.max_steps="$steps" --set train.epochs=1000000 \
        --set train.eval_interval="$steps" --set train.checkpoint_interval="$steps" \
        --set train.keep_checkpoints=1 --set train.sample_tokens=0 \
        --set optimizer.learning_rate="$rate" --set optimizer.weight_decay=0.0 \
        --set schedule.kind=cosine --set schedule.warmup_steps=$((steps / 20)) \
        --set schedule.min_learning_rate=0.0 "${settings[@]}" "$@" |
        grep -E '^(training|validation) loss|^speed|^peak' >&2
    "$bin/export" --input "$out/$name" --output "$out/$name-F32.gguf" --force >/dev/null
    rm -rf "${out:?}/$name"
}

# quantized NAME TYPE OPTION...: leaves NAME-TYPE.gguf.
quantized() {
    "$bin/quantize" --input "$out/$1-F32.gguf" --type "$2" --output "$out/$1-$2.gguf" --force \
        "${@:3}" >/dev/null
}

[ -f "$out/before-F32.gguf" ] ||
    "$bin/export" --input "$base" --output "$out/before-F32.gguf" --force >/dev/null
tune longer
tune text --set train.qat.format="$recipe"
tune taught --set train.qat.format="$recipe" --set train.teacher.model="$base"
quantized before Q8_0
for name in before longer text taught; do
    quantized "$name" "$recipe"
done

# sweep NAME BASE VARIANT...
sweep() {
    "$bin/eval" sweep --engine reference --no-speed --base "$2" --text "$text" \
        --tokens "${TOKENS:-8192}" --context "${CONTEXT:-256}" --output "$out/$1.json" --force "${@:3}"
}
echo "against the model before:"
sweep before "$out/before-F32.gguf" before-Q8_0="$out/before-Q8_0.gguf" \
    "before-$recipe=$out/before-$recipe.gguf" "text-$recipe=$out/text-$recipe.gguf" \
    "taught-$recipe=$out/taught-$recipe.gguf" "longer-$recipe=$out/longer-$recipe.gguf" \
    longer-F32="$out/longer-F32.gguf" text-F32="$out/text-F32.gguf" taught-F32="$out/taught-F32.gguf"
for name in text taught; do
    echo "against the unrounded weights, $name:"
    sweep "$name" "$out/$name-F32.gguf" "$name-$recipe=$out/$name-$recipe.gguf"
done
