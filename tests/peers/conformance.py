"""Every supported class against transformers, and against llama.cpp on the exported file.

For each folder of folders.py: transformers computes logits in f32 from the weights as stored, and
so does the Burn model; then our export writes a GGUF, on which the reference pass and llama.cpp
compute theirs. And back: our export as a Hugging Face folder has the same tensors, tokens and chat
template.

usage: conformance.py EXPORT LOGITS BURN_LOGITS [PART_OF_A_NAME]
       (LOGITS and BURN_LOGITS are `cargo build --workspace --example logits --example burn_logits`;
       only the folders with PART_OF_A_NAME in their name are tried)
"""

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import gguf
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel
from transformers.utils import logging

import folders

LIMIT = 1e-4
"""Largest relative RMS of the difference of two passes in f32."""

GELU_LIMIT = 5e-4
"""The same for llama.cpp where the activation is GELU, which it looks up in a table of f16."""

TEXTS = [
    "Hello, world! It's 10 past four: don't stop.",
    "  two spaces,\ta tab\n\n and 12345 numbers",
    "Grüße aus Köln, naïve café, 日本語, and an emoji 🦀",
    "",
]

MESSAGES = [{"role": "user", "content": "What time is it?"}, {"role": "assistant", "content": "Ten past four."}]


def run(*command, **arguments):
    """The output of a command that must succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **arguments)
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def relative_rms(found, expected):
    """Root mean square of the difference over that of the expected logits."""
    difference = (found - expected).double().square().mean().sqrt()
    return (difference / expected.double().square().mean().sqrt()).item()


def tensors(folder):
    """Every tensor of a folder by name, as it is stored."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}
    return found


def load(folder, dtype=torch.float32):
    """The model of a folder; experts one by one, since PyTorch's grouped products want even sizes."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    model.set_experts_implementation("eager")
    return model


def check_forward(case, folder, file, logits_program, burn_program):
    """The errors of the reference pass, of Burn and of llama.cpp; fails if the tokens differ."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = load(folder).eval()
    torch.manual_seed(1)
    tokens = torch.randint(len(tokenizer), (1, folders.CONTEXT))
    with torch.no_grad():
        expected = model(tokens).logits[0]

    question = json.dumps({"tokens": tokens[0].tolist(), "texts": TEXTS})
    answer = json.loads(run(logits_program, file, input=question))
    if case.burn:
        answer |= json.loads(run(burn_program, folder, input=question))
    names = ["reference", "burn", "llama"]
    passes = [torch.tensor(answer[name]).reshape(expected.shape) if name in answer else None for name in names]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    assert answer["ids"] == ids, f"{case.name}: {answer['ids']} are not transformers' tokens {ids}"
    fields = gguf.GGUFReader(file).fields
    template = fields["tokenizer.chat_template"].contents()
    assert template == tokenizer.chat_template, f"{case.name}: another chat template"
    return [None if found is None else relative_rms(found, expected) for found in passes]


def check_round_trip(case, folder, back):
    """A folder that went through our export is the folder that it was."""
    before, after = tensors(folder), tensors(back)
    if case.fused:
        # Ours stores each expert by itself, as transformers does when it saves.
        before = {name: tensor for name, tensor in before.items() if "mlp" not in name}
        assert before.keys() < after.keys(), f"{case.name}: {before.keys() - after.keys()}"
    else:
        assert before.keys() == after.keys(), f"{case.name}: {before.keys() ^ after.keys()}"
    for name, tensor in before.items():
        same = tensor.dtype == after[name].dtype and torch.equal(tensor, after[name])
        assert same, f"{case.name}: {name} is not what it was"
    old, new = (AutoTokenizer.from_pretrained(path) for path in (folder, back))
    for text in TEXTS:
        assert old(text)["input_ids"] == new(text)["input_ids"], f"{case.name}: {text!r}"
    chats = [tokenizer.apply_chat_template(MESSAGES, tokenize=False) for tokenizer in (old, new)]
    assert chats[0] == chats[1], f"{case.name}: {chats}"
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        old, new = (load(path, "auto").eval()(tokens).logits for path in (folder, back))
    assert torch.equal(old, new), f"{case.name}: other logits after the round trip"


def add_adapter(folder, path, case):
    """A random LoRA adapter by peft, saved at `path`; returns the model with it in its weights."""
    conv1d = case.model is GPT2LMHeadModel
    names = {name.rsplit(".", 2)[-2] for name in tensors(folder) if name.count(".") > 1}
    targets = {"c_attn", "c_proj"} if conv1d else {"q_proj", "k_proj", "qkv_proj", "gate_up_proj", "down_proj"}
    targets = sorted(targets & names)
    settings = LoraConfig(r=5, lora_alpha=8, target_modules=targets, fan_in_fan_out=conv1d, task_type="CAUSAL_LM")
    base = load(folder)
    model = get_peft_model(base, settings)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(0.1 * torch.randn_like(weight))
    model.save_pretrained(path)
    return model.merge_and_unload().eval()


def check_adapter(case, folder, work, export, logits_program):
    """The error of the reference pass on a file with an adapter merged in, against peft."""
    adapter, file = work / f"{case.name}-adapter", work / f"{case.name}-adapter.gguf"
    model = add_adapter(folder, adapter, case)
    run(export, "--input", folder, "--merge-lora", adapter, "--output", file)
    tokens = torch.arange(folders.CONTEXT)[None]
    with torch.no_grad():
        expected = model(tokens).logits[0]
    answer = json.loads(run(logits_program, file, input=json.dumps({"tokens": tokens[0].tolist(), "texts": []})))
    return relative_rms(torch.tensor(answer["reference"]).reshape(expected.shape), expected)


def main():
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    export, logits_program, burn_program = (Path(argument).resolve() for argument in sys.argv[1:4])
    wanted = (sys.argv[4:] + [""])[0]
    failed = checks = 0
    print(f"{'relative RMS against transformers':<45} {'reference':>10} {'Burn':>10} {'llama.cpp':>10}")
    with tempfile.TemporaryDirectory() as work:
        for seed, case in enumerate(folders.cases()):
            if wanted not in case.name:
                continue
            folder, back = Path(work, case.name), Path(work, f"{case.name}-back")
            file = Path(work, f"{case.name}.gguf")
            folders.write(case, folder, seed)
            run(export, "--input", folder, "--output", file)
            run(export, "--input", folder, "--to", "huggingface", "--output", back)
            errors = check_forward(case, folder, file, logits_program, burn_program)
            check_round_trip(case, folder, back)
            limits = [LIMIT, LIMIT, GELU_LIMIT if case.gelu else LIMIT]
            if case.llama:
                bad = not all(error <= limit for error, limit in zip(errors, limits) if error is not None)
                note = "" if case.burn else "  not trained here"
            else:
                # A llama.cpp that computes it is welcome, but then the case has to say so.
                bad = not all(error <= LIMIT for error in errors[:2]) or errors[2] <= LIMIT
                note = "  llama.cpp computes something else"
            failed += bad
            checks += 1
            shown = ["-" if error is None else f"{error:.1e}" for error in errors]
            print(f"{case.name:<45} {' '.join(f'{error:>10}' for error in shown)}{'  FAILED' if bad else note}")
            if case.adapter:
                error = check_adapter(case, folder, Path(work), export, logits_program)
                failed += not error <= LIMIT
                checks += 1
                print(f"{case.name + ' with a LoRA adapter':<45} {error:>10.1e}{'' if error <= LIMIT else '  FAILED'}")
    print(f"limits: {LIMIT:.0e}; llama.cpp with GELU, which it has in a table of f16: {GELU_LIMIT:.0e}")
    print(f"{checks - failed} passed, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
