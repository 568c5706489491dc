#!/usr/bin/env python3
"""Whether Hugging Face's `tokenizers` makes the same of our tokenizer.json as we do.

usage: data encode TEXT -o tokens.bin --tokenizer gpt2|simple --save-tokenizer tokenizer.json
       hugging_face.py TEXT tokens.bin tokenizer.json
Exits with 1 and the first difference if the ids or the decoded text differ.
needs: pip install tokenizers
"""
import re, struct, sys
import tokenizers


def read_tokens(path):
    data = open(path, "rb").read()
    width = struct.unpack_from("<I", data, 12)[0]
    return [id for (id,) in struct.iter_unpack("<H" if width == 2 else "<I", data[128:])]


def main():
    text = open(sys.argv[1], encoding="utf-8", newline="").read()
    ours, tokenizer = read_tokens(sys.argv[2]), tokenizers.Tokenizer.from_file(sys.argv[3])
    theirs = tokenizer.encode(text).ids
    if ours != theirs:
        at = next((i for i, pair in enumerate(zip(ours, theirs)) if len(set(pair)) > 1), "the end")
        sys.exit(f"{len(ours)} and {len(theirs)} tokens, first difference at {at}")
    decoded, expected = tokenizer.decode(ours, skip_special_tokens=False), text
    if "<|unk|>" in tokenizer.get_vocab():  # words: spaces are lost, as in the book
        words = " ".join(tokenizer.id_to_token(id) for id in ours)
        expected = re.sub(r"\s+([,.:;?!\"()'])", r"\1", words)
    if decoded != expected:
        sys.exit("the ids are the same, the decoded text is not")
    print(f"{len(ours)} tokens and the decoded text are the same")


if __name__ == "__main__":
    main()
