#!/usr/bin/env bash
# Runs the tests of the crates whose unsafe blocks read or write memory (kernels, block formats, the
# reference pass, the search, mapped files) under AddressSanitizer: an access outside of a buffer, or
# after its end, fails the test that made it.
#
# usage: tests/sanitizers.sh    (the first build takes about 15 minutes on two cores)
#
# Miri cannot run these: it knows neither the vector instructions of the kernels nor mapped files. The
# allocator of training is left out, because its buffers are mappings that the sanitizer does not
# see; its own test fills every buffer and reads it back.
#
# The flag is not stable yet; RUSTC_BOOTSTRAP lets the stable compiler take it.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS='-Zsanitizer=address'
# Leaks are not what is looked for: threads of pools live until the process ends.
export ASAN_OPTIONS=detect_leaks=0
cargo test --release --target "$target" --target-dir target/sanitizers --lib --tests \
    -p pocketgpt-data -p pocketgpt-eval -p pocketgpt-gguf -p pocketgpt-kernels -p pocketgpt-quantize -p pocketgpt-reference "$@"
