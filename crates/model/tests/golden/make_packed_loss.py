"""Makes packed_loss.json: what PyTorch's cross_entropy makes of rows that hold several documents and
of which only some positions train, with Hugging Face's models in float64.

    python make_packed_loss.py        (transformers 5.24, torch 2.15)

Position ids that begin anew are all that says where a document begins, as with transformers'
DataCollatorWithFlattening.
"""

import json
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[3] / "reference/tests/golden"))
from make_golden import FAMILIES, VOCAB, exact_model  # noqa: E402

TIME = 20
BEGINS = [[0, 7], [0, 1, 13, 19]]
TOKENS = [[(i * 37 + i * i * 11 + row * 5) % VOCAB for i in range(TIME)] for row in range(2)]
STARTS = [[max(b for b in begins if b <= i) for i in range(TIME)] for begins in BEGINS]
# The last token of a document has no successor; of the others, about two in three train.
LABELS = [
    [
        tokens[i + 1] if i + 1 < TIME and starts[i + 1] == starts[i] and (i * 7 + row) % 3 else -100
        for i in range(TIME)
    ]
    for row, (tokens, starts) in enumerate(zip(TOKENS, STARTS))
]


def logits(model, tokens):
    positions = torch.arange(TIME) - torch.tensor(STARTS)
    return model(tokens, position_ids=positions, use_cache=False).logits


golden = {"tokens": TOKENS, "starts": STARTS, "labels": LABELS, "families": {}}
for family in FAMILIES:
    if family.__name__ in ("mixtral", "qwen3moe"):
        continue  # not trained
    model = exact_model(family)
    # Gemma's has one, whose row would not train.
    model.get_input_embeddings().padding_idx = None
    tokens = torch.tensor(TOKENS)
    found = logits(model, tokens)
    other = tokens.clone()
    other[0, :7] = 3
    assert torch.equal(logits(model, other)[0, 7:], found[0, 7:]), f"{family.__name__} looks back"
    loss = torch.nn.functional.cross_entropy(
        found.reshape(-1, VOCAB), torch.tensor(LABELS).reshape(-1), ignore_index=-100
    )
    loss.backward()
    gradient = model.get_input_embeddings().weight.grad
    golden["families"][family.__name__] = {
        "loss": loss.item(), "embedding_gradient_norm": gradient.norm().item()
    }
Path(__file__).with_name("packed_loss.json").write_text(json.dumps(golden, indent=1) + "\n")
