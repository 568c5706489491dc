"""Writes templates.json: which chat template transformers takes from a folder.

    pip install transformers && python make_templates.py

Each case is the files of a folder besides tokenizer.json, and what `get_chat_template()` of the
tokenizer that `AutoTokenizer` makes of it returns; null where it raises.
"""

import json
import pathlib
import tempfile

import transformers
from tokenizers import Tokenizer, models

LIST = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "listed"}]
CASES = [
    {},
    {"config": "stated"},
    {"config": LIST},
    {"config": LIST + [{"name": "default", "template": "last"}]},
    {"config": LIST[:1]},
    {"config": {"default": "by name", "rag": "other"}},
    {"chat_template.jinja": "file"},
    {"chat_template.jinja": "file", "config": "stated"},
    {"chat_template.jinja": "file", "config": LIST},
    {"additional_chat_templates/tool_use.jinja": "extra", "config": "stated"},
    {"additional_chat_templates/tool_use.jinja": "extra", "chat_template.jinja": "file"},
    {"additional_chat_templates/default.jinja": "extra", "config": "stated"},
    {"additional_chat_templates/default.jinja": "extra", "chat_template.jinja": "file"},
    {"additional_chat_templates/readme.txt": "no template", "config": "stated"},
    {"chat_template.json": json.dumps({"chat_template": "legacy"}), "config": "stated"},
    {"chat_template.json": json.dumps({"chat_template": "legacy"}), "chat_template.jinja": "file"},
]


def chosen(files):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(folder / "tokenizer.json"))
        for path, text in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        try:
            return tokenizer.get_chat_template()
        except ValueError:
            return None


def main():
    cases = []
    for case in CASES:
        files = dict(case)
        config = {"tokenizer_class": "PreTrainedTokenizerFast"}
        if "config" in files:
            config["chat_template"] = files.pop("config")
        files["tokenizer_config.json"] = json.dumps(config)
        cases.append({"files": files, "template": chosen(files)})
    out = {"transformers": transformers.__version__, "cases": cases}
    path = pathlib.Path(__file__).with_name("templates.json")
    path.write_text(json.dumps(out, indent=1) + "\n")


main()
