#!/usr/bin/env python3
"""Fine-tunes a Hugging Face folder with TRL on a text, and prints speed and memory as JSON.

usage: finetune_trl.py MODEL TEXT full|lora f32|bf16 STEPS

Windows of 512 tokens, 4 in a step, AdamW, no gradient checkpointing: what finetune_speed.sh asks of
`train`. The first two steps are left out of the speed. LoRA has rank 16 on every matrix of a block.
"""
import json
import resource
import statistics
import sys
import tempfile
import time

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

WINDOW, WINDOWS = 512, 4


class Times(TrainerCallback):
    def __init__(self):
        self.seconds = []

    def on_step_begin(self, *_, **__):
        self.started = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.seconds.append(time.perf_counter() - self.started)


def main():
    model, text, mode, precision, steps = sys.argv[1:]
    torch.set_num_threads(len(__import__("os").sched_getaffinity(0)))
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = tokenizer(open(text).read(), add_special_tokens=False)["input_ids"]
    rows = [ids[at : at + WINDOW] for at in range(0, len(ids) - WINDOW, WINDOW)][: WINDOWS * int(steps)]
    if len(rows) < WINDOWS * int(steps):
        sys.exit(f"{text} has {len(rows)} windows, {WINDOWS * int(steps)} are needed")
    times = Times()
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=SFTConfig(
            output_dir=tempfile.mkdtemp(), max_steps=int(steps), per_device_train_batch_size=WINDOWS,
            max_length=WINDOW, learning_rate=1e-4, bf16=precision == "bf16", use_cpu=True, packing=False,
            gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to=[],
            dataset_kwargs={"skip_prepare_dataset": True}, disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"input_ids": rows, "labels": rows}),
        processing_class=tokenizer,
        peft_config=lora if mode == "lora" else None,
        callbacks=[times],
    )
    result = trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(json.dumps({
        "tokens_per_s": WINDOW * WINDOWS / statistics.median(times.seconds[2:]),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }))


if __name__ == "__main__":
    main()
