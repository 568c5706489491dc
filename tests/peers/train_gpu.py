#!/usr/bin/env python3
"""GPT-124M in PyTorch on a GPU, at its best settings: what training there is measured against.

The work of configs/gpt2-124m.toml: 12 layers, 12 heads, 768 wide, 1,024 positions, tied head, biases,
no dropout, AdamW with clipping. bf16 autocast, torch.compile, flash attention, fused AdamW, TF32 for
what stays f32. Tokens are drawn, since their values do not change the time.

usage: train_gpu.py [--batch 8] [--context 1024] [--steps 30] [--dtype bf16|f32] [--eager]
Prints one JSON object: tokens per second (median step, the first ten left out) and peak memory of the
device as its allocator reserved it.
"""
import argparse, json, statistics, time
import torch, torch.nn as nn, torch.nn.functional as F

V, C, H, L = 50257, 768, 12, 12


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.c_attn, self.attn_proj = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.c_fc, self.mlp_proj = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (part.view(b, t, H, C // H).transpose(1, 2) for part in self.c_attn(self.ln_1(x)).split(C, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_proj(y.transpose(1, 2).reshape(b, t, C))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, context):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(context, C)
        self.blocks, self.ln_f = nn.ModuleList(Block() for _ in range(L)), nn.LayerNorm(C)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids, targets):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.view(-1, V), targets.view(-1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--eager", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(1337)
    torch.set_float32_matmul_precision("high")
    model = Gpt(options.context).cuda()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95), fused=True)
    forward = model if options.eager else torch.compile(model)
    cast = torch.autocast("cuda", dtype=torch.bfloat16, enabled=options.dtype == "bf16")
    tokens = torch.randint(V, (options.steps, options.batch, options.context + 1))
    times, losses = [], []
    for step in range(options.steps):
        began = time.perf_counter()
        window = tokens[step].cuda()
        with cast:
            loss = forward(window[:, :-1].contiguous(), window[:, 1:].contiguous())
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # Both are logged each step, as our own training does.
        losses.append((loss.item(), norm.item()))
        times.append(time.perf_counter() - began)
    print(json.dumps({
        "peer": "pytorch " + torch.__version__,
        "device": torch.cuda.get_device_name(),
        "tokens_per_s": options.batch * options.context / statistics.median(times[10:]),
        "peak_device_bytes": torch.cuda.max_memory_reserved(),
        "first_loss": losses[0][0], "last_loss": losses[-1][0],
    }))


main()
