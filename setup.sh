#!/bin/sh
# Installs what the build needs and is missing: cargo is asked for, cmake, a C++ compiler and
# libclang (llama.cpp is compiled from source and its header is read by bindgen) are installed.
# Where there is Node.js, the web chat is built too. Running it again changes nothing.
set -eu
cd "$(dirname "$0")"

fail() {
    echo "setup: $1" >&2
    exit 1
}

have_libclang() {
    ldconfig -p 2>/dev/null | grep -q 'libclang[-.]' ||
        ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1 ||
        [ -n "${LIBCLANG_PATH:-}" ] || [ "$(uname)" = Darwin ]
}

has_node() {
    command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)'
}

# The web chat is newer than everything it is made of.
app_is_built() {
    [ -f bundle/app/dist/index.html ] &&
        [ -z "$(find bundle/app -path '*/node_modules' -prune -o -path '*/dist' -prune -o \
            -type f -newer bundle/app/dist/index.html -print | head -n 1)" ]
}

build_app() {
    app_is_built && return
    if ! has_node; then
        echo 'setup: no Node.js 20 or newer: bundles will have no web chat' >&2
        return
    fi
    echo 'setup: building the web chat' >&2
    (cd bundle/app && npm ci --no-audit --no-fund && npm run build) >&2
}

command -v cargo >/dev/null || fail 'cargo is missing: install Rust 1.95 or newer from https://rustup.rs'

missing=
command -v cmake >/dev/null || missing="$missing cmake"
command -v c++ >/dev/null || missing="$missing c++"
have_libclang || missing="$missing libclang"
if [ -z "$missing" ]; then
    build_app
    exit 0
fi

echo "setup: installing$missing" >&2
if command -v apt-get >/dev/null; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -q >&2
    $as_root apt-get install -y -q cmake g++ libclang-dev >&2
elif command -v dnf >/dev/null; then
    sudo dnf install -y cmake gcc-c++ clang-devel >&2
elif command -v pacman >/dev/null; then
    sudo pacman -S --needed --noconfirm cmake gcc clang >&2
elif command -v brew >/dev/null; then
    brew install cmake >&2
else
    fail "please install$missing with this system's package manager"
fi
build_app
