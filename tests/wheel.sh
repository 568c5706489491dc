#!/usr/bin/env bash
# Builds the wheel, installs it into an empty environment and takes the tiny run file to a bundle there.
#
# usage: tests/wheel.sh      needs Python with venv and pip; the packages it installs lie in target/wheel
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
rm -rf target/wheel
mkdir -p target/wheel/work
python3 -m venv target/wheel/build
target/wheel/build/bin/pip install -q 'maturin>=1.9,<2'
target/wheel/build/bin/maturin build -q --release --compatibility linux \
    --manifest-path pocketgpt/Cargo.toml --out target/wheel/dist
wheel=$(ls target/wheel/dist/pocketgpt-*.whl)
echo "wheel: $(basename "$wheel"), $(($(stat -c %s "$wheel") >> 20)) MiB" >&2

python3 -m venv target/wheel/user
started=$(date +%s%N)
target/wheel/user/bin/pip install -q "$wheel"
# Nothing of this checkout is on the path of the user.
cd target/wheel/work
env -i HOME="$PWD" PATH="$root/target/wheel/user/bin:/usr/bin:/bin" bash -euc '
    pocketgpt --version
    pocketgpt links "$HOME/bin"  2>/dev/null && exit 1   # a folder that does not exist is refused
    mkdir bin && pocketgpt links "$HOME/bin"
    bin/train --help >/dev/null
    pocketgpt run --config "$0"
    pocketgpt bundle verify --input runs/tiny/bundle' "$root/configs/tiny.toml"
echo "wheel: installed, run and verified in $((($(date +%s%N) - started) / 1000000)) ms" >&2
