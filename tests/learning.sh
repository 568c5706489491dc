#!/usr/bin/env bash
# What fused operations and bf16 do to learning: The Verdict, all ten epochs, from several seeds, by
# plain Burn operations in f32, by fused ones in f32 and in bf16. Prints the losses after the last step
# and fails where one is more than 3 % off that of the plain run with the same seed.
#
# usage: tests/learning.sh FOLDER_OF_BINARIES [SEED...]    (seeds 123, 124 and 125 by default)
#
# Plain runs take most of the time, a quarter of an hour each on two cores. Reports are kept under
# target/learning (LEARNING_RUNS=...) for this very program: a call after one that was stopped goes on
# there.
#
# needs: python3, and the folder with texts/ and tokenizer/ (POCKETGPT_TEST_DATA=..., default
# ../shared/data)
set -euo pipefail

usage='usage: tests/learning.sh FOLDER_OF_BINARIES [SEED...]'
[ $# -ge 1 ] && [ -x "$1/train" ] || { echo "$usage" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- 123 124 125
text=${POCKETGPT_TEST_DATA:-$root/../shared/data}/texts/the-verdict.txt
[ -f "$text" ] || { echo "learning: $text is missing" >&2; exit 2; }
runs=${LEARNING_RUNS:-$root/target/learning}/$(sha256sum "$bin/train" | cut -c1-12)
mkdir -p "$runs"

# run NAME SEED OPTION...: trains, unless that was done; leaves NAME-SEED.json.
run() {
    local run=$runs/$1-$2
    [ ! -f "$run.json" ] || return 0
    echo "learning: $1, seed $2" >&2
    "$bin/train" --config "$root/configs/the-verdict.toml" --json --set run.dir="$run" \
        --set run.seed="$2" --set data.path="$text" --set train.sample_tokens=0 \
        --set eval.golden_windows=1 "${@:3}" >"$run.part"
    mv "$run.part" "$run.json"
    rm -rf "$run" # two gigabytes of weights and moments
}

for seed in "$@"; do
    run bf16 "$seed" --set train.precision=bf16
    run f32 "$seed" --set train.precision=f32
    run plain "$seed" --set train.precision=f32 --set train.kernels=plain
done

python3 - "$runs" "$@" <<'PY'
import json, sys

folder, *seeds = sys.argv[1:]
LIMIT = 0.03
failed = False
print(f"{'seed':>5} {'run':6} {'training':>9} {'off':>7} {'validation':>11} {'off':>7}")
for seed in seeds:
    runs = {name: json.load(open(f"{folder}/{name}-{seed}.json")) for name in ("plain", "f32", "bf16")}
    for name, run in runs.items():
        line = f"{seed:>5} {name:6}"
        for split, width in (("train", 9), ("validation", 11)):
            loss, plain = run["after"][split], runs["plain"]["after"][split]
            off = loss / plain - 1
            failed |= abs(off) > LIMIT
            line += f" {loss:{width}.4f} {off:+7.2%}"
        print(line)
if failed:
    sys.exit(f"learning: a loss is more than {LIMIT:.0%} off the plain run's")
PY
