#!/usr/bin/env bash
# Training beside PyTorch: the same model, text and shapes, in turn, so that a machine whose speed
# drifts treats both alike. Prints one line for each program, then the ratios and the share of the
# limit that this machine's matrix products set.
#
# usage: tests/bench_train.sh FOLDER_OF_BINARIES [ROUNDS] [STEPS] [CASE...]
#
# cases, all of them by default:
#   bf16, f32     GPT-124M, 2 windows of 256 tokens
#   verdict       the same in bf16, all ten epochs (90 steps): wall time
#   context-1024  GPT-124M in bf16, 4 windows of 1,024 tokens
#   30m           6 layers of 256, 30.7M parameters, in bf16, 8 windows of 256 tokens
#   threads       GPT-124M in bf16, one thread
#
# The peer's wall time is that of its steps; ours has validation and checkpoints in it.
#
# needs: Python with torch and tiktoken (PYTHON=...; by default an environment under target/ is
# made), the peer's script (PEER=..., default ../shared/bench/train_peer.py) and the folder with
# texts/ and tokenizer/ (POCKETGPT_TEST_DATA=..., default ../shared/data). The share of the limit is
# printed if FOLDER_OF_BINARIES/examples/products exists:
#   cargo build --release --workspace --examples
set -euo pipefail

usage='usage: tests/bench_train.sh FOLDER_OF_BINARIES [ROUNDS] [STEPS] [CASE...]'
[ $# -ge 1 ] && [ -x "$1/train" ] || { echo "$usage" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "$1" && pwd)
rounds=${2:-3}
steps=${3:-20}
shift $(($# < 3 ? $# : 3))
[ $# -gt 0 ] || set -- bf16 f32 verdict context-1024 30m threads
peer=${PEER:-$root/../shared/bench/train_peer.py}
data=$(cd "${POCKETGPT_TEST_DATA:-$root/../shared/data}" && pwd)
for file in "$peer" "$data/texts/the-verdict.txt" "$data/texts/tinyshakespeare.txt" "$data/tokenizer/vocab.bpe"; do
    [ -f "$file" ] || { echo "bench: $file is missing" >&2; exit 2; }
done

python=${PYTHON:-$root/target/peer/bin/python}
if [ ! -x "$python" ] && ! command -v "$python" >/dev/null; then
    python3 -m venv "$root/target/peer"
    "$root/target/peer/bin/pip" install -q torch numpy tiktoken
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
verdict=$data/texts/the-verdict.txt
# The peer looks at every window before and after, so the longer text is short; it wants the
# tokenizer beside the text's folder.
mkdir "$work/texts"
ln -s "$data/tokenizer" "$work/tokenizer"
short=$work/texts/short.txt
head -c 60000 "$data/texts/tinyshakespeare.txt" >"$short"
# The peer's size is a line of constants.
small_peer=$work/small_peer.py
sed 's/^V, D, H, L, P = .*/V, D, H, L, P = 50257, 256, 8, 6, 1024/' "$peer" >"$small_peer"
grep -q '^V, D, H, L, P = 50257, 256, 8, 6, 1024$' "$small_peer" ||
    { echo "bench: the sizes in $peer are not where this script changes them" >&2; exit 2; }

# logged COMMAND...: what it says goes into a log, which is shown if the command fails.
logged() {
    "$@" 2>"$work/log" || { echo "bench: failed: $*" >&2; cat "$work/log" >&2; exit 1; }
}

# ours TEXT PRECISION STEPS CONTEXT BATCH THREADS [OPTION...]: one JSON object with tokens_per_s,
# wall_s and peak_rss_bytes. No threads or no steps: as many as there are.
ours() {
    local limits=()
    [ "$3" = 0 ] || limits=(--set train.max_steps="$3")
    RAYON_NUM_THREADS=$6 logged "$bin/train" --config "$root/configs/the-verdict.toml" --json \
        --force --set run.dir="$work/run" --set data.path="$1" --set train.precision="$2" \
        --set data.context="$4" --set train.batch_size="$5" --set train.eval_windows=2 \
        --set train.sample_tokens=0 --set eval.golden_windows=1 "${limits[@]}" "${@:7}"
    rm -rf "$work/run"
}

# pair CASE ROUNDS SCRIPT TEXT PRECISION STEPS CONTEXT BATCH THREADS [OPTION...]
pair() {
    local case=$1 rounds=$2 script=$3 text=$4 precision=$5 steps=$6 context=$7 batch=$8 threads=$9
    for round in $(seq "$rounds"); do
        logged "$python" "$script" "$text" --dtype "$precision" --steps "$steps" \
            --context "$context" --batch "$batch" --threads "$threads" \
            >"$work/peer-$case-$round.json"
        ours "$text" "$precision" "$steps" "$context" "$batch" "$threads" "${@:10}" \
            >"$work/ours-$case-$round.json"
        echo "$case: round $round of $rounds done" >&2
    done
}

# limit CHANNELS LAYERS TOKENS: lines that say how many tokens/s matrix products alone would allow.
limit() {
    [ -x "$bin/examples/products" ] || return 0
    logged "$bin/examples/products" "$1" "$2" 50257 "$3" | grep limit
}

# summary CASE ROUNDS PRECISION THREADS LIMITS
summary() {
    "$python" - "$work" "$@" <<'PY'
import json, os, statistics, sys
folder, case, rounds, precision, threads, limits = sys.argv[1:]
threads = int(threads) or os.cpu_count()
median = {}
print(f"{case:12} {'':8} {'tokens/s':>9} {'peak GB':>8} {'wall s':>8}")
for who in ("peer", "ours"):
    runs = [json.load(open(f"{folder}/{who}-{case}-{i + 1}.json")) for i in range(int(rounds))]
    keys = ("tokens_per_s", "peak_rss_bytes", "wall_s")
    median[who] = [statistics.median(run[key] for run in runs) for key in keys]
    speed, peak, wall = median[who]
    each = [round(run["tokens_per_s"], 1) for run in runs]
    print(f"{'':12} {who:8} {speed:9.1f} {peak / 1e9:8.2f} {wall:8.1f}   {each}")
speed, peak, wall = (ours / peer for ours, peer in zip(median["ours"], median["peer"]))
print(f"{'':12} {'ratio':8} {speed:9.2f} {peak:8.2f} {wall:8.2f}")
for line in limits.splitlines():
    name, _, count, _, _, most = line.split()
    if (name, int(count)) == (precision, threads):
        share = median["ours"][0] / float(most)
        print(f"{'':12} {'limit':8} {float(most):9.0f} tokens/s by products alone; ours is {share:.0%} of it")
PY
}

small=(--set model.n_layer=6 --set model.n_head=8 --set model.n_embd=256)
for case in "$@"; do
    case $case in
    bf16 | f32)
        pair "$case" "$rounds" "$peer" "$verdict" "$case" "$steps" 256 2 0
        summary "$case" "$rounds" "$case" 0 "$(limit 768 12 512)" ;;
    verdict)
        pair verdict 1 "$peer" "$verdict" bf16 0 256 2 0
        summary verdict 1 bf16 0 "$(limit 768 12 512)" ;;
    context-1024)
        pair "$case" "$rounds" "$peer" "$short" bf16 "$steps" 1024 4 0
        summary "$case" "$rounds" bf16 0 "$(limit 768 12 4096)" ;;
    30m)
        pair 30m "$rounds" "$small_peer" "$short" bf16 "$steps" 256 8 0 "${small[@]}"
        summary 30m "$rounds" bf16 0 "$(limit 256 6 2048)" ;;
    threads)
        pair threads "$rounds" "$peer" "$verdict" bf16 "$steps" 256 2 1
        summary threads "$rounds" bf16 1 "$(limit 768 12 512)" ;;
    *)
        echo "bench: no case $case" >&2
        exit 2 ;;
    esac
done
