"""Our tokenizers against transformers: equal ids on random text, for every kind of tokenizer, read
from a Hugging Face folder and from the GGUF that `export` makes of it.

    python tokenizer_ids.py EXPORT IDS

EXPORT is the `export` command, IDS the example program of data, which answers with the ids of texts. A text that a vocabulary cannot express must be refused by name where transformers drops a
part of it or fails.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

export, ids = sys.argv[1:]
random.seed(5)
torch.manual_seed(5)

ATOMS = [
    "the", " the", "The", "hello", "ing", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "12345", "½",
    "٣٤", ".", " --", "'s", "'LL", "▁", "▁▁", "café", "e\u0301", "ÉCOLE", "HTTPServer", "ǅ", "中文", "한국어",
    "नमस्ते", "😀\u200d", "ﬁ", "\x04", "<|endoftext|>", "<|user|>", "<s>", "</s>", "<tool>", "x<tool> y",
]
CORPUS = ["".join(random.choices(ATOMS[:36], k=12)) for _ in range(400)]


def texts(count):
    for _ in range(count):
        if random.random() < 0.3:
            letters = [chr(random.choice([random.randrange(32, 127), random.randrange(1, 0xD800), random.randrange(0xE000, 0x11000)])) for _ in range(20)]
            yield "".join(letters)
        else:
            yield "".join(random.choices(ATOMS, k=random.randrange(14)))


def byte_level(pre, normalizer=None, size=420, alphabet=None, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    letters = pre_tokenizers.ByteLevel.alphabet() if alphabet is None else alphabet
    corpus = CORPUS if alphabet is None else ["hello the thing"] * 9
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, initial_alphabet=letters, show_progress=False))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def split(pattern):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def pieces(normalizer, pre):
    """BPE over characters with byte fallback, its merges as transformers makes them from a model."""
    words = Tokenizer(models.BPE())
    words.normalizer = normalizers.Replace(" ", "▁")
    words.train_from_iterator(["the hello thing 12 café"] * 4 + CORPUS[:40], trainers.BpeTrainer(vocab_size=200, show_progress=False, limit_alphabet=60))
    learnt = [text for text, _ in sorted(words.get_vocab().items(), key=lambda entry: entry[1])]
    vocab = {text: id for id, text in enumerate(["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)])}
    for text in learnt:
        vocab.setdefault(text, len(vocab))
    merges = [(text[:at], text[at:]) for text in vocab for at in range(1, len(text)) if vocab[text] > 258 and text[:at] in vocab and text[at:] in vocab]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre:
        tokenizer.pre_tokenizer = pre
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def others():
    whitespace = pre_tokenizers.Whitespace()
    for name, model, trainer in [
        ("WordLevel", models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False)),
        ("WordLevel without unknown", models.WordLevel(unk_token="<none>"), trainers.WordLevelTrainer(show_progress=False)),
        ("WordPiece", models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]"], show_progress=False)),
        ("Unigram", models.Unigram(), trainers.UnigramTrainer(vocab_size=300, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)),
        ("BPE of words", models.BPE(unk_token=None), trainers.BpeTrainer(vocab_size=300, show_progress=False)),
    ]:
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = whitespace if name != "Unigram" else pre_tokenizers.Metaspace()
        tokenizer.train_from_iterator(CORPUS, trainer)
        yield name, tokenizer


def kinds():
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    golden = json.loads((pathlib.Path(__file__).parents[2] / "data/tests/golden/pre_tokenizers.json").read_text())
    yield "gpt2", byte_level(gpt2)
    yield "gpt2 with a prefix space", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    yield "gpt2 without most bytes", byte_level(gpt2, alphabet=[])
    for name, case in golden["cases"].items():
        file = json.loads(byte_level(gpt2).to_str())
        file["pre_tokenizer"], file["normalizer"] = case["pre_tokenizer"], case["normalizer"]
        file["model"]["ignore_merges"] = case["ignore_merges"]
        yield name, Tokenizer.from_str(json.dumps(file))
    yield "another pattern", byte_level(split(r"\p{L}+|\p{N}{1,2}|[^\p{L}\p{N}]"))
    strips = byte_level(gpt2)
    strips.add_special_tokens([AddedToken("<|user|>", rstrip=True, normalized=False), AddedToken("<s>", lstrip=True, normalized=False)])
    strips.add_tokens([AddedToken("<tool>", single_word=True), AddedToken("ing", normalized=True)])
    yield "stripping special tokens", strips
    space = normalizers.Replace(" ", "▁")
    yield "pieces, legacy", pieces(normalizers.Sequence([normalizers.Prepend("▁"), space]), None)
    for scheme in ("always", "first", "never"):
        yield f"pieces, {scheme}", pieces(None, pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False))
    yield "pieces, Gemma", pieces(space, pre_tokenizers.Split(" ", "merged_with_previous"))
    yield from others()


def ours(path, lines):
    """The ids of each line, or the reason why there are none."""
    found = subprocess.run([ids, path], input="".join(json.dumps(line) + "\n" for line in lines), capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return [json.loads(line) for line in found.stdout.splitlines()]


work = pathlib.Path(tempfile.mkdtemp())
failed = checked = 0
for name, tokenizer in kinds():
    folder = work / name.replace(" ", "-")
    rows = max(tokenizer.get_vocab(True).values()) + 1
    config = LlamaConfig(vocab_size=rows, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=None)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    theirs = AutoTokenizer.from_pretrained(folder)
    gguf = work / (folder.name + ".gguf")
    report = subprocess.run([export, "--input", folder, "--output", gguf, "--json"], capture_output=True, text=True)
    assert report.returncode == 0, f"{name}: {report.stderr}"
    lines = list(texts(400))
    bad = refused = 0
    for path in (folder, gguf):
        for line, found in zip(lines, ours(path, lines), strict=True):
            checked += 1
            try:
                expected = theirs(line, add_special_tokens=False).input_ids
            except Exception:
                expected = None
            if "error" in found:
                # Theirs fails, or has dropped something without a word.
                refused += 1
                whole = expected is not None and theirs.decode(expected, clean_up_tokenization_spaces=False) == line
                bad += whole
            elif found["ids"] != expected:
                bad += 1
                if bad < 4:
                    print(f"  {path.name}: {line!r}\n    ours   {found['ids']}\n    theirs {expected}")
    failed += bad > 0
    note = json.loads(report.stdout).get("tokenizer", "exact in a GGUF")
    print(f"{name}: {bad} of {2 * len(lines)} differ, {refused} refused by name; {note}")
print(f"{checked} texts, {failed} kinds of tokenizer that differ")
sys.exit(failed > 0)
