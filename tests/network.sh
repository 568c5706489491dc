#!/usr/bin/env bash
# Models in pieces at real stores on this machine: moto as S3, azurite as Azure, Python's own server
# as a plain one without ranges. Pushed, pulled, damaged, refused, generated from; then the time of a
# pull beside that of copying and hashing the same file.
#
# usage: tests/network.sh FOLDER_OF_BINARIES
#
# needs: a build with --features network, Python with venv; azurite by npm, and without npm that part
# says that it is skipped. Both are installed under target/network.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "${1:?usage: tests/network.sh FOLDER_OF_BINARIES}" && pwd)
gpt=$bin/pocketgpt
tools=$root/target/network
work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT

step() { echo "network: $1" >&2; }

check() {
    "$@" || { echo "failed: $*" >&2; exit 1; }
}

# fails_with CODE PATTERN COMMAND...: the command must end with CODE and one line like PATTERN.
fails_with() {
    local code=$1 pattern=$2 status=0
    shift 2
    "$@" >out 2>err || status=$?
    if [ "$status" != "$code" ] || ! grep -q -- "$pattern" err || [ "$(grep -c '^error' err)" != 1 ]; then
        echo "expected exit $code and one line with '$pattern', found exit $status from: $*" >&2
        cat err >&2
        exit 1
    fi
}

# free_port: a port that nobody listens on.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for URL: until a server answers there, whatever it answers.
wait_for() {
    for _ in $(seq 100); do
        if curl -s -o /dev/null "$1"; then return; fi
        sleep 0.2
    done
    echo "nothing answers at $1" >&2
    exit 1
}

if [ ! -x "$tools/venv/bin/moto_server" ]; then
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install -q 'moto[server]'
fi
cd "$work"
export POCKETGPT_CACHE=$work/cache
export NO_PROXY=127.0.0.1

step 'a model that trains in seconds, in pieces'
"$gpt" train --config "$root/configs/tiny.toml" --set run.dir=run -q >/dev/null
"$gpt" export --input run --output tiny-F32.gguf -q >/dev/null
"$gpt" fragment split --input tiny-F32.gguf --output pieces --max-bytes 300000 -q >/dev/null
"$gpt" generate --model tiny-F32.gguf --prompt 'The ' --greedy --max-tokens 20 2>/dev/null >expected.txt

step 'S3 (moto)'
port=$(free_port)
"$tools/venv/bin/moto_server" -H 127.0.0.1 -p "$port" >moto.log 2>&1 &
pids+=($!)
export AWS_ENDPOINT=http://127.0.0.1:$port AWS_ALLOW_HTTP=true AWS_REGION=us-east-1
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
wait_for "$AWS_ENDPOINT"
curl -s -o /dev/null -X PUT "$AWS_ENDPOINT/models"
check "$gpt" fragment push --input pieces --to s3://models/tiny >push.txt
pinned=$(sed -n 's/^address  //p' push.txt)
"$gpt" fragment push --input pieces --to s3://models/tiny | grep -q '^sent     0 pieces' ||
    { echo 'the second push sent something' >&2; exit 1; }
check "$gpt" fragment pull --from "$pinned" --output pulled
check diff -r pieces pulled
check "$gpt" fragment verify --from s3://models/tiny
"$gpt" fragment inspect s3://models/tiny | grep -q 'token_embd.weight' || exit 1
"$gpt" export inspect s3://models/tiny --tensors | grep -q 'token_embd.weight' || exit 1
"$gpt" fragment extract --input s3://models/tiny --tensor token_embd.weight --output far.bin >/dev/null
"$gpt" fragment extract --input pieces --tensor token_embd.weight --output near.bin >/dev/null
check cmp far.bin near.bin
for engine in reference llama; do
    "$gpt" generate --model "$pinned" --engine "$engine" --prompt 'The ' --greedy --max-tokens 20 \
        2>/dev/null >text.txt
    [ "$engine" != reference ] || check cmp text.txt expected.txt
    "$gpt" generate --model pieces --engine "$engine" --prompt 'The ' --greedy --max-tokens 20 \
        2>/dev/null >near.txt
    check cmp text.txt near.txt
done
check "$gpt" eval --f32 "$pinned" --quantized s3://models/tiny --tokens-from "$root/README.md" --windows 1 \
    -q >/dev/null
check "$gpt" bundle plan --input s3://models/tiny >/dev/null

step 'what is there stays: another model at the same address, a piece that is damaged there'
"$gpt" fragment split --input tiny-F32.gguf --output other --max-bytes 200000 -q >/dev/null
fails_with 2 'is there and is not the manifest' "$gpt" fragment push --input other --to s3://models/tiny
piece=$(cd pieces && ls ./*.dat | head -1 | cut -c3-)
head -c "$(wc -c <"pieces/$piece")" /dev/urandom >damaged
curl -sf -o /dev/null --aws-sigv4 aws:amz:us-east-1:s3 --user test:test -H 'Content-Type: application/octet-stream' \
    -T damaged "$AWS_ENDPOINT/models/tiny/$piece"
fails_with 2 '1 damaged' "$gpt" fragment verify --from s3://models/tiny
fails_with 2 'no source has a sound' "$gpt" fragment pull --from s3://models/tiny --output part
check test ! -e part/manifest.json

step 'a plain server without ranges takes its place, and the culprit is named'
port=$(free_port)
python3 -m http.server -b 127.0.0.1 "$port" >http.log 2>&1 &
pids+=($!)
wait_for "http://127.0.0.1:$port"
"$gpt" fragment pull --from s3://models/tiny --from "http://127.0.0.1:$port/pieces" --output part 2>notes \
    >report.txt
check grep -q 's3://models/tiny is asked last from here on' notes
check grep -q 's3://models/tiny: .* faults; the first: .* is damaged' report.txt
check diff -r pieces part
check "$gpt" fragment extract --input "http://127.0.0.1:$port/pieces" --tensor token_embd.weight \
    --output plain.bin >/dev/null
check cmp plain.bin near.bin

step 'addresses that are none'
fails_with 2 'unknown scheme ftp' "$gpt" fragment pull --from ftp://host/model --output x
fails_with 2 'credentials are read from the environment' "$gpt" fragment pull \
    --from 'https://me:secret@host/model' --output x
fails_with 2 'cannot fetch the manifest' "$gpt" fragment pull --from s3://models/none --output x
fails_with 2 'cannot be told to create a file' "$gpt" fragment push --input pieces \
    --to "http://127.0.0.1:$port/new"
check test ! -e x

if command -v npm >/dev/null; then
    step 'Azure (azurite)'
    if [ ! -x "$tools/node_modules/.bin/azurite-blob" ]; then
        npm install --silent --no-audit --no-fund --prefix "$tools" azurite
    fi
    port=$(free_port)
    "$tools/node_modules/.bin/azurite-blob" --silent --inMemoryPersistence --skipApiVersionCheck \
        --blobPort "$port" >azurite.log 2>&1 &
    pids+=($!)
    export AZURE_STORAGE_ACCOUNT_NAME=devstoreaccount1
    # The key of every emulator, from its documentation.
    export AZURE_STORAGE_ACCOUNT_KEY='Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=='
    export AZURE_STORAGE_ENDPOINT=http://127.0.0.1:$port/devstoreaccount1 AZURE_ALLOW_HTTP=true
    wait_for "http://127.0.0.1:$port"
    python3 - "$port" <<'PYTHON'
import base64, hashlib, hmac, os, sys, urllib.request
from email.utils import formatdate
date, account = formatdate(usegmt=True), "devstoreaccount1"
text = (f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2021-08-06\n"
        f"/{account}/{account}/models\nrestype:container")
key = base64.b64decode(os.environ["AZURE_STORAGE_ACCOUNT_KEY"])
signature = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
request = urllib.request.Request(
    f"http://127.0.0.1:{sys.argv[1]}/{account}/models?restype=container", method="PUT",
    headers={"x-ms-date": date, "x-ms-version": "2021-08-06",
             "Authorization": f"SharedKey {account}:{signature}"})
urllib.request.urlopen(request)
PYTHON
    check "$gpt" fragment push --input pieces --to az://models/tiny >/dev/null
    check "$gpt" fragment pull --from az://models/tiny --output from-azure >/dev/null
    check diff -r pieces from-azure
    AZURE_STORAGE_ACCOUNT_KEY=$(head -c 64 /dev/zero | base64 -w0) \
        fails_with 2 'access was refused' "$gpt" fragment pull --from az://models/tiny --output y
    check test ! -e y
else
    echo 'network: Azure skipped: npm not found' >&2
fi

step 'the time of 500 MB'
python3 - <<'PYTHON'
# A GGUF of random weights: 16 tensors of 30 MiB, as the format's specification says.
import os, struct
text = lambda s: struct.pack("<Q", len(s)) + s.encode()
rows, tensors = 30 << 18, 16
header = b"GGUF" + struct.pack("<IQQ", 3, tensors, 1)
header += text("general.architecture") + struct.pack("<I", 8) + text("gpt2")
for i in range(tensors):
    header += text(f"blk.{i}.ffn_up.weight") + struct.pack("<IQIQ", 1, rows, 0, i * rows * 4)
with open("large.gguf", "wb") as out:
    out.write(header + bytes(-len(header) % 32))
    for _ in range(tensors):
        out.write(os.urandom(rows * 4))
PYTHON
"$gpt" fragment split --input large.gguf --output large -q >/dev/null
"$gpt" fragment push --input large --to s3://models/large -q >/dev/null
port=$(free_port)
python3 - <<PYTHON &
# Files as the kernel sends them: what a fast server does.
import http.server, os, shutil
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def copyfile(self, source, out):
        self.wfile.flush()
        at, size = 0, os.fstat(source.fileno()).st_size
        while at < size:
            at += os.sendfile(self.connection.fileno(), source.fileno(), at, size - at)
http.server.ThreadingHTTPServer(("127.0.0.1", $port), Handler).serve_forever()
PYTHON
pids+=($!)
# A file: what this server makes of a folder has no descriptor to send from.
wait_for "http://127.0.0.1:$port/large/manifest.json"
seconds() {
    local start
    start=$(date +%s%N)
    "$@" >/dev/null 2>&1
    echo "$start $(date +%s%N)" | awk '{ printf "%.2f", ($2 - $1) / 1e9 }'
}
copy_and_hash() {
    rm -f copy.gguf
    cp large.gguf copy.gguf && sync copy.gguf && sha256sum copy.gguf
}
from() {
    rm -rf pulled-large
    "$gpt" fragment pull --from "$1" --output pulled-large
}
for _ in 1 2 3; do
    echo "copy and sha256sum $(seconds copy_and_hash) s, pull from S3 $(seconds from s3://models/large) s," \
        "pull from a plain server $(seconds from "http://127.0.0.1:$port/large") s"
done
check diff -r large pulled-large

step 'a killed pull goes on, and leaves nothing behind'
rm -rf pulled-large
"$gpt" fragment pull --from "http://127.0.0.1:$port/large" --output pulled-large >/dev/null 2>&1 &
killed=$!
for _ in $(seq 200); do
    if ls pulled-large/*.dat >/dev/null 2>&1; then break; fi
    sleep 0.02
done
kill -9 "$killed"
wait "$killed" 2>/dev/null || true
check test ! -e pulled-large/manifest.json
"$gpt" fragment pull --from "http://127.0.0.1:$port/large" --output pulled-large >report.txt 2>/dev/null
check grep -q '; [1-9][0-9]* were there' report.txt
check diff -r large pulled-large

if mkdir small && mount -t tmpfs -o size=100m tmpfs small 2>/dev/null; then
    step 'a disk that is too small'
    trap 'umount small; finish' EXIT
    fails_with 2 'are to be fetched' "$gpt" fragment pull --from s3://models/large --output small/pieces
    check test ! -e small/pieces/manifest.json
    POCKETGPT_CACHE=$PWD/small/cache fails_with 2 'are to be fetched' "$gpt" fragment join \
        --input s3://models/large --output x.gguf
else
    echo 'network: the disk that is too small is skipped: it needs root' >&2
fi
POCKETGPT_CACHE_SIZE=100MB fails_with 2 'set POCKETGPT_CACHE_SIZE to more' "$gpt" fragment join \
    --input s3://models/large --output x.gguf
check test ! -e x.gguf
step done
