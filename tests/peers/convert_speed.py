"""Time and memory of two converters, in turns. Run by convert_speed.sh.

usage: convert_speed.py EXPORT CONVERT_HF_TO_GGUF WORK_FOLDER [MODEL...]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gguf
import numpy
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROUNDS = int(os.environ.get("ROUNDS", 3))


def gpt2_tokenizer():
    """GPT-2's own: the peer knows a tokenizer by the tokens that it makes of a certain text."""
    here = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("POCKETGPT_TEST_DATA", here.parent / "shared" / "data"), "tokenizer")
    if not folder.exists():
        sys.exit(f"gpt2-124m needs GPT-2's encoder.json and vocab.bpe in {folder}")
    model = models.BPE.from_file(str(folder / "encoder.json"), str(folder / "vocab.bpe"))
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end)


def syllables():
    """A vocabulary of 32,000 tokens such as SentencePiece makes them: letters, pairs, and so on."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pairs = [a + b for a in letters for b in letters]
    threes = [a + b for a in pairs for b in letters]
    fours = [a + b for a in threes for b in letters]
    start = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = (start + pairs + threes + fours)[: 32000 - 27] + letters + ["▁"]
    ids = {token: i for i, token in enumerate(tokens)}
    merges = [
        (token[:i], token[i:])
        for token in tokens[len(start) : 32000 - 27]
        for i in range(1, len(token))
        if token[:i] in ids and token[i:] in ids
    ]
    model = models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def gpt2_124m():
    return GPT2LMHeadModel(GPT2Config(n_ctx=1024, bos_token_id=50256, eos_token_id=50256)), gpt2_tokenizer(), "F32"


def tinyllama_1_1b():
    config = LlamaConfig(
        vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
        num_key_value_heads=4, max_position_embeddings=2048, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
    )
    torch.set_default_dtype(torch.bfloat16)
    model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return model, syllables(), "BF16"


MODELS = {"gpt2-124m": gpt2_124m, "tinyllama-1.1b": tinyllama_1_1b}


def folder_of(name, work):
    """The folder of a model, made once, and the type that its weights have."""
    path, marker = work / name, work / f"{name}.type"
    if not marker.exists():
        print(f"making {path}", file=sys.stderr)
        torch.manual_seed(1)
        model, tokenizer, stored = MODELS[name]()
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
        marker.write_text(stored)
    return path, marker.read_text()


def measure(command, output):
    """Seconds until `output` is written and on the disk, and most bytes that the command had resident."""
    output.unlink(missing_ok=True)
    os.sync()
    with tempfile.TemporaryFile("w+") as log:
        start = time.monotonic()
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=log)
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident_peak(process.pid))
            time.sleep(0.01)
        if output.exists():
            # Ours ends when the file is on the disk, so the peer's has to get there, too.
            with output.open("rb") as file:
                os.fsync(file.fileno())
        seconds = time.monotonic() - start
        if process.returncode:
            log.seek(0)
            sys.exit(f"failed: {command}\n{log.read()[-2000:]}")
    return seconds, peak


def resident_peak(pid):
    """Most bytes that a running process had resident so far. (What the system reports of one that has
    ended counts its parent's, too.)"""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 if found else 0


def check_same(ours, theirs):
    """Both files hold the same tensors, byte for byte."""
    mine, other = ({tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors} for path in (ours, theirs))
    assert mine.keys() == other.keys(), mine.keys() ^ other.keys()
    for name, tensor in mine.items():
        assert tensor.tensor_type == other[name].tensor_type, name
        assert numpy.array_equal(tensor.data, other[name].data), name
    return len(mine)


def main():
    export, converter, work = (Path(argument) for argument in sys.argv[1:4])
    work.mkdir(parents=True, exist_ok=True)
    print(f"{'model':<16} {'type':<5} {'program':<22} {'seconds':>8} {'peak MB':>8}")
    for name in sys.argv[4:] or MODELS:
        folder, stored = folder_of(name, work)
        ours, theirs = work / "ours.gguf", work / "theirs.gguf"
        commands = {
            "export": ([export, "--input", folder, "--type", stored, "--output", ours, "--force"], ours),
            "convert_hf_to_gguf.py": ([sys.executable, converter, folder, "--outtype", stored.lower(), "--outfile", theirs], theirs),
        }
        figures = {program: [] for program in commands}
        for _ in range(ROUNDS):
            for program, (command, output) in commands.items():
                figures[program].append(measure(command, output))
        tensors = check_same(ours, theirs)
        medians = {}
        for program, rounds in figures.items():
            seconds, peak = (statistics.median(values) for values in zip(*rounds))
            medians[program] = seconds
            print(f"{name:<16} {stored:<5} {program:<22} {seconds:>8.2f} {peak / 1e6:>8.0f}")
        ratio = medians["convert_hf_to_gguf.py"] / medians["export"]
        print(f"{name:<16} {stored:<5} {ratio:.1f} times as fast; {tensors} tensors, all bytes the same", flush=True)
        ours.unlink()
        theirs.unlink()


if __name__ == "__main__":
    main()
