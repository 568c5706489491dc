#!/usr/bin/env bash
# Builds the web chat and drives it in a real browser with a real bundle.
#
# usage: tests/app/run.sh BUNDLE_FOLDER
#
# POCKETGPT_SCREENSHOTS=FOLDER keeps pictures; POCKETGPT_CHROMIUM=PATH names the browser.
set -euo pipefail

bundle=$(cd "${1:?usage: tests/app/run.sh BUNDLE_FOLDER}" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
app=$here/../../bundle/app

find_chromium() {
    command -v chromium || command -v chromium-browser || command -v google-chrome || true
}

chromium=${POCKETGPT_CHROMIUM:-$(find_chromium)}
if [ -z "$chromium" ] && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >&2
    chromium=$(find_chromium)
fi
if [ -z "$chromium" ]; then
    echo "tests/app: no Chromium found: install it, or name it in POCKETGPT_CHROMIUM" >&2
    exit 2
fi

# install FOLDER: what its lock file says, unless that is there already.
install() {
    if ! [ "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ]; then
        npm ci --prefix "$1" --no-fund --no-audit
    fi
}

install "$app"
install "$here"
npm run --prefix "$app" test
npm run --prefix "$app" build
export POCKETGPT_BUNDLE=$bundle POCKETGPT_APP=$app/dist POCKETGPT_CHROMIUM=$chromium
node --test --test-concurrency=1 --test-reporter=spec "$here"/*.test.mjs
