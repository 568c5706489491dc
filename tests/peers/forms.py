"""The same weights in every form in which they lie around give the same GGUF.

Each form is written by the program that people write it with: safetensors and shards by
transformers, PyTorch's two formats by `torch.save`, nanoGPT's checkpoint as its train.py does, and
MLX's folders by MLX, where it is installed.

usage: forms.py EXPORT LOGITS      (two programs; LOGITS is `cargo build -p pocketgpt-eval --example logits`)
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import folders

sys.path.insert(0, str(Path(__file__).parents[2] / "export/tests/golden"))
import make_nanogpt  # noqa: E402

LIMIT = 1e-4
"""Largest relative RMS of the difference of two passes in f32."""

GELU_LIMIT = 1e-3
"""The same where one pass has the exact GELU and the other one its approximation by tanh."""


def run(*command, **arguments):
    """The output of a command that must succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **arguments)
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def exported(export, folder, *arguments):
    """The GGUF of a folder or file, as bytes."""
    file = folder.parent / "model.gguf"
    run(export, "--input", folder, "--output", file, "--name", "model", "--force", *arguments)
    return file.read_bytes()


def without_weights(folder, to):
    """A copy of a folder without its weights; returns them."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    (to / "model.safetensors").unlink()
    return load_file(folder / "model.safetensors")


def as_torch(folder, to):
    torch.save(without_weights(folder, to), to / "pytorch_model.bin")


def as_torch_stream(folder, to):
    weights = without_weights(folder, to)
    torch.save(weights, to / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def as_torch_shards(folder, to):
    weights = without_weights(folder, to)
    names, files = sorted(weights), [f"pytorch_model-0000{i}-of-00003.bin" for i in (1, 2, 3)]
    for i, file in enumerate(files):
        torch.save({name: weights[name] for name in names[i::3]}, to / file)
    place = {name: files[i % 3] for i, name in enumerate(names)}
    (to / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))


def as_views(folder, to):
    """Every matrix as the transposed view of another, and all vectors in one storage."""
    weights = without_weights(folder, to)
    vectors = torch.cat([w.flatten() for w in weights.values() if w.dim() == 1])
    at = 0
    for name, weight in weights.items():
        if weight.dim() == 1:
            weights[name] = vectors[at : at + len(weight)]
            at += len(weight)
        else:
            weights[name] = weight.T.contiguous().T
    torch.save(weights, to / "pytorch_model.bin")


def as_compiled(folder, to):
    weights = without_weights(folder, to)
    weights = {f"_orig_mod.{name}": weight for name, weight in weights.items()}
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})


def as_stale(folder, to):
    """What bitsandbytes leaves in the settings of a model that was merged and saved in 16 bits."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (to / "config.json").write_text(json.dumps(config))


FORMS = [as_torch, as_torch_stream, as_torch_shards, as_views, as_compiled, as_stale]


def check_folders(export, work):
    """Every form of every class, byte for byte."""
    for seed, case in enumerate(folders.cases()):
        if case.shard != "1GB":
            continue
        folder = work / case.name
        folders.write(case, folder, seed)
        expected = exported(export, folder)
        for form in FORMS:
            form(folder, work / "form")
            assert exported(export, work / "form") == expected, f"{case.name}: {form.__name__}"
        print(f"{case.name}: the same GGUF from {', '.join(form.__name__ for form in FORMS)}")


def relative_rms(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def check_nanogpt(export, logits_program, work):
    """GPT-2's vocabulary without a word about a tokenizer; a model with biases and one without."""
    for bias in (True, False):
        args = dict(n_layer=3, n_head=4, n_embd=64, block_size=32, bias=bias, vocab_size=50304, dropout=0.1)
        model = make_nanogpt.random_model(args, 7)
        folder = work / "out"
        folder.mkdir(exist_ok=True)
        make_nanogpt.save(folder / "ckpt.pt", args, model, compiled=bias)
        exported(export, folder / "ckpt.pt")
        tokens = torch.randint(50257, (32,)).tolist()
        answer = run(logits_program, folder / "model.gguf", input=json.dumps({"tokens": tokens, "texts": ["Hello world"]}))
        answer = json.loads(answer)
        for how, limit in (("tanh", LIMIT), ("none", GELU_LIMIT)):
            for block in model.transformer.h:
                block.mlp.approximate = how
            with torch.no_grad():
                expected = model(torch.tensor(tokens))
            for name in ("reference", "llama"):
                error = relative_rms(torch.tensor(answer[name]).reshape(expected.shape), expected)
                # llama.cpp looks GELU up in a table of f16.
                bound = GELU_LIMIT if name == "llama" else limit
                print(f"nanoGPT, bias={bias}, GELU {how}: {name} {error:.1e}")
                assert error <= bound, f"above {bound}"
        assert answer["ids"] == [[15496, 995]], "GPT-2's tokens"


def check_mlx(export, work):
    """MLX's folders: plain ones, and quantized ones against what MLX dequantizes them to."""
    try:
        import mlx.core as mx
    except ImportError:
        print("MLX skipped: not installed (pip install mlx[cpu])")
        return
    case = next(case for case in folders.cases() if case.name == "llama-wide-heads-bf16")
    folder, form, plain = work / "mlx", work / "form", work / "plain"
    folders.write(case, folder, 3)
    expected = exported(export, folder)
    without_weights(folder, form)
    weights = mx.load(str(folder / "model.safetensors"))
    mx.save_safetensors(str(form / "model.safetensors"), weights, {"format": "mlx"})
    assert exported(export, form) == expected, "MLX, bf16"
    for bits in (2, 3, 4, 5, 6, 8):
        without_weights(folder, form)
        without_weights(folder, plain)
        parts, wide = {}, {}
        for name, weight in weights.items():
            if weight.ndim == 2 and weight.shape[1] % 64 == 0:
                stem = name.removesuffix(".weight")
                codes, scales, biases = mx.quantize(weight, group_size=64, bits=bits)
                parts |= {name: codes, f"{stem}.scales": scales, f"{stem}.biases": biases}
                scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
                wide[name] = mx.dequantize(codes, scales, biases, group_size=64, bits=bits)
            else:
                parts[name] = wide[name] = weight
        mx.save_safetensors(str(form / "model.safetensors"), parts, {"format": "mlx"})
        mx.save_safetensors(str(plain / "model.safetensors"), wide, {"format": "mlx"})
        config = json.loads((form / "config.json").read_text())
        config["quantization"] = config["quantization_config"] = {"group_size": 64, "bits": bits}
        (form / "config.json").write_text(json.dumps(config))
        assert exported(export, form) == exported(export, plain), f"MLX, {bits} bits"
    print("MLX: the same GGUF from bf16, and from 2, 3, 4, 5, 6 and 8 bits as dequantized by MLX")


def main():
    export, logits_program = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        check_folders(export, work)
        check_nanogpt(export, logits_program, work)
        check_mlx(export, work)


main()
