# What run.sh and bench.sh share: a browser, the packages of the lock files, the built app. Sets the
# variables that harness.mjs wants. Sourced, with the bundle's folder as $1.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

find_chromium() {
    command -v chromium || command -v chromium-browser || command -v google-chrome || true
}

# install FOLDER: what its lock file says, unless that is there already.
install() {
    if ! [ "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ]; then
        npm ci --prefix "$1" --no-fund --no-audit >&2
    fi
}

POCKETGPT_CHROMIUM=${POCKETGPT_CHROMIUM:-$(find_chromium)}
if [ -z "$POCKETGPT_CHROMIUM" ] && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >&2
    POCKETGPT_CHROMIUM=$(find_chromium)
fi
if [ -z "$POCKETGPT_CHROMIUM" ]; then
    echo "tests/app: no Chromium found: install it, or name it in POCKETGPT_CHROMIUM" >&2
    exit 2
fi
install "$root/bundle/app"
install "$here"
npm run --prefix "$root/bundle/app" build >&2
POCKETGPT_BUNDLE=$(cd "$1" && pwd)
POCKETGPT_APP=$root/bundle/app/dist
export POCKETGPT_BUNDLE POCKETGPT_APP POCKETGPT_CHROMIUM
