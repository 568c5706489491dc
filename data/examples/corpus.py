"""A corpus like those that are downloaded: six compressed files of records, most of them texts, some too
short, said twice or saying nothing.

    python corpus.py FOLDER
"""

import gzip
import json
import pathlib
import random
import re
import sys

story = (pathlib.Path(__file__).parents[1] / "src/story.txt").read_text().replace("\n", " ")
sentences = re.split(r"(?<=[.!?]) +", story)
rng = random.Random(4)


def text():
    start = rng.randrange(len(sentences) - 30)
    return " ".join(sentences[start : start + rng.randint(8, 30)])


def document(earlier):
    kind = rng.random()
    if kind < 0.1 and earlier:
        return rng.choice(earlier)
    if kind < 0.15:
        return rng.choice(["Page not found.", "Read more ...", ""])
    if kind < 0.2:
        return "\n".join(["Home | About | Contact"] * rng.randint(20, 90))
    return text()


folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True)
earlier = []
for number in range(6):
    with gzip.open(folder / f"part-{number}.jsonl.gz", "wt") as file:
        for _ in range(400):
            earlier.append(document(earlier))
            file.write(json.dumps({"id": len(earlier), "text": earlier[-1]}) + "\n")
print(f"{len(earlier)} records in {folder}")
