"""Verdicts of datatrove's Gopher filters, which `data filter` follows.

    python make_filters.py        # needs datatrove, regex

Words are those of data/src/filter/words.rs, so that only what is counted is compared. The rules that are
made for English (mean length of words, stop words) are off. Writes filters.json.
"""

import json
import pathlib
import random

import datatrove.pipeline.filters.gopher_quality_filter as quality
import datatrove.pipeline.filters.gopher_repetition_filter as repetition
import regex
from datatrove.data import Document

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
WORDS = regex.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")

for module in (quality, repetition):
    module.split_into_words = lambda text, language: WORDS.findall(text)

STORY = (pathlib.Path(__file__).parents[2] / "src/story.txt").read_text()
rng = random.Random(7)


def quality_verdict(text):
    found = quality.GopherQualityFilter(
        min_avg_word_length=None, max_avg_word_length=None, min_stop_words=None
    ).filter(Document(text=text, id=""))
    return {
        "gopher_short_doc": "too-short",
        "gopher_long_doc": "too-long",
        "gopher_too_many_hashes": "hash-signs",
        "gopher_too_many_ellipsis": "ellipses",
        "gopher_too_many_bullets": "bullet-lines",
        "gopher_too_many_end_ellipsis": "ellipsis-lines",
        "gopher_below_alpha_threshold": "non-alphabetic",
    }[found[1]] if found is not True else None


def repetition_verdict(text):
    found = repetition.GopherRepetitionFilter().filter(Document(text=text, id=""))
    if found is True:
        return None
    why = found[1]
    if why.startswith("top_"):
        return "frequent-words"
    if why.startswith("duplicated_"):
        return "repeated-words"
    return "repeated-paragraphs" if "para" in why else "repeated-lines"


sentences = [sentence.strip() for sentence in STORY.replace("\n", " ").split(". ")]
words = STORY.split()


def some(count):
    """Words in a random order, which repeat little."""
    return [rng.choice(words) for _ in range(count)]


def texts():
    for at in range(12):
        start = rng.randrange(len(STORY) - 3000)
        yield STORY[start : start + rng.randint(100, 3000)]
    for count in (10, 49, 50, 51, 60):
        yield " ".join(f"word{at}" for at in range(count)) + " . , ;"
    for part in (0.05, 0.09, 0.11, 0.2):
        for mark in ("#", "...", "\u2026"):
            chosen = some(200)
            for at in rng.sample(range(200), int(200 * part)):
                chosen[at] += mark
            yield " ".join(chosen)
    for part in (0.2, 0.29, 0.35, 0.88, 0.95, 1.0):
        for begin, end in (("- ", ""), ("  \u2022 ", ""), ("", "..."), ("", "\u2026  ")):
            lines = [" ".join(some(12)) for _ in range(40)]
            for at in range(int(40 * part)):
                lines[at] = begin + lines[at] + end
            yield "\n".join(lines)
    for part in (0.1, 0.18, 0.22, 0.5):
        chosen = some(150)
        for at in rng.sample(range(150), int(150 * part)):
            chosen[at] = str(rng.randrange(1000))
        yield " ".join(chosen)
    for between in ("\n", "\n\n", "\n\n\n"):
        for part in (0.1, 0.19, 0.21, 0.28, 0.32, 0.6):
            for short in (False, True):
                lines = [" ".join(some(15)) for _ in range(50)]
                again = "short" if short else lines[0]
                for at in range(1, 1 + int(50 * part)):
                    lines[at] = again
                rng.shuffle(lines)
                yield between.join(lines) + rng.choice(["", "\n", "\n\n"])
    for n in range(2, 12):
        for every in (4, 6, 8, 10, 12, 16):
            gram = " ".join(some(n))
            parts = []
            for _ in range(20):
                parts += [gram, " ".join(f"{word}{rng.randrange(100)}" for word in some(every))]
            yield " ".join(parts)
    for _ in range(6):
        letters = [chr(rng.randrange(0x4E00, 0x4F00)) for _ in range(rng.randint(20, 400))]
        yield "".join(letters) + "\u3002"
    yield "\u4e2d\u6587" * 100
    yield " \n "


cases = [
    {"text": text, "quality": quality_verdict(text), "repetition": repetition_verdict(text)}
    for text in texts()
    if text.strip()
]
path = pathlib.Path(__file__).parent / "filters.json"
path.write_text(json.dumps(cases, indent=0, ensure_ascii=False) + "\n")
counts = {}
for case in cases:
    for kind in ("quality", "repetition"):
        counts[case[kind]] = counts.get(case[kind], 0) + 1
print(len(cases), "texts", path.stat().st_size, "bytes", counts)
