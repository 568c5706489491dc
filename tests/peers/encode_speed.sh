#!/usr/bin/env bash
# `data encode` on JSON Lines against Hugging Face's tokenizers: speed, peak memory, and whether both
# give the same tokens.
#
# usage: tests/peers/encode_speed.sh FOLDER_OF_BINARIES [MEGABYTES]
#
# 300 MB are made under target/ from the built-in story. ROUNDS=3 by default: programs take turns, medians
# are printed.
set -euo pipefail

source "$(dirname "$0")/environment.sh"
bin=$(cd "${1:?usage: tests/peers/encode_speed.sh FOLDER_OF_BINARIES [MEGABYTES]}" && pwd)
exec "$python" "$root/tests/peers/encode_speed.py" "$bin/data" "$root/data/src/story.txt" \
    "$root/target/encode-speed" "${2:-300}"
