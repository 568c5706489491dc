"""`data filter` beside datatrove's Gopher filters and datasketch's MinHash.

    python filter.py DATA FOLDER TEXT...

Documents are made of the texts: parts of them, parts with words repeated or exchanged, lists, lines that
come again. Each must be left out by both programs or by neither. Of pairs with a known Jaccard similarity,
both must find about as many: as the formula of 14 bands of 8 hashes says.
"""

import json
import pathlib
import random
import subprocess
import sys

from datasketch import MinHash, MinHashLSH

golden = pathlib.Path(__file__).parents[2] / "data/tests/golden/make_filters.py"


def verdicts():
    """The functions of make_filters.py, without what it writes."""
    source = golden.read_text().split("sentences = ")[0].replace("__file__", repr(str(golden)))
    names = {}
    exec(compile(source, str(golden), "exec"), names)
    return names["quality_verdict"], names["repetition_verdict"]


def documents(texts, rng):
    for _ in range(4000):
        text = rng.choice(texts)
        start = rng.randrange(max(1, len(text) - 4000))
        text = text[start : start + rng.randint(50, 4000)]
        kind = rng.randrange(6)
        if kind == 1:
            words = text.split()
            at = rng.randrange(len(words) + 1)
            words[at:at] = words[at : at + rng.randint(2, 12)] * rng.randint(1, 8)
            text = " ".join(words)
        elif kind == 2:
            lines = text.split("\n")
            lines += rng.choices(lines, k=rng.randint(1, 12))
            text = rng.choice(["\n", "\n\n"]).join(lines)
        elif kind == 3:
            text = "\n".join(f"- {line}" for line in text.split("\n")) if rng.random() < 0.5 else text + "..."
        elif kind == 4:
            text = " ".join(rng.choice([word, "#", "...", "12"]) if rng.random() < 0.2 else word for word in text.split())
        if text.strip():
            yield text


def run(data, folder, lines, *options):
    source, output, report = (folder / name for name in ("a.jsonl", "b.jsonl", "c.json"))
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [data, "filter", source, "-o", output, "--report", report, "--force", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {json.loads(line)["id"] for line in output.open()}, json.loads(report.read_text())


def gopher(data, folder, texts):
    quality, repetition = verdicts()
    lines = [{"id": at, "text": text} for at, text in enumerate(documents(texts, random.Random(3)))]
    kept, report = run(
        data, folder, lines, "--without", "duplicate", "--without", "long-word", "--without", "lorem-ipsum"
    )
    wrong = []
    for line in lines:
        why = quality(line["text"]) or repetition(line["text"])
        if (why is None) != (line["id"] in kept):
            wrong.append((why, line["text"][:80]))
    rules = ", ".join(f"{rule} {found['documents']}" for rule, found in report["dropped"].items())
    print(f"{len(lines)} documents, {len(kept)} kept; {rules}; {len(wrong)} other verdicts than datatrove's")
    assert not wrong, wrong[:5]


def near(data, folder):
    for shared in (100, 150, 170, 180, 190):
        similarity = shared / (400 - shared)
        formula = 1 - (1 - similarity**8) ** 14
        pairs, lines, theirs = 1000, [], 0
        index = MinHashLSH(num_perm=112, params=(14, 8))
        for pair in range(pairs):
            for second in (0, 1):
                start = second * (200 - shared)
                words = [f"w{pair}x{at}" for at in range(start, start + 204)]
                lines.append({"id": 2 * pair + second, "text": " ".join(words)})
                sketch = MinHash(num_perm=112)
                sketch.update_batch([" ".join(words[at : at + 5]).encode() for at in range(200)])
                if second:
                    theirs += bool(index.query(sketch))
                else:
                    index.insert(str(pair), sketch)
        kept, _ = run(data, folder, lines, "--near-duplicates")
        ours = 2 * pairs - len(kept)
        print(f"similarity {similarity:.2f}: {ours / pairs:.3f} found, datasketch {theirs / pairs:.3f}, formula {formula:.3f}")
        # Four standard deviations of the difference of two such counts.
        assert abs(ours - theirs) <= 4 * (2 * pairs * formula * (1 - formula)) ** 0.5 + 2


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    near(sys.argv[1], folder)
    gopher(sys.argv[1], folder, [pathlib.Path(text).read_text(errors="ignore") for text in sys.argv[3:]])
