#!/usr/bin/env python3
"""What Python's tiktoken does on the same text: the peer of tokenizer_speed.rs.

usage: tokenizer_speed.py TEXT --vocabulary FOLDER [--threads 2] [--runs 9] [--repeat 1]
FOLDER holds GPT-2's vocab.bpe and encoder.json. The text is cut into pieces at line ends (64 for
each thread) because `encode_batch` gives each thread whole pieces. Prints one JSON object.
needs: pip install tiktoken
"""
import argparse, json, os, statistics, time
import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks

PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


def pieces_of(text, count):
    size, start, pieces = max(1, len(text) // count), 0, []
    while start < len(text):
        end = text.find("\n", min(len(text), start + size))
        end = len(text) if end < 0 else end + 1
        pieces.append(text[start:end])
        start = end
    return pieces


def median_speed(size, runs, encode):
    seconds = []
    for _ in range(runs):
        begin = time.perf_counter()
        encode()
        seconds.append(time.perf_counter() - begin)
    return size / 1e6 / statistics.median(seconds)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("text")
    ap.add_argument("--vocabulary", required=True)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--runs", type=int, default=9)
    ap.add_argument("--repeat", type=int, default=1)
    args = ap.parse_args()
    ranks = data_gym_to_mergeable_bpe_ranks(
        os.path.join(args.vocabulary, "vocab.bpe"), os.path.join(args.vocabulary, "encoder.json"))
    bpe = tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks,
                            special_tokens={"<|endoftext|>": 50256})
    text = open(args.text, encoding="utf-8", newline="").read() * args.repeat
    size = len(text.encode())
    pieces = pieces_of(text, 64 * args.threads)
    batch = lambda: bpe.encode_ordinary_batch(pieces, num_threads=args.threads)
    print(json.dumps({
        "text_bytes": size,
        "threads": args.threads,
        "megabytes_per_second": median_speed(size, args.runs, batch),
        "megabytes_per_second_on_one_thread":
            median_speed(size, args.runs, lambda: bpe.encode_ordinary(text)),
    }, indent=2))


if __name__ == "__main__":
    main()
