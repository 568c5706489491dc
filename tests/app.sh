#!/usr/bin/env bash
# Trains a model that is small enough to wait for, packs it, and drives the web chat of that bundle
# in a real browser.
# usage: tests/app.sh FOLDER_OF_THE_PROGRAMS
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$1
if ! command -v npm >/dev/null || [ "$(node -p 'parseInt(process.versions.node)')" -lt 20 ]; then
    echo 'tests/app skipped: Node.js 20 or newer not found' >&2
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$bin/pocketgpt" run --config configs/tiny.toml --set "run.dir=$work/run" >&2
"$bin/bundle" verify --input "$work/run/bundle"
tests/app/run.sh "$work/run/bundle"
