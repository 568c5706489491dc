#!/usr/bin/env bash
# The model in the browser beside llama.cpp on the same machine: one JSON object a line, for each
# variant and for one and two threads, with the same prompt and the same number of tokens.
#
# usage: tests/app/bench.sh BUNDLE_FOLDER [FOLDER_OF_BINARIES]
set -euo pipefail

# shellcheck source=tests/app/prepare.sh
. "$(dirname "$0")/prepare.sh" "${1:?usage: tests/app/bench.sh BUNDLE_FOLDER [FOLDER_OF_BINARIES]}"
bin=${2:-$root/target/release}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

node "$here/bench.mjs" --threads 1,2

# The text and the number of tokens of the app's own benchmark.
prompt=$(node -e '
    const { self_test, context_length } = JSON.parse(fs.readFileSync(process.argv[1], "utf8"));
    const room = Math.min(128, context_length / 4);
    const repeats = Math.max(1, Math.floor(room / self_test.prompt_tokens.length));
    process.stdout.write(self_test.prompt.repeat(repeats));
' "$POCKETGPT_BUNDLE/bundle.json")
for manifest in "$POCKETGPT_BUNDLE"/model/*.manifest.json; do
    recipe=$(basename "$manifest" .manifest.json)
    "$bin/fragment" join --input "$manifest" --output "$work/model.gguf" --force >&2
    for threads in 1 2; do
        for _ in 1 2 3; do
            "$bin/generate" --model "$work/model.gguf" --engine llama --threads "$threads" \
                --greedy --max-tokens 64 --prompt "$prompt" --json 2>/dev/null |
                node -e '
                    const { first_token_s, tokens_per_s } = JSON.parse(fs.readFileSync(0, "utf8"));
                    const [recipe, threads] = process.argv.slice(1);
                    console.log(JSON.stringify({ native: recipe, threads: Number(threads), first_token_s, tokens_per_s }));
                ' "$recipe" "$threads"
        done
    done
done
