"""Four steps of PyTorch's Muon on small matrices, for `crates/kernels/tests/muon.rs`.

usage: muon.py crates/kernels/tests/golden/muon.json

PyTorch orthogonalizes in bf16, so the test compares with the precision of bf16.
"""

import json
import sys

import torch

SHAPES = [(5, 3), (4, 8), (16, 16)]
SETTINGS = {"lr": 0.05, "weight_decay": 0.2, "momentum": 0.9, "nesterov": True, "adjust_lr_fn": "match_rms_adamw"}


def flat(tensor):
    return [round(x, 7) for x in tensor.detach().flatten().tolist()]


def main():
    torch.manual_seed(7)
    cases = []
    for shape in SHAPES:
        weight = torch.nn.Parameter(torch.randn(shape))
        gradients = [torch.randn(shape) for _ in range(4)]
        optimizer = torch.optim.Muon([weight], **SETTINGS)
        case = {"shape": shape, "start": flat(weight), "gradients": [flat(g) for g in gradients], "weights": []}
        for gradient in gradients:
            weight.grad = gradient
            optimizer.step()
            case["weights"].append(flat(weight))
        case["momentum_buffer"] = flat(optimizer.state[weight]["momentum_buffer"])
        cases.append(case)
    made = {"made_by": f"torch {torch.__version__}", "settings": SETTINGS, "cases": cases}
    with open(sys.argv[1], "w") as file:
        file.write(json.dumps(made).replace('{"shape"', '\n{"shape"') + "\n")


main()
