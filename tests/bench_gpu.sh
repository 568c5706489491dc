#!/usr/bin/env bash
# Training on a GPU beside PyTorch (bf16, compiled, flash attention): the same model and shapes, in turn.
# Prints the median tokens per second of each, the share of the card's arithmetic that they use and
# the most memory that the card held.
#
# usage: tests/bench_gpu.sh FOLDER_OF_BINARIES TEXT [ROUNDS] [BATCH...]    (3 rounds of batch 8 and 32)
#
# The share (model FLOP utilisation, as nanoGPT estimates it: 6 per parameter and token, and 12 per
# layer, channel and position for attention) is of PEAK_TFLOPS, by default 989: dense bf16 on an H100.
#
# needs: train built with --features cuda, python3 with torch for the same card (PYTHON=...), nvidia-smi
set -euo pipefail

usage='usage: tests/bench_gpu.sh FOLDER_OF_BINARIES TEXT [ROUNDS] [BATCH...]'
[ $# -ge 2 ] && [ -x "$1/train" ] && [ -f "$2" ] || { echo "$usage" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "$1" && pwd)
text=$(realpath "$2")
rounds=${3:-3}
shift $(($# < 3 ? $# : 3))
[ $# -gt 0 ] || set -- 8 32
python=${PYTHON:-python3}
"$python" -c 'import torch; assert torch.cuda.is_available()' ||
    { echo 'bench: PyTorch sees no GPU' >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# watched NAME COMMAND...: its output into NAME.json, the card's most memory in MiB into NAME.peak.
watched() {
    local name=$1
    nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 200 >"$work/memory" &
    local watch=$! failed=0
    "${@:2}" >"$work/$name.json" 2>"$work/log" || failed=1
    kill "$watch"
    wait "$watch" 2>/dev/null || true
    [ "$failed" = 0 ] || { echo "bench: failed: ${*:2}" >&2; cat "$work/log" >&2; exit 1; }
    sort -n "$work/memory" | tail -n 1 >"$work/$name.peak"
}

for batch in "$@"; do
    for round in $(seq "$rounds"); do
        watched "peer-$batch-$round" "$python" "$root/tests/peers/train_gpu.py" --batch "$batch"
        watched "ours-$batch-$round" "$bin/train" --config "$root/configs/gpt2-124m.toml" --json \
            --force --set device=cuda --set run.dir="$work/run" --set data.path="$text" \
            --set train.batch_size="$batch" --set train.gradient_accumulation=1 \
            --set train.max_steps=20 --set train.epochs=100 --set train.eval_windows=2 \
            --set train.eval_interval=1000 --set train.checkpoint_interval=1000 \
            --set train.sample_tokens=0 --set eval.golden_windows=1
        rm -rf "$work/run"
        echo "batch $batch: round $round of $rounds done" >&2
    done
done

"$python" - "$work" "$rounds" "${PEAK_TFLOPS:-989}" "$@" <<'PY'
import json, statistics, sys
folder, rounds, peak, *batches = sys.argv[1:]
# 124,439,808 parameters less 1,024 positions; 12 layers of 768 channels over 1,024 positions.
flops = 6 * (124_439_808 - 1024 * 768) + 12 * 12 * 768 * 1024
for batch in batches:
    median = {}
    print(f"{'batch ' + batch:10} {'tokens/s':>9} {'use':>6} {'memory GB':>10}")
    for who in ("peer", "ours"):
        names = [f"{folder}/{who}-{batch}-{i + 1}" for i in range(int(rounds))]
        each = [json.load(open(name + ".json"))["tokens_per_s"] for name in names]
        speed = statistics.median(each)
        memory = statistics.median(int(open(name + ".peak").read()) for name in names) * 2**20 / 1e9
        median[who] = (speed, memory)
        print(f"{who:10} {speed:9.0f} {speed * flops / float(peak) / 1e12:6.1%} {memory:10.2f}   "
              f"{[round(x) for x in each]}")
    print(f"{'ratio':10} {median['ours'][0] / median['peer'][0]:9.2f} {'':6} "
          f"{median['ours'][1] / median['peer'][1]:10.2f}")
PY
