"""Speed and memory of `data encode` beside Hugging Face's tokenizers on JSON Lines.

    python encode_speed.py DATA STORY FOLDER MEGABYTES

Both read the same file, parse it, encode the field `text` with GPT-2's tokenizer on all cores, put
<|endoftext|> behind each document and write 16-bit tokens. They take turns.
"""

import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import time

import numpy

BATCH = 1000


def make(story, path, megabytes):
    """Documents of 5 to 60 of the story's sentences, in an order of their own, with some numbers."""
    sentences = re.split(r"(?<=[.!?])\s+", story.read_text())
    rng = random.Random(1)
    size = 0
    with open(path, "w") as file:
        while size < megabytes * 1_000_000:
            chosen = [rng.choice(sentences) for _ in range(rng.randint(5, 60))]
            chosen[0] += f" {rng.randrange(10**6)}"
            line = json.dumps({"id": size, "source": "story", "text": " ".join(chosen)}) + "\n"
            size += len(line)
            file.write(line)


def peer(tokenizer_file, source, output):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(tokenizer_file)
    end = tokenizer.token_to_id("<|endoftext|>")

    def write(texts, out):
        for encoding in tokenizer.encode_batch_fast(texts):
            numpy.array(encoding.ids + [end], dtype=numpy.uint16).tofile(out)

    with open(source) as lines, open(output, "wb") as out:
        texts = []
        for line in lines:
            texts.append(json.loads(line)["text"])
            if len(texts) == BATCH:
                write(texts, out)
                texts = []
        write(texts, out)


def measured(command):
    """Seconds and peak memory in MB of a process."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.monotonic() - start, usage.ru_maxrss / 1000


def main(data, story, folder, megabytes):
    folder.mkdir(parents=True, exist_ok=True)
    source, ours, theirs = folder / "text.jsonl", folder / "ours.bin", folder / "theirs.bin"
    make(story, source, megabytes)
    tokenizer = folder / "tokenizer.json"
    first = ["encode", "builtin", "-o", ours, "--save-tokenizer", tokenizer, "--force"]
    subprocess.run([data, *first], check=True, stdout=subprocess.DEVNULL)
    commands = {
        "data encode": [data, "encode", source, "-o", ours, "--force"],
        "tokenizers": [sys.executable, __file__, "--peer", tokenizer, source, theirs],
    }
    results = {name: [] for name in commands}
    for _ in range(int(os.environ.get("ROUNDS", "3"))):
        for name, command in commands.items():
            results[name].append(measured(command))
    size = source.stat().st_size / 1e6
    for name, runs in results.items():
        seconds = statistics.median(run[0] for run in runs)
        memory = statistics.median(run[1] for run in runs)
        each = ", ".join(f"{size / run[0]:.1f}" for run in runs)
        print(f"{name}: {size / seconds:.1f} MB/s of JSON ({each}), peak {memory:.0f} MB")
    expected = numpy.fromfile(theirs, dtype=numpy.uint16)
    found = numpy.fromfile(ours, dtype=numpy.uint16, offset=128, count=len(expected))
    assert (expected == found).all(), "other tokens"
    count = int.from_bytes(ours.read_bytes()[16:24], "little")
    assert count == len(expected), (count, len(expected))
    print(f"the same {count:,} tokens")


if sys.argv[1] == "--peer":
    peer(*sys.argv[2:])
else:
    main(sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), int(sys.argv[4]))
