#!/usr/bin/env bash
# Builds the web chat and drives it in a real browser with a real bundle.
#
# usage: tests/app/run.sh BUNDLE_FOLDER
#
# POCKETGPT_SCREENSHOTS=FOLDER keeps pictures; POCKETGPT_CHROMIUM=PATH names the browser.
set -euo pipefail

# shellcheck source=tests/app/prepare.sh
. "$(dirname "$0")/prepare.sh" "${1:?usage: tests/app/run.sh BUNDLE_FOLDER}"

npm run --prefix "$root/bundle/app" test
node --test --test-concurrency=1 --test-reporter=spec "$here"/*.test.mjs
