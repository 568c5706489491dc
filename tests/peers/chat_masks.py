"""Tokens of conversations and which of them train, beside transformers' apply_chat_template with
return_assistant_tokens_mask, for every training template that `trl` carries: in its own form, which
marks answers, and in the form without marks, in which answers are found turn by turn.

usage: chat_masks.py PROGRAM FOLDER, the example `chat_tokens` of the crate `data`, and a Hugging
Face folder with a tokenizer
"""

import datetime
import json
import subprocess
import sys
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import transformers.utils.chat_template_utils
from transformers import AutoTokenizer

USER = {"role": "user", "content": "What is 東京, and  why?\n"}
ANSWER = {"role": "assistant", "content": "A city. It's \"big\" ☀."}
MORE = {"role": "user", "content": "def f(x):\n    return x"}
CODE = {"role": "assistant", "content": "\n\nThat is code:\n\n```python\nf(1)\n```\n"}
SYSTEM = {"role": "system", "content": "Be brief."}
EMPTY = {"role": "assistant", "content": ""}
CONVERSATIONS = [
    [USER, ANSWER],
    [SYSTEM, USER, ANSWER],
    [USER, ANSWER, MORE, CODE],
    [SYSTEM, MORE, CODE, USER, ANSWER, MORE, EMPTY],
]


class Today(datetime.datetime):
    """The date that training texts have."""

    @classmethod
    def now(cls, *args):
        return cls(2024, 7, 26)


transformers.utils.chat_template_utils.datetime = Today


def expected(tokenizer, template, messages):
    """Ids and mask, or None where the template refuses the conversation."""
    try:
        found = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=True, return_dict=True,
            return_assistant_tokens_mask=True,
        )
    except Exception:  # whatever a template raises
        return None
    return found["input_ids"], [bool(mask) for mask in found["assistant_masks"]]


def main():
    program, folder = sys.argv[1:3]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    templates = Path(find_spec("trl").origin).parent / "chat_templates"
    questions, wanted = [], []
    for path in sorted(templates.glob("*_training.jinja")):
        marked = path.read_text()
        plain = path.with_name(path.name.replace("_training", ""))
        for messages in CONVERSATIONS:
            want = expected(tokenizer, marked, messages)
            for template in [marked] + [plain.read_text()] * plain.exists():
                record = {"messages": messages}
                questions.append({"template": template, "record": record, "last_only": False})
                wanted.append((path.stem, template is marked, messages, want))
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    done = subprocess.run([program, folder], input=lines, capture_output=True, text=True, check=True)
    counts = {"equal": 0, "refused by both": 0, "refused turn by turn": 0, "two forms write two texts": 0, "differ": 0}
    for line, (name, is_marked, messages, want) in zip(
        done.stdout.splitlines(), wanted, strict=True
    ):
        found = json.loads(line)
        tokens = found.get("tokens")
        if tokens is None:
            if want is None:
                counts["refused by both"] += 1
            elif not is_marked:
                counts["refused turn by turn"] += 1
            else:
                counts["differ"] += 1
                print(f"{name}: refused: {found['error']}")
            continue
        same = want is not None and tokens["ids"] == want[0]
        if same and is_marked:
            same = tokens["trains"] == want[1]
        elif same:
            same = is_behind_prompt(tokenizer, want, tokens["trains"])
        elif want is not None and not is_marked:
            counts["two forms write two texts"] += 1
            continue
        counts["equal" if same else "differ"] += 1
        if not same:
            print(f"{name} ({'marks' if is_marked else 'turn by turn'}): {messages}")
            print("   expected", show(tokenizer, *want) if want else "a refusal")
            print("   found   ", show(tokenizer, tokens["ids"], tokens["trains"]))
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    if counts["differ"] or counts["equal"] < 150:
        sys.exit("the masks of conversations differ from transformers'")


def is_behind_prompt(tokenizer, want, trains):
    """Whether each answer of the mask `trains` is one of `want` without its beginning, which the
    template writes for the model, and without white space behind it."""
    ids, mask = want
    for marked, run in groupby(zip(ids, mask, trains), key=lambda token: token[1]):
        run = list(run)
        own = [token[2] for token in run]
        if not marked and any(own):
            return False
        if marked:
            rest = own[own.index(True):] if True in own else []
            behind = rest[rest.index(False):] if False in rest else []
            text = tokenizer.decode([token[0] for token in run[len(run) - len(behind):]])
            if any(behind) or behind and text.strip() or not rest:
                return False
    return True


def show(tokenizer, ids, mask):
    return "|".join(
        ("*" if keep else "") + repr(tokenizer.decode([token]))[1:-1] for token, keep in zip(ids, mask)
    )


main()
