#!/usr/bin/env bash
# Trains tiny models on a graphics adapter, with ndarray and with the CPU's own backend, and compares
# every loss. Where there is no adapter, SwiftShader computes in its place: the software Vulkan
# driver of Debian's chromium.
# usage: tests/wgpu.sh    (the build takes about 20 minutes on two cores)
set -euo pipefail
cd "$(dirname "$0")/.."

driver=/usr/lib/chromium/vk_swiftshader_icd.json
if ! command -v vulkaninfo >/dev/null || ! vulkaninfo --summary >/dev/null 2>&1; then
    if [ ! -f "$driver" ] && command -v apt-get >/dev/null; then
        as_root=
        [ "$(id -u)" = 0 ] || as_root=sudo
        $as_root apt-get update -q >&2
        $as_root apt-get install -y -q chromium libvulkan1 >&2
    fi
    [ -f "$driver" ] || { echo "wgpu: neither an adapter nor $driver" >&2; exit 1; }
    export VK_DRIVER_FILES=$driver
fi
cargo test --release -p pocketgpt-train --features wgpu,ndarray --test main devices:: -- --nocapture
