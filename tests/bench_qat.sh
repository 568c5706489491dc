#!/usr/bin/env bash
# What rounding costs: steps of training without it, through some recipes, and with a teacher, in
# turn. Prints the medians of tokens per second and peak memory for each.
#
# usage: tests/bench_qat.sh FOLDER_OF_BINARIES [ROUNDS] [STEPS] [CASE...]    (3 rounds of 12 steps)
#
# cases, all of them by default:
#   30m    6 layers of 256, 30.7M parameters, 8 windows of 256 tokens
#   124m   GPT-124M with a head of its own, 163M parameters, 2 windows of 256 tokens
#   124m-4x1024    the same with 4 windows of 1,024 tokens
#
# RECIPES="Q4_0 Q4_K_M Q8_0"
#
# needs: python3, and the folder with texts/ (POCKETGPT_TEST_DATA=..., default ../shared/data)
set -euo pipefail

usage='usage: tests/bench_qat.sh FOLDER_OF_BINARIES [ROUNDS] [STEPS] [CASE...]'
[ $# -ge 1 ] && [ -x "$1/train" ] || { echo "$usage" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "$1" && pwd)
rounds=${2:-3} steps=${3:-12}
shift $(($# < 3 ? $# : 3))
[ $# -gt 0 ] || set -- 30m 124m 124m-4x1024
recipes=${RECIPES:-Q4_0 Q4_K_M Q8_0}
text=${POCKETGPT_TEST_DATA:-$root/../shared/data}/texts/tinyshakespeare.txt
[ -f "$text" ] || { echo "bench: $text is missing" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
head -c 200000 "$text" >"$work/text.txt"

# train STEPS OPTION...: one JSON object.
train() {
    "$bin/train" --config "$root/configs/the-verdict.toml" --json --force --set run.dir="$work/run" \
        --set data.path="$work/text.txt" --set train.eval_windows=2 --set train.sample_tokens=0 \
        --set eval.golden_windows=1 --set train.max_steps="$1" "${@:2}" 2>"$work/log" ||
        { cat "$work/log" >&2; exit 1; }
}

for case in "$@"; do
    case $case in
    30m) shape=(--set model.n_layer=6 --set model.n_head=8 --set model.n_embd=256
        --set train.batch_size=8 --set data.context=256) ;;
    124m) shape=(--set train.batch_size=2 --set data.context=256) ;;
    124m-4x1024) shape=(--set train.batch_size=4 --set data.context=1024) ;;
    *) echo "bench: no case $case" >&2; exit 2 ;;
    esac
    train 1 "${shape[@]}" >/dev/null
    rm -rf "$work/teacher"
    mv "$work/run" "$work/teacher"
    for round in $(seq "$rounds"); do
        train "$steps" "${shape[@]}" >"$work/none-$round.json"
        for recipe in $recipes; do
            train "$steps" "${shape[@]}" --set train.qat.format="$recipe" --set train.qat.start=0 \
                >"$work/$recipe-$round.json"
        done
        first=${recipes%% *}
        train "$steps" "${shape[@]}" --set train.qat.format="$first" --set train.qat.start=0 \
            --set train.teacher.model="$work/teacher" >"$work/taught-$round.json"
        echo "$case: round $round of $rounds done" >&2
    done
    python3 - "$work" "$case" "$rounds" none $recipes taught <<'PY'
import json, statistics, sys
folder, case, rounds, *rows = sys.argv[1:]
print(f"{case:12} {'tokens/s':>9} {'of none':>8} {'peak GB':>8}")
speeds = {}
for row in rows:
    runs = [json.load(open(f"{folder}/{row}-{i + 1}.json")) for i in range(int(rounds))]
    speed, peak = (statistics.median(r[key] for r in runs) for key in ("tokens_per_s", "peak_rss_bytes"))
    speeds[row] = speed
    each = [round(r["tokens_per_s"], 1) for r in runs]
    print(f"  {row:10} {speed:9.1f} {speed / speeds['none']:8.2f} {peak / 1e9:8.2f}   {each}")
PY
done
