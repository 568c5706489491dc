"""Trains a SentencePiece BPE with byte fallback, turns it into a tokenizer.json as transformers
does, and writes what SentencePiece itself makes of the test inputs.

    python make_sentencepiece.py TEXT INPUTS

TEXT is any text (the checked-in files are from the-verdict.txt), INPUTS llama.cpp's test inputs.
Writes sentencepiece.json (the tokenizer) and sentencepiece.ids.json (a list of lists).
"""

import json
import pathlib
import sys

import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers

text, inputs = sys.argv[1:]
sentencepiece.SentencePieceTrainer.train(
    input=text,
    model_prefix="/tmp/pieces",
    model_type="bpe",
    vocab_size=600,
    byte_fallback=True,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    allow_whitespace_only_pieces=True,
    split_digits=True,
    num_threads=1,
)
model = sentencepiece.SentencePieceProcessor(model_file="/tmp/pieces.model")

pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(model.vocab_size())]
ids = {piece: i for i, (piece, _) in enumerate(pieces)}
# transformers' generate_merges: every split of every piece, best score first.
merges = []
for piece, score in pieces[259:]:
    local = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
    local = [(l, r) for l, r in local if l in ids and r in ids]
    local.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    merges += [(score, pair) for pair in local]
merges = [pair for _, pair in sorted(merges, key=lambda entry: entry[0], reverse=True)]
tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
tokenizer.decoder = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
)
tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
tokenizer.save("sentencepiece.json", pretty=False)
cases = pathlib.Path(inputs).read_text().split("\n__ggml_vocab_test__\n")
pathlib.Path("sentencepiece.ids.json").write_text(json.dumps([model.encode(case) for case in cases]) + "\n")
bad = [c for c in cases if tokenizer.encode(c, add_special_tokens=False).ids != model.encode(c)]
print("differ between tokenizers and sentencepiece:", bad, file=sys.stderr)
