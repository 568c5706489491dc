"""Writes the files of torch/: what `torch.save` makes of small tensors, and their values.

    pip install torch numpy && python make_torch.py

`views.bin` is in today's format, a zip archive; `stream.bin` is the same in the format of before
PyTorch 1.6. `values.json` holds every tensor as PyTorch has it, row-major and in float32.
"""

import collections
import json
import pathlib

import torch

OUT = pathlib.Path(__file__).with_name("torch")


def tensors():
    """Every way in which a tensor can look into a storage."""
    base = torch.arange(60, dtype=torch.float32).reshape(5, 12) / 8 - 3
    linear = torch.nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.arange(6).reshape(2, 3))
    return collections.OrderedDict(
        plain=base,
        tied=base,
        transposed=base.T,
        rows=base[1:4],
        columns=base[:, 3:7],
        columns_transposed=base[1:, 3:7].T,
        steps=base[::2, 1::3],
        cube=base.reshape(5, 3, 4),
        cube_turned=base.reshape(5, 3, 4).permute(2, 0, 1),
        half=base.half(),
        brain=base.bfloat16().T,
        scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 4),
        one_row=base[2:3],
        one_column=base[:, 2:3],
        parameter=linear.weight,
    )


def main():
    OUT.mkdir(exist_ok=True)
    state = tensors()
    # As state_dict() of a module has it.
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    torch.save(state, OUT / "views.bin")
    torch.save(state, OUT / "stream.bin", _use_new_zipfile_serialization=False)
    values = {
        name: {"shape": list(t.shape), "values": t.detach().float().flatten().tolist()}
        for name, t in state.items()
    }
    text = json.dumps({"torch": torch.__version__, "tensors": values})
    (OUT / "values.json").write_text(text + "\n")


main()
