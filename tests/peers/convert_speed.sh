#!/usr/bin/env bash
# Our export against llama.cpp's convert_hf_to_gguf.py on large folders with random weights: time,
# peak memory, and whether both wrote the same tensors.
#
# usage: tests/peers/convert_speed.sh FOLDER_OF_BINARIES [MODEL...]
#
# MODEL is gpt2-124m or tinyllama-1.1b; both by default (12 GB of disk under target/, and some
# minutes). ROUNDS=3 by default: programs take turns, medians are printed.
#
# convert_hf_to_gguf.py comes from the source package of llama-cpp-python, which is downloaded and
# unpacked, not built.
set -euo pipefail

source "$(dirname "$0")/environment.sh"
bin=$(cd "${1:?usage: tests/peers/convert_speed.sh FOLDER_OF_BINARIES [MODEL...]}" && pwd)
shift
peer=$root/target/convert-peer
if [ ! -f "$peer/convert_hf_to_gguf.py" ]; then
    rm -rf "$peer" "$peer.part"
    mkdir -p "$peer.part"
    "$python" -m pip install -q scikit-build-core sentencepiece
    "$python" -m pip download -q --no-deps --no-binary :all: --no-build-isolation \
        -d "$peer.part" llama-cpp-python==0.3.34
    tar xzf "$peer.part"/*.tar.gz -C "$peer.part" --strip-components 1
    mv "$peer.part/vendor/llama.cpp" "$peer"
    rm -rf "$peer.part"
fi
exec "$python" "$root/tests/peers/convert_speed.py" "$bin/export" "$peer/convert_hf_to_gguf.py" \
    "$root/target/convert-speed" "$@"
