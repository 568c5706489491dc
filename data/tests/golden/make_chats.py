"""Writes what transformers makes of conversations: chats.json, a list of {tokenizer, bos_token,
eos_token, template, plain, messages, ids, trains}. `template` marks answers with {% generation %},
`plain` is the same without; `trains` is `return_assistant_tokens_mask`.

    python make_chats.py > chats.json
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("Ċ", "Ċ"), ("i", "m"), ("Ġ", "b"), (":", "Ġ")]


def with_specials(tokenizer, specials):
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in specials])
    return tokenizer.to_str()


def byte_level():
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {text: number for number, text in enumerate(letters)}
    for left, right in MERGES:
        vocab[left + right] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=MERGES))
    # Without GPT-2's pattern, so that merges go over the ends of answers.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return with_specials(tokenizer, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])


def lower_case():
    words = ["[UNK]", "[CLS]", "[SEP]", "user", "assistant", "hello", "he", "##ll", "b", ":", ".", "a"]
    tokenizer = Tokenizer(
        models.WordPiece(vocab={word: at for at, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return with_specials(tokenizer, ["[CLS]", "[SEP]"])


# The answer follows the turn's head with and without a space, and with line breaks that merge.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LINES = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}"
    "{%- generation -%} {{ m.content + eos_token }} {%- endgeneration %}{% else %}{{ m.content }}\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
SENTENCEPIECE = (Path(__file__).parent / "sentencepiece.json").read_text()
TOKENIZERS = [
    ("byte level", byte_level(), CHATML, "<|endoftext|>", "<|im_end|>"),
    ("byte level", byte_level(), LINES, "<|endoftext|>", "<|im_end|>"),
    ("sentencepiece", SENTENCEPIECE, LINES, "<s>", "</s>"),
    ("lower case", lower_case(), LINES, "[CLS]", "[SEP]"),
]
ANSWERS = ["hello", "\n\nhell b", "", " b: 東京 ☀\n", "HELLO a."]


def cases():
    for name, text, template, bos, eos in TOKENIZERS:
        peer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(text))
        peer.bos_token, peer.eos_token = bos, eos
        for first, second in zip(ANSWERS, ANSWERS[1:] + ANSWERS[:1]):
            messages = [
                {"role": "user", "content": "he "},
                {"role": "assistant", "content": first},
                {"role": "user", "content": "b"},
                {"role": "assistant", "content": second},
            ]
            found = peer.apply_chat_template(
                messages, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
            )
            plain = template
            for mark in ["{% generation %}", "{%- generation -%} ", "{% endgeneration %}", " {%- endgeneration %}"]:
                plain = plain.replace(mark, "")
            yield {
                "name": name,
                "tokenizer": "sentencepiece" if name == "sentencepiece" else text,
                "bos_token": bos,
                "eos_token": eos,
                "template": template,
                "plain": plain,
                "messages": messages,
                "ids": found["input_ids"],
                "trains": [bool(mask) for mask in found["assistant_masks"]],
            }


print(json.dumps(list(cases()), ensure_ascii=False, indent=1))
