#!/usr/bin/env bash
# Training beside PyTorch: the same model, text and shapes, in turn, so that a machine whose speed
# drifts treats both alike. Prints one line for each run, then medians and their ratio.
#
# usage: tests/bench_train.sh FOLDER_OF_BINARIES [ROUNDS] [STEPS]
#
# needs: Python with torch and tiktoken (PYTHON=...; by default an environment under target/ is
# made), the peer's script (PEER=..., default ../shared/bench/train_peer.py) and the text
# (TEXT=..., default ../shared/data/texts/the-verdict.txt).
set -euo pipefail

usage='usage: tests/bench_train.sh FOLDER_OF_BINARIES [ROUNDS] [STEPS]'
[ $# -ge 1 ] && [ -x "$1/train" ] || { echo "$usage" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "$1" && pwd)
rounds=${2:-3}
steps=${3:-20}
peer=${PEER:-$root/../shared/bench/train_peer.py}
text=${TEXT:-$root/../shared/data/texts/the-verdict.txt}
context=${CONTEXT:-256}
batch=${BATCH:-2}
for file in "$peer" "$text"; do
    [ -f "$file" ] || { echo "bench: $file is missing" >&2; exit 2; }
done

python=${PYTHON:-$root/target/peer/bin/python}
if [ ! -x "$python" ] && ! command -v "$python" >/dev/null; then
    python3 -m venv "$root/target/peer"
    "$root/target/peer/bin/pip" install -q torch numpy tiktoken
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# logged COMMAND...: what it says goes into a log, which is shown if the command fails.
logged() {
    "$@" 2>"$work/log" || { echo "bench: failed: $*" >&2; cat "$work/log" >&2; exit 1; }
}

# ours PRECISION: one JSON object with tokens_per_s, wall_s and peak_rss_bytes.
ours() {
    logged "$bin/train" --config "$root/configs/the-verdict.toml" --json --set run.dir="$work/run" --force \
        --set data.path="$text" --set train.max_steps="$steps" --set train.precision="$1" \
        --set data.context="$context" --set train.batch_size="$batch" --set train.eval_windows=2 \
        --set train.sample_tokens=0 --set eval.golden_windows=1
    rm -rf "$work/run"
}

for dtype in bf16 f32; do
    for round in $(seq "$rounds"); do
        logged "$python" "$peer" "$text" --dtype "$dtype" --steps "$steps" --context "$context" --batch "$batch" \
            >"$work/peer-$dtype-$round.json"
        ours "$dtype" >"$work/ours-$dtype-$round.json"
        echo "round $round of $rounds in $dtype done" >&2
    done
done

"$python" - "$work" "$rounds" <<'PY'
import json, statistics, sys
folder, rounds = sys.argv[1], int(sys.argv[2])
print(f"{'':6} {'':8} {'tokens/s':>9} {'peak GB':>8} {'wall s':>8}")
for dtype in ("bf16", "f32"):
    median = {}
    for who in ("peer", "ours"):
        runs = [json.load(open(f"{folder}/{who}-{dtype}-{i + 1}.json")) for i in range(rounds)]
        speed = statistics.median(run["tokens_per_s"] for run in runs)
        peak = statistics.median(run["peak_rss_bytes"] for run in runs) / 1e9
        walls = [run["wall_s"] for run in runs if "wall_s" in run]
        wall = f"{statistics.median(walls):8.1f}" if walls else " " * 8
        median[who] = (speed, peak)
        print(f"{dtype:6} {who:8} {speed:9.1f} {peak:8.2f} {wall}   {[round(r['tokens_per_s'], 1) for r in runs]}")
    speed, memory = (median["ours"][i] / median["peer"][i] for i in (0, 1))
    print(f"{dtype:6} ratio    {speed:9.2f} {memory:8.2f}")
PY
