"""What transformers makes of folders that have no tokenizer.json.

    python make_older_files.py TEXT

TEXT is any text (the checked-in files are from the-verdict.txt). Writes pieces.model, a model that
SentencePiece trained, and older_files.json: for each case the files of a folder, the ids of some
texts, and the tokens that transformers puts before a text.
"""

import json
import os
import pathlib
import shutil
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import sentencepiece
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

TEXTS = [
    "Hello there, it's 12 o'clock",
    " hi",
    "two  spaces\tand\n\nlines ",
    "caf\u00e9 cafe\u0301 \u4e2d\u6587 \U0001f600",
    "</s> hi<s>x<|endoftext|> y",
    "\u2581hi \u2581",
    "",
]
here = pathlib.Path.cwd()
work = pathlib.Path(tempfile.mkdtemp())
sentencepiece.SentencePieceTrainer.train(
    input=sys.argv[1],
    model_prefix=str(work / "pieces"),
    model_type="bpe",
    vocab_size=420,
    byte_fallback=True,
    normalization_rule_name="identity",
    user_defined_symbols=["<tool>"],
    num_threads=1,
)
shutil.copy(work / "pieces.model", here / "pieces.model")
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
merges = [("h", "e"), ("he", "l"), ("Ġ", "t"), ("Ġt", "he"), ("i", "t"), ("Ġ", "Ġ"), ("Ã", "©"), ("1", "2")]
vocab = {letter: id for id, letter in enumerate(alphabet)}
vocab.update({left + right: len(alphabet) + at for at, (left, right) in enumerate(merges)})
bytes_files = {
    "vocab.json": json.dumps(vocab, ensure_ascii=False),
    "merges.txt": "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges),
}
qwen = {
    "tokenizer_class": "Qwen2Tokenizer",
    "added_tokens_decoder": {
        "264": {"content": "<|endoftext|>", "special": True, "normalized": False},
        "265": {"content": "<s>", "special": False, "lstrip": True, "normalized": False},
    },
}
cases = {
    "gpt2 by its model": (bytes_files, {"config.json": {"model_type": "gpt2"}}),
    "gpt2": (bytes_files, {"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "pad_token": "<pad>"}}),
    "qwen2": (bytes_files, {"tokenizer_config.json": qwen}),
    "llama": ({}, {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}}),
    "llama, legacy": ({}, {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizerFast", "legacy": True}}),
    "llama, no prefix": ({}, {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False}}),
    "gemma": ({}, {"tokenizer_config.json": {"tokenizer_class": "GemmaTokenizer", "bos_token": "<s>"}}),
    "no class": ({}, {"config.json": {"model_type": "llama"}}),
}
golden = {"texts": TEXTS, "cases": {}}
for name, (texts, files) in cases.items():
    folder = work / name.replace(" ", "-")
    folder.mkdir()
    for file, text in texts.items():
        (folder / file).write_text(text)
    if not texts:
        shutil.copy(work / "pieces.model", folder / "tokenizer.model")
    for file, value in files.items():
        (folder / file).write_text(json.dumps(value))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    before = tokenizer("x").input_ids
    plain = tokenizer("x", add_special_tokens=False).input_ids
    golden["cases"][name] = {
        "class": type(tokenizer).__name__,
        "files": texts | {file: json.dumps(value) for file, value in files.items()},
        "has_pieces": not texts,
        "before": before[: len(before) - len(plain)],
        "ids": [tokenizer(text, add_special_tokens=False).input_ids for text in TEXTS],
    }
text = json.dumps(golden, ensure_ascii=False, indent=1)
(here / "older_files.json").write_text(text + "\n")
