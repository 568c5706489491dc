"""DPO beside TRL's DPOTrainer: the log-probabilities of the answers at the start, and loss and rewards
of every step, of a tiny model that `train` and TRL train with the same settings.

usage: dpo.py TRAIN [--golden FOLDER]

TRAIN is the program `train`. With --golden, the model, the pairs and TRL's figures are kept in FOLDER,
for `train/tests/chat.rs`.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

TOLERANCE = 1e-4
STEPS = 6
RATE = 3e-3
BETA = 0.3
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Nothing follows the end of an answer: TRL compares all that the template writes behind the prompt, and
# `train` only the answers.
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


# All layouts: implicit and explicit prompts, as conversations and as texts.
PAIRS = [
    {"chosen": [user("What color is the sky?"), assistant("It is blue.")],
     "rejected": [user("What color is the sky?"), assistant("It is green, as the sea is.")]},
    {"prompt": [user("Hi."), assistant("Hello."), user("And you?")],
     "chosen": [assistant("Fine.")], "rejected": [assistant("Bad")]},
    {"prompt": "Count to three.", "chosen": "1 2 3", "rejected": "3 1 2"},
    {"chosen": "One word for snow: white", "rejected": "One word for snow: it is cold and white"},
    {"prompt": "A rhyme on cat?", "chosen": [user("A rhyme on cat?"), assistant("Hat.")],
     "rejected": [user("A rhyme on cat?"), assistant("Dog.")]},
]


def conversation(pair):
    """The same pair with an explicit prompt of messages."""
    if pair is PAIRS[0]:
        return {"prompt": pair["chosen"][:1], "chosen": pair["chosen"][1:], "rejected": pair["rejected"][1:]}
    if pair is PAIRS[2]:
        return {"prompt": [user(pair["prompt"])], "chosen": [assistant(pair["chosen"])],
                "rejected": [assistant(pair["rejected"])]}
    if pair is PAIRS[3]:
        return {"prompt": [user("One word for snow:")], "chosen": [assistant(" white")],
                "rejected": [assistant(" it is cold and white")]}
    if pair is PAIRS[4]:
        return {"prompt": pair["chosen"][:1], "chosen": pair["chosen"][1:], "rejected": pair["rejected"][1:]}
    return pair


def make_model(folder):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: at for at, token in enumerate(alphabet + SPECIAL)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token=None
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128, tie_word_embeddings=True,
        initializer_range=0.2, bos_token_id=None, eos_token_id=vocabulary["<|im_end|>"],
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def ours(program, folder, scratch):
    data = scratch / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    config = scratch / "config.toml"
    config.write_text(
        f"""
        [run]
        dir = "{scratch / "run"}"
        [data]
        path = "{data}"
        format = "chat"
        context = 128
        train_fraction = 0.8
        [train]
        init_from = "{folder}"
        batch_size = 4
        epochs = {STEPS}
        eval_interval = {STEPS}
        dpo_beta = {BETA}
        precision = "f32"
        sample_tokens = 0
        [optimizer]
        learning_rate = {RATE}
        weight_decay = 0.0
        grad_clip = 1.0
        [schedule]
        kind = "constant"
        warmup_steps = 0
        [eval]
        golden_windows = 1
        """
    )
    subprocess.run([program, "--config", config], check=True)
    lines = [json.loads(line) for line in (scratch / "run/metrics.jsonl").read_text().splitlines()]
    return load_file(scratch / "run/reference.safetensors")["log_probabilities"], lines


def log_probability(model, tokenizer, prompt, answer):
    before = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    ids = tokenizer.apply_chat_template(prompt + answer, return_dict=False)
    with torch.no_grad():
        found = model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
    return found[range(len(before) - 1, len(ids) - 1), ids[len(before):]].sum().item()


def trl(folder, scratch, validation):
    """The log of DPOTrainer with one pair left out, which it is evaluated on."""
    chosen = [conversation(pair) for at, pair in enumerate(PAIRS) if at != validation]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    settings = DPOConfig(
        output_dir=str(scratch / "trl"), per_device_train_batch_size=4, num_train_epochs=STEPS,
        learning_rate=RATE, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0, beta=BETA,
        loss_type="sigmoid", logging_steps=1, report_to=[], save_strategy="no", use_cpu=True, bf16=False,
        gradient_checkpointing=False, max_length=None, eval_strategy="steps", eval_steps=STEPS,
    )
    trainer = DPOTrainer(
        model=model, args=settings, processing_class=AutoTokenizer.from_pretrained(folder),
        train_dataset=Dataset.from_list(chosen), eval_dataset=Dataset.from_list([conversation(PAIRS[validation])]),
    )
    trainer.train()
    log = trainer.state.log_history
    return [line for line in log if "loss" in line], next(line for line in log if "eval_loss" in line)


NAMES = ["rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"]


def worst(steps, evaluation, lines):
    off = [abs(steps[at]["loss"] - lines[at + 1]["train_loss"]) for at in range(STEPS)]
    # At the start chosen and rejected answers differ by rounding only: no accuracy is right.
    off += [
        abs(steps[at][name] - lines[at + 1][name])
        for at in range(STEPS) for name in NAMES if at > 0 or name != "rewards/accuracies"
    ]
    off.append(abs(evaluation["eval_loss"] - lines[-1]["val_loss"]))
    off += [abs(evaluation[f"eval_{name}"] - lines[-1][f"val_{name}"]) for name in NAMES]
    return max(off)


def main():
    program = sys.argv[1]
    golden = Path(sys.argv[3]) if sys.argv[2:3] == ["--golden"] else None
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        folder = scratch / "model"
        make_model(folder)
        reference, lines = ours(program, folder, scratch)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        sums = [
            [log_probability(model, tokenizer, pair["prompt"], pair[side]) for side in ("chosen", "rejected")]
            for pair in map(conversation, PAIRS)
        ]
        off = (torch.tensor(sums) - reference).abs().max().item()
        assert off < TOLERANCE, f"log-probabilities {reference}, expected {sums}"
        print(f"log-probabilities of the start: off by {off:.1e}")
        for validation in range(len(PAIRS)):
            steps, evaluation = trl(folder, scratch, validation)
            off = worst(steps, evaluation, lines)
            if off < TOLERANCE:
                print(f"{STEPS} steps of DPO, pair {validation + 1} left out: off by {off:.1e}")
                break
        else:
            sys.exit(f"no split gives {lines}")
        if golden:
            golden.mkdir(parents=True, exist_ok=True)
            for name in ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]:
                shutil.copy(folder / name, golden / name)
            shutil.copy(scratch / "pairs.jsonl", golden / "pairs.jsonl")
            keep = lambda line, keys: {key: line[key] for key in keys}
            figures = {
                "reference": sums,
                "steps": [keep(line, ["loss", *NAMES]) for line in steps],
                "evaluation": keep(evaluation, ["eval_loss", *(f"eval_{name}" for name in NAMES)]),
            }
            (golden / "expected.json").write_text(json.dumps(figures, indent=1) + "\n")


main()
