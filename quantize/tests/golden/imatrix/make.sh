#!/usr/bin/env bash
# Writes stories260K.gguf and stories260K.dat: importance data of llama-imatrix in both formats.
#
# usage: make.sh MODEL.gguf TEXT     (llama-imatrix in the PATH; MODEL is stories260K.bin as F32,
#                                     TEXT the first 20,000 bytes of tinystories.txt)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
model=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$2" "$work/text.txt"
cd "$work"
for format in gguf dat; do
    llama-imatrix -m "$model" -f text.txt -o "$here/stories260K.$format" --output-format "$format" \
        -c 512 -b 512 --chunks 4 --no-ppl
done
