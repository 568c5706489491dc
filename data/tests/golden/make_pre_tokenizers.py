"""Ids that Hugging Face's tokenizers package gives with each pre-tokenizer that a GGUF can name.

    python make_pre_tokenizers.py

One vocabulary is trained on the texts themselves with no pre-tokenizer but bytes, so that its tokens
reach over words and every cut shows in the ids; the pre-tokenizers are put before it one by one.
Writes pre_tokenizers.json.
"""

import json
import pathlib

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

# As in the tokenizer.json of Llama 3, Qwen 2.5, Qwen 3.5, Mistral Nemo and Phi-4-mini.
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN35 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

TEXTS = [
    "Hello world! It's 2024, and 1234567 DON'T we'LL they'Ve.",
    "  leading,   inner and trailing spaces   ",
    "line\nline\r\n\r\n  line\t\ttab \n \n",
    "HTTPServer CamelCase ÉCOLE Éa ǅ straße ΑΒγ aB",
    "cafe\u0301 नमस्ते ภาษาไทย 中文字符 日本語 한국어",
    "½ ② ٣٤٥ 1,234.56 x²",
    "...!!! --- /path/to/file\n// comment\n$_[0]='a';",
    "😀👍🏽 \u200d\u00a0\u3000\u2028 end",
    "''s 'S 'sS I'm'd",
    "",
    " ",
    "\n",
]

bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
base = Tokenizer(models.BPE())
base.pre_tokenizer = bytes_only
base.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=800, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
)
base.train_from_iterator(TEXTS, trainer)
base.add_special_tokens(["<|endoftext|>"])


def split(pattern):
    cut = pre_tokenizers.Split(Regex(pattern), "isolated", False)
    return pre_tokenizers.Sequence([cut, bytes_only])


gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
cases = {}
for name, pre, nfc, ignore_merges in [
    ("gpt-2", gpt2, False, False),
    ("smollm", digits, False, False),
    ("llama-bpe", split(LLAMA3), False, True),
    ("dbrx", split(LLAMA3), False, False),
    ("qwen2", split(QWEN2), True, False),
    ("qwen35", split(QWEN35), True, False),
    ("tekken", split(TEKKEN), False, True),
    ("gpt-4o", split(GPT4O), False, False),
]:
    tokenizer = Tokenizer.from_str(base.to_str())
    tokenizer.pre_tokenizer = pre
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.model.ignore_merges = ignore_merges
    file = json.loads(tokenizer.to_str())
    assert file["model"]["ignore_merges"] is ignore_merges
    cases[name] = {
        "pre_tokenizer": file["pre_tokenizer"],
        "normalizer": file["normalizer"],
        "ignore_merges": ignore_merges,
        "ids": [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS],
    }
golden = {"tokenizer": json.loads(base.to_str()), "texts": TEXTS, "cases": cases}
pathlib.Path("pre_tokenizers.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")
