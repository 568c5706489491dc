#!/usr/bin/env bash
# Kills `data encode` ten times at random moments, lets it go on each time, and compares its shards byte
# by byte with those of an encoding that was not disturbed.
#
# usage: tests/encode_kill.sh FOLDER_OF_BINARIES [MEGABYTES]
#
# 1000 MB of JSON Lines, half of them compressed, are made under target/ from the built-in story. The
# moments are printed; SEED=N repeats them.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=$(cd "${1:?usage: tests/encode_kill.sh FOLDER_OF_BINARIES [MEGABYTES]}" && pwd)
work=$root/target/encode-kill
seed=${SEED:-$RANDOM}
rm -rf "$work"
mkdir -p "$work/texts"
cd "$work"
python3 - "$root/data/src/story.txt" "${2:-1000}" <<'PY'
import gzip, json, random, re, sys
sentences = re.split(r"(?<=[.!?])\s+", open(sys.argv[1]).read())
rng = random.Random(1)
for number in range(4):
    opener = gzip.open if number % 2 else open
    name = f"texts/{number}.jsonl" + (".gz" if number % 2 else "")
    left = int(sys.argv[2]) * 250_000
    with opener(name, "wt", **({"compresslevel": 1} if number % 2 else {})) as out:
        while left > 0:
            chosen = rng.choices(sentences, k=rng.randint(1, 200))
            line = json.dumps({"text": f"{rng.randrange(10**9)} " + " ".join(chosen)}) + "\n"
            left -= len(line)
            out.write(line)
PY
encode() { "$bin/data" encode texts --output "$1/" --max-bytes 33554432 >"$1.log" 2>&1; }

start=$(date +%s%N)
encode whole
took=$((($(date +%s%N) - start) / 1000000))
echo "undisturbed: $took ms, $(find whole -name '*.bin' | wc -l) shards; seed $seed"
RANDOM=$seed
killed=0
for round in 1 2 3 4 5 6 7 8 9 10; do
    [ -d killed ] && break
    encode killed &
    process=$!
    wait_ms=$((RANDOM * took / 32768 / 3))
    sleep "$(printf '%d.%03d' $((wait_ms / 1000)) $((wait_ms % 1000)))"
    # The shell's own process holds the program.
    pkill -KILL -P "$process" || true
    if ! wait "$process"; then
        killed=$((killed + 1))
        echo "round $round: killed after $wait_ms ms, $(find killed.partial -name 'shard-*.bin' | wc -l) shards"
    fi
done 2>/dev/null
[ -d killed ] || encode killed
grep resumed killed.log || true
diff -r whole killed
[ ! -e killed.partial ]
echo "the same bytes after $killed kills"
rm -rf "$work"
