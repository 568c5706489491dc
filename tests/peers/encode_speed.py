"""Speed and memory of `data encode` beside Hugging Face's tokenizers and datatrove on JSON Lines.

    python encode_speed.py DATA FOLDER MEGABYTES TOKENIZER TEXT...

All read the same records, parse them, encode the field `text` on all cores, put the end-of-text token
behind each document and write 16-bit tokens. They take turns. TOKENIZER is `gpt2` or a folder with a
tokenizer.json. tokenizers reads one file; datatrove one for each core, as its users are told to.
"""

import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import time

import numpy

BATCH = 1000
CORES = os.cpu_count()


def make(texts, folder, megabytes):
    """Documents of 5 to 60 of the texts' sentences in an order of their own, with invented words and
    numbers, so that no cache knows all of them. In one file, and the same in a file for each core."""
    sentences = []
    for text in texts:
        found = re.split(r"(?<=[.!?\n])\s+", text.read_text(errors="ignore"))
        sentences += [sentence for sentence in found if 20 < len(sentence) < 600]
    rng = random.Random(1)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"]
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "parts").mkdir(parents=True)
    whole = open(folder / "text.jsonl", "w")
    parts = [open(folder / f"parts/{number}.jsonl", "w") for number in range(CORES)]
    size = megabytes * 1_000_000
    for number, part in enumerate(parts):
        written = 0
        while written < size / CORES:
            chosen = rng.choices(sentences, k=rng.randint(5, 60))
            for at in range(0, len(chosen), 3):
                word = "".join(rng.choices(syllables, k=rng.randint(2, 5))).capitalize()
                chosen[at] += f" {word} {rng.randrange(10**6)}"
            line = json.dumps({"id": written, "text": " ".join(chosen)}, ensure_ascii=False) + "\n"
            written += len(line.encode())
            part.write(line)
            whole.write(line)


def peer_tokenizers(folder):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    end = tokenizer.token_to_id("<|endoftext|>")

    def write(texts, out):
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            numpy.array(encoding.ids + [end], dtype=numpy.uint16).tofile(out)

    with open(f"{folder}/text.jsonl") as lines, open(f"{folder}/tokenizers.bin", "wb") as out:
        texts = []
        for line in lines:
            texts.append(json.loads(line)["text"])
            if len(texts) == BATCH:
                write(texts, out)
                texts = []
        write(texts, out)


def peer_datatrove(folder):
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    pipeline = [
        JsonlReader(f"{folder}/parts"),
        DocumentTokenizer(
            output_folder=f"{folder}/datatrove",
            tokenizer_name_or_path=f"{folder}/tokenizer.json",
            eos_token="<|endoftext|>",
            batch_size=BATCH,
            shuffle_documents=False,
        ),
    ]
    LocalPipelineExecutor(
        pipeline, tasks=CORES, workers=CORES, logging_dir=f"{folder}/datatrove-log", skip_completed=False
    ).run()


def measured(command):
    """Seconds and peak memory in MB of a process (of datatrove, of its largest)."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, (command, said[-2000:])
    return time.monotonic() - start, usage.ru_maxrss / 1000, usage.ru_utime + usage.ru_stime


def main(data, folder, megabytes, tokenizer, texts):
    make(texts, folder, megabytes)
    source, ours = folder / "text.jsonl", folder / "ours.bin"
    if tokenizer == "gpt2":
        save = ["encode", "builtin", "-o", ours, "--save-tokenizer", folder / "tokenizer.json", "--force"]
        subprocess.run([data, *save], check=True, stdout=subprocess.DEVNULL)
    else:
        shutil.copy(f"{tokenizer}/tokenizer.json", folder / "tokenizer.json")
    name = ["--tokenizer", "gpt2" if tokenizer == "gpt2" else folder / "tokenizer.json"]
    commands = {
        "data encode": [data, "encode", source, "-o", ours, "--force", *name],
        "data encode, shards": [data, "encode", source, "-o", f"{folder}/shards/", "--force", *name],
        "tokenizers": [sys.executable, __file__, "--peer", "tokenizers", folder],
    }
    try:
        import datatrove  # noqa: F401
        import orjson  # noqa: F401, which its reader needs

        commands["datatrove"] = [sys.executable, __file__, "--peer", "datatrove", folder]
    except ImportError:
        print("datatrove is skipped: it or orjson is not installed")
    results = {name: [] for name in commands}
    for _ in range(int(os.environ.get("ROUNDS", "3"))):
        for name, command in commands.items():
            results[name].append(measured(command))
    size = source.stat().st_size / 1e6
    print(f"{tokenizer}: {size:.0f} MB of JSON Lines, load {os.getloadavg()[0]:.1f} on {CORES} cores")
    for name, runs in results.items():
        seconds, memory, cpu = (statistics.median(run[at] for run in runs) for at in range(3))
        each = ", ".join(f"{size / run[0]:.1f}" for run in runs)
        print(f"{name}: {size / seconds:.1f} MB/s ({each}), {cpu:.1f} s of processors, peak {memory:.0f} MB")
    expected = numpy.fromfile(folder / "tokenizers.bin", dtype=numpy.uint16)
    found = numpy.fromfile(ours, dtype=numpy.uint16, offset=128, count=len(expected))
    assert (expected == found).all(), "other tokens"
    count = int.from_bytes(ours.read_bytes()[16:24], "little")
    assert count == len(expected), (count, len(expected))
    if "datatrove" in commands:
        theirs = [numpy.fromfile(file, dtype=numpy.uint16) for file in sorted((folder / "datatrove").glob("*.ds"))]
        assert (numpy.concatenate(theirs) == found).all(), "other tokens than datatrove's"
    print(f"the same {count:,} tokens")


if sys.argv[1] == "--peer":
    {"tokenizers": peer_tokenizers, "datatrove": peer_datatrove}[sys.argv[2]](sys.argv[3])
else:
    main(
        sys.argv[1],
        pathlib.Path(sys.argv[2]),
        int(sys.argv[3]),
        sys.argv[4],
        [pathlib.Path(text) for text in sys.argv[5:]],
    )
