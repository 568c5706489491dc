"""Writes the files of nanogpt/: small checkpoints as nanoGPT saves them, and their logits.

    pip install torch && python make_nanogpt.py

The model is written anew after the description of nanoGPT's `model.py`; `logits.json` holds the
logits of each checkpoint with its exact GELU, and with GPT-2's approximation by tanh.
"""

import json
import pathlib

import torch
from torch import nn
from torch.nn import functional as F

OUT = pathlib.Path(__file__).with_name("nanogpt")
TOKENS = [3, 0, 6, 6, 1, 5, 2, 4]


class Norm(nn.Module):
    def __init__(self, width, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Attention(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.heads = args["n_head"]
        self.c_attn = nn.Linear(args["n_embd"], 3 * args["n_embd"], bias=args["bias"])
        self.c_proj = nn.Linear(args["n_embd"], args["n_embd"], bias=args["bias"])

    def forward(self, x):
        length, width = x.shape
        q, k, v = (
            part.view(length, self.heads, width // self.heads).transpose(0, 1)
            for part in self.c_attn(x).split(width, dim=1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(mixed.transpose(0, 1).reshape(length, width))


class Mlp(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.c_fc = nn.Linear(args["n_embd"], 4 * args["n_embd"], bias=args["bias"])
        self.c_proj = nn.Linear(4 * args["n_embd"], args["n_embd"], bias=args["bias"])
        self.approximate = "none"

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate=self.approximate))


class Block(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.ln_1, self.attn = Norm(args["n_embd"], args["bias"]), Attention(args)
        self.ln_2, self.mlp = Norm(args["n_embd"], args["bias"]), Mlp(args)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class NanoGPT(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.transformer = nn.ModuleDict(
            dict(
                wte=nn.Embedding(args["vocab_size"], args["n_embd"]),
                wpe=nn.Embedding(args["block_size"], args["n_embd"]),
                h=nn.ModuleList(Block(args) for _ in range(args["n_layer"])),
                ln_f=Norm(args["n_embd"], args["bias"]),
            )
        )
        self.lm_head = nn.Linear(args["n_embd"], args["vocab_size"], bias=False)
        self.transformer.wte.weight = self.lm_head.weight

    def forward(self, tokens):
        t = self.transformer
        x = t.wte(tokens) + t.wpe(torch.arange(len(tokens)))
        for block in t.h:
            x = block(x)
        return self.lm_head(t.ln_f(x))


def random_model(args, seed):
    torch.manual_seed(seed)
    model = NanoGPT(args).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            around = 1.0 if weight.dim() == 1 and name.endswith("weight") else 0.0
            weight.copy_(around + 0.3 * torch.randn_like(weight))
    return model


def save(path, args, model, compiled=False, steps=1):
    """As train.py does, after `steps` of its optimizer."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)
    for _ in range(steps):
        model(torch.tensor(TOKENS)).sum().backward()
        optimizer.step()
    prefix = "_orig_mod." if compiled else ""
    torch.save(
        {
            "model": {prefix + name: weight for name, weight in model.state_dict().items()},
            "optimizer": optimizer.state_dict(),
            "model_args": args,
            "iter_num": steps,
            "best_val_loss": torch.tensor(1e9),
            "config": {"out_dir": "out", "learning_rate": 6e-4, "decay_lr": True, "init_from": "scratch"},
        },
        path,
    )


def logits(model, approximate):
    for block in model.transformer.h:
        block.mlp.approximate = approximate
    with torch.no_grad():
        return model(torch.tensor(TOKENS)).flatten().tolist()


def main():
    OUT.mkdir(exist_ok=True)
    golden = {"torch": torch.__version__, "tokens": TOKENS}
    for name, bias, compiled, layers in (("bias", True, True, 2), ("no_bias", False, False, 1)):
        args = dict(n_layer=layers, n_head=2, n_embd=8, block_size=8, bias=bias, vocab_size=7, dropout=0.0)
        model = random_model(args, 5)
        golden[name] = {how: logits(model, how) for how in ("tanh", "none")}
        save(OUT / f"{name}.pt", args, model, compiled, steps=0 if compiled else 1)
    (OUT / "logits.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
