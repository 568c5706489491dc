"""The loss of a model on conversations beside transformers': a run of `train` with `data.format =
"chat"` reports the losses of both splits before its first step; they must be the means over the
answers' tokens that transformers computes, one conversation at a time.

usage: chat_loss.py TRAIN FOLDER, the program `train` and a Hugging Face folder of a chat model
"""

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 2e-5
CONVERSATIONS = [
    [("user", "What is the capital of France?"), ("assistant", "The capital of France is Paris.")],
    [
        ("system", "Answer in one word."), ("user", "Which colour has snow?"), ("assistant", "White."),
        ("user", "And coal?"), ("assistant", "Black."),
    ],
    [("user", "Count to five."), ("assistant", "1, 2, 3, 4, 5"), ("user", "Back."), ("assistant", "5, 4, 3, 2, 1")],
    [("user", "Say 東京 in English."), ("assistant", "Tokyo, the capital of Japan.")],
    [("user", "A rhyme on cat?"), ("assistant", "Hat, of course; or bat.")],
]


def loss(model, tokenizer, messages):
    """Sum of the answers' losses in nats, and the number of their tokens."""
    text, spans = "", []
    for end, message in enumerate(messages, 1):
        if message["role"] == "assistant":
            before = tokenizer.apply_chat_template(
                messages[: end - 1], tokenize=False, add_generation_prompt=True
            )
            behind = tokenizer.apply_chat_template(messages[:end], tokenize=False)
            spans.append((len(before), len(behind.rstrip())))
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    found = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    ids = torch.tensor([found["input_ids"]])
    labels = torch.tensor([[
        token if any(start < to and end > begin for begin, to in spans) else -100
        for token, (start, end) in zip(found["input_ids"], found["offset_mapping"])
    ]])
    with torch.no_grad():
        logits = model(ids).logits[0, :-1].double()
    wanted = labels[0, 1:]
    total = torch.nn.functional.cross_entropy(logits, wanted, ignore_index=-100, reduction="sum")
    return total.item(), int((wanted != -100).sum())


def main():
    program, folder = sys.argv[1:3]
    conversations = [
        [{"role": role, "content": content} for role, content in turns] for turns in CONVERSATIONS
    ]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        data = scratch / "chats.jsonl"
        data.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in conversations))
        config = scratch / "config.toml"
        config.write_text(
            f"""
            [run]
            dir = "{scratch / "run"}"
            [data]
            path = "{data}"
            format = "chat"
            context = 160
            train_fraction = 0.6
            [train]
            init_from = "{Path(folder).resolve()}"
            batch_size = 1
            max_steps = 1
            precision = "f32"
            sample_tokens = 0
            """
        )
        subprocess.run([program, "--config", config], check=True)
        first = json.loads((scratch / "run/metrics.jsonl").read_text().splitlines()[0])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    losses = [loss(model, tokenizer, turns) for turns in conversations]

    def mean(chosen):
        return sum(losses[at][0] for at in chosen) / sum(losses[at][1] for at in chosen)

    everything = set(range(len(losses)))
    for chosen in itertools.combinations(everything, 3):
        train, validation = mean(chosen), mean(everything - set(chosen))
        off = max(abs(train - first["train_loss"]), abs(validation - first["val_loss"]))
        if off < TOLERANCE:
            print(f"losses {train:.6f} and {validation:.6f}, off by {off:.1e}")
            return
    sys.exit(f"no split of {losses} gives {first['train_loss']} and {first['val_loss']}")


main()
