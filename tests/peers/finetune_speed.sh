#!/usr/bin/env bash
# Fine-tuning a real model beside TRL (with peft for LoRA), in turn: the same text, windows, optimizer
# and numbers of steps. Prints tokens/s and the peak of memory of each run, then medians and ratios.
#
# usage: tests/peers/finetune_speed.sh FOLDER_OF_BINARIES MODEL TEXT [ROUNDS] [STEPS] [CASE...]
#
# MODEL is a Hugging Face folder; cases are full-f32 lora-f32 full-bf16 lora-bf16, all by default.
# needs: Python with torch, transformers, datasets, trl and peft (PYTHON=..., python3 by default)
set -euo pipefail

usage='usage: tests/peers/finetune_speed.sh FOLDER_OF_BINARIES MODEL TEXT [ROUNDS] [STEPS] [CASE...]'
[ $# -ge 3 ] && [ -x "$1/train" ] || { echo "$usage" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "$1" && pwd) model=$(cd "$2" && pwd) text=$(realpath "$3")
rounds=${4:-3} steps=${5:-8}
shift $(($# < 5 ? $# : 5))
[ $# -gt 0 ] || set -- full-f32 lora-f32 full-bf16 lora-bf16
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# ours MODE PRECISION: speed and memory of a run of `train`, from its metrics.
ours() {
    local lora=()
    [ "$1" = full ] || lora=(--set lora.rank=16 --set lora.alpha=32)
    cat >"$work/run.toml" <<EOF
[run]
dir = "$work/run"
[data]
path = "$text"
context = 512
stride = 512
[train]
init_from = "$model"
batch_size = 4
max_steps = $steps
precision = "$2"
eval_interval = 100000
eval_windows = 1
checkpoint_interval = 100000
[optimizer]
learning_rate = 1e-4
[eval]
golden_windows = 1
EOF
    rm -rf "$work/run"
    "$bin/train" --config "$work/run.toml" ${lora[@]+"${lora[@]}"} >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    "$python" - "$work/run/metrics.jsonl" <<'EOF'
import json, statistics, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
steps = [line for line in lines if line["step"] > 2]
losses = [line["train_loss"] for line in lines if line["step"] > 0 and "train_loss" in line]
print(json.dumps({"tokens_per_s": statistics.median(line["tokens_per_s"] for line in steps),
                  "peak_bytes": max(line.get("peak_rss_bytes", 0) for line in lines),
                  "first_loss": losses[0], "last_loss": losses[-1]}))
EOF
}

for case in "$@"; do
    for round in $(seq "$rounds"); do
        for program in ours trl; do
            mode=${case%-*} precision=${case#*-}
            if [ $program = ours ]; then
                line=$(ours "$mode" "$precision")
            else
                line=$("$python" "$here/finetune_trl.py" "$model" "$text" "$mode" "$precision" "$steps" 2>"$work/log" | tail -1) ||
                    { tail -20 "$work/log" >&2; exit 1; }
            fi
            echo "$case round $round $program $line" | tee -a "$work/all"
        done
    done
done
"$python" - "$work/all" <<'EOF'
import json, statistics, sys
cases = {}
for line in open(sys.argv[1]):
    case, _, _, program, figures = line.split(" ", 4)
    cases.setdefault(case, {}).setdefault(program, []).append(json.loads(figures))
for case, programs in cases.items():
    middle = {p: {k: statistics.median(f[k] for f in figures) for k in ("tokens_per_s", "peak_bytes")}
              for p, figures in programs.items()}
    a, b = middle["ours"], middle["trl"]
    print(f"{case}: {a['tokens_per_s']:.0f} against {b['tokens_per_s']:.0f} tokens/s, {a['tokens_per_s'] / b['tokens_per_s']:.2f}x; "
          f"{a['peak_bytes'] / 1e9:.2f} against {b['peak_bytes'] / 1e9:.2f} GB, {a['peak_bytes'] / b['peak_bytes']:.2f}x")
EOF
