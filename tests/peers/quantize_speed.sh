#!/usr/bin/env bash
# The time and memory of `quantize` (without a search) beside llama-quantize with as many threads,
# in turn: the wall time of the whole process, its peak memory, and the medians' ratio.
#
# usage: tests/peers/quantize_speed.sh FOLDER_OF_BINARIES MODEL-F32.gguf [PAIRS] [RECIPE...]
#
# LLAMA_TOOLS names the folder of llama.cpp's tools; by default they are built under target/.
set -euo pipefail

source "$(dirname "$0")/environment.sh"
source "$root/tests/peers/llama_tools.sh"
bin=$(cd "${1:?usage: tests/peers/quantize_speed.sh BINARIES MODEL [PAIRS] [RECIPE...]}" && pwd)
model=${2:?the F32 file is missing} pairs=${3:-3}
shift $(($# < 3 ? $# : 3))
recipes=("$@")
[ ${#recipes[@]} -gt 0 ] || recipes=(Q8_0 Q4_0 Q4_K_M Q2_K Q3_K_M Q5_K_M Q6_K IQ4_NL IQ4_XS)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

exec "$python" - "$bin/quantize" "$llama_tools/llama-quantize" "$model" "$pairs" "$out" "${recipes[@]}" <<'PY'
import os, statistics, subprocess, sys, time

ours, theirs, model, pairs, out, *recipes = sys.argv[1:]
threads = str(os.cpu_count())

def run(command):
    """Wall seconds and peak resident bytes of a process."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command}: exit code {process.returncode}"
    return time.monotonic() - start, usage.ru_maxrss * 1024

print("| recipe | ours s | llama-quantize s | ratio | ours MB | llama-quantize MB |")
print("|---|---|---|---|---|---|")
for recipe in recipes:
    a, b = [], []
    for _ in range(int(pairs)):
        a.append(run([ours, "--input", model, "--type", recipe, "--output", f"{out}/a.gguf", "--force"]))
        b.append(run([theirs, model, f"{out}/b.gguf", recipe, threads]))
    seconds = [statistics.median(time for time, _ in runs) for runs in (a, b)]
    peak = [max(memory for _, memory in runs) / 1e6 for runs in (a, b)]
    times = ", ".join(f"{time:.2f}" for time, _ in a), ", ".join(f"{time:.2f}" for time, _ in b)
    print(f"| {recipe} | {times[0]} | {times[1]} | {seconds[1] / seconds[0]:.1f} | {peak[0]:.0f} | {peak[1]:.0f} |", flush=True)
PY
