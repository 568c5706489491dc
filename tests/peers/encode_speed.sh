#!/usr/bin/env bash
# `data encode` on JSON Lines against Hugging Face's tokenizers and, where it is installed, datatrove:
# speed, peak memory, and whether all give the same tokens.
#
# usage: tests/peers/encode_speed.sh FOLDER_OF_BINARIES [MEGABYTES] [TOKENIZER] [TEXT...]
#
# 1000 MB are made under target/ from the sentences of the texts, by default those of ../shared/data (or
# $POCKETGPT_TEST_DATA) and the built-in story. TOKENIZER is gpt2 or a folder with a tokenizer.json.
# ROUNDS=3 by default: programs take turns, medians are printed.
set -euo pipefail

source "$(dirname "$0")/environment.sh"
usage="usage: tests/peers/encode_speed.sh FOLDER_OF_BINARIES [MEGABYTES] [TOKENIZER] [TEXT...]"
bin=$(cd "${1:?$usage}" && pwd)
texts=("${@:4}")
if [ ${#texts[@]} = 0 ]; then
    texts=("$root/data/src/story.txt")
    for text in "${POCKETGPT_TEST_DATA:-$root/../shared/data}"/texts/*; do
        [ -f "$text" ] && texts+=("$text")
    done
fi
exec "$python" "$root/tests/peers/encode_speed.py" "$bin/data" "$root/target/encode-speed" \
    "${2:-1000}" "${3:-gpt2}" "${texts[@]}"
