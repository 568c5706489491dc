#!/usr/bin/env bash
# Builds every fuzz target with the stable compiler and runs each for a while from its corpus.
#
# usage: fuzz/run.sh [TARGET...]     SECONDS_EACH=60 by default; the targets are those of fuzz_targets/
#
# What a target finds is in fuzz/artifacts/TARGET afterwards, and the exit code is 1.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${SECONDS_EACH:-60}
host=$(rustc -vV | sed -n 's/^host: //p')

# What cargo-fuzz passes, without what only a nightly compiler takes: coverage counters and the
# operands of comparisons, which libFuzzer steers by. With --target, build scripts are left out.
flags="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS="$flags ${RUSTFLAGS:-}" cargo build --release --target "$host" --target-dir target --bins

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cd fuzz_targets && ls ./*.rs | sed 's|^\./||; s|\.rs$||')
found=()
for target in "${targets[@]}"; do
    mkdir -p "artifacts/$target" "target/corpus/$target"
    echo "fuzz: $target for $seconds s" >&2
    # New inputs go to the first folder, the seeds of the second are read.
    "target/$host/release/$target" "target/corpus/$target" "corpus/$target" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" 2>"target/$target.log" || found+=("$target")
    grep -E '^stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb)' "target/$target.log" | sed 's/^stat:://' | tr -s ' \n' ' '
    grep -E '^#[0-9]+.*(DONE|cov:)' "target/$target.log" | tail -1
done
if [ ${#found[@]} -gt 0 ]; then
    for target in "${found[@]}"; do
        echo "fuzz: $target failed; its log is fuzz/target/$target.log, its inputs are:" >&2
        ls "artifacts/$target" >&2
    done
    exit 1
fi
