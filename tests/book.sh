#!/usr/bin/env bash
# Runs the commands of the book: each page's blocks marked `sh`, one after the other, in an empty folder
# with the program on the path. A page that shows a command that fails is a failure.
#
# usage: tests/book.sh FOLDER_OF_BINARIES [PAGE.md...]
#
# A comment of a page, which readers do not see, says how a block is run:
#
#   <!-- book.sh: setup         commands up to the line `-->` that stand for what the reader has
#   <!-- book.sh: file NAME -->      the next block is written to the file NAME
#   <!-- book.sh: skip REASON -->    the next block needs what a test does not have; it is named
#   <!-- book.sh: with ARGUMENTS --> `pocketgpt run`, `train` and `bundle serve` of the next block get these
#                                    arguments too: settings that take seconds
#   <!-- book.sh: serve with ARGUMENTS --> the same, and the command serves until it is stopped
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "${1:?usage: tests/book.sh FOLDER_OF_BINARIES [PAGE.md...]}" && pwd)
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
source=$root/docs/book/src
expected=31 # blocks that are run in all pages; one that is lost by a mistake in a comment is a failure too

# The program with the arguments of the block, where the command takes them.
mkdir "$work/bin"
cat >"$work/bin/pocketgpt" <<'PROGRAM'
#!/usr/bin/env bash
case "${1:-} ${2:-}" in
run\ * | train\ * | 'bundle serve') eval "set -- \"\$@\" ${BOOK_ARGUMENTS:-}" ;;
esac
exec "$BOOK_PROGRAM" "$@"
PROGRAM
chmod +x "$work/bin/pocketgpt"
export ROOT=$root BOOK_PROGRAM=$bin/pocketgpt PATH=$work/bin:$PATH

# blocks PAGE FOLDER: writes each block as NUMBER.KIND, KIND being setup, file, skip, sh or serve. The first
# line of a file is what its comment says after the kind.
blocks() {
    awk -v folder="$2" '
        function start(kind, argument) {
            name = sprintf("%s/%03d.%s", folder, ++count, kind)
            print argument >name
        }
        in_setup && $0 == "-->" { in_setup = 0; close(name); next }
        in_block && /^```/ { in_block = 0; close(name); next }
        in_setup || in_block { print >name; next }
        $0 == "<!-- book.sh: setup" { start("setup", ""); in_setup = 1; next }
        /^<!-- book.sh: / {
            line = $0
            sub(/^<!-- book.sh: /, "", line)
            sub(/ -->$/, "", line)
            kind = line
            sub(/ .*/, "", kind)
            argument = line
            sub(/^[^ ]* ?/, "", argument)
            next
        }
        /^```/ {
            if (kind == "file" || kind == "skip") start(kind, argument)
            else if ($0 == "```sh" && kind == "serve") { sub(/^with /, "", argument); start("serve", argument) }
            else if ($0 == "```sh") start("sh", argument)
            else { in_block = 1; name = "/dev/null"; next }
            in_block = 1
            kind = argument = ""
        }
    ' "$1"
}

# serves BLOCK OUTPUT: the command of the block answers with its bundle.json, and Ctrl-C ends it.
serves() {
    local address=
    # The shell is replaced, so that the signal reaches the program.
    sed '1d; s/^pocketgpt /exec pocketgpt /' "$1" >"$work/serve.sh"
    bash "$work/serve.sh" >"$2" 2>&1 &
    local server=$!
    for _ in $(seq 300); do
        address=$(grep -o 'http://127.0.0.1:[0-9]*/' "$2" | head -1) && break
        kill -0 $server 2>/dev/null || break
        sleep 0.1
    done
    local status=0
    python3 -c 'import json, sys, urllib.request as u; json.load(u.urlopen(sys.argv[1] + "bundle.json"))' \
        "$address" >>"$2" 2>&1 || status=1
    kill -INT $server 2>/dev/null || status=1
    wait $server || status=1
    return $status
}

run=0
skipped=0
page() {
    local page=$1 folder=$work/page parts=$work/parts block status argument
    rm -rf "$folder" "$parts"
    mkdir "$folder" "$parts"
    blocks "$page" "$parts"
    cd "$folder"
    for block in "$parts"/*; do
        [ -e "$block" ] || break
        argument=$(head -1 "$block")
        status=0
        case "$block" in
        *.file) sed 1d "$block" >"$argument" ;;
        *.skip)
            echo "${page#"$source/"}: skipped, ${argument}: $(sed -n 2p "$block")"
            skipped=$((skipped + 1))
            ;;
        *.serve)
            BOOK_ARGUMENTS=$argument serves "$block" "$work/output" || status=$?
            run=$((run + 1))
            ;;
        *)
            BOOK_ARGUMENTS=${argument#with } bash -euo pipefail <(sed 1d "$block") >"$work/output" 2>&1 || status=$?
            case "$block" in *.sh) run=$((run + 1)) ;; esac
            ;;
        esac
        if [ "$status" != 0 ]; then
            echo "${page#"$source/"}: these commands ended with exit code $status:" >&2
            sed 1d "$block" >&2
            tail -20 "$work/output" >&2
            exit 1
        fi
    done
    cd "$work"
}

if [ $# -gt 0 ]; then
    for file in "$@"; do page "$(cd "$(dirname "$file")" && pwd)/$(basename "$file")"; done
else
    while IFS= read -r file; do page "$file"; done < <(grep -rl '^```sh$' "$source" | sort)
    if [ "$run" != "$expected" ]; then
        echo "expected $expected blocks of commands, found $run: one was added or lost" >&2
        exit 1
    fi
fi
echo "book: $run blocks of commands passed, $skipped skipped, 0 failed"
