"""The folder that tests/real/smollm2.py writes against transformers' own reading of the same GGUF.

usage: real_folder.py FOLDER FILE.gguf
"""
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, file = sys.argv[1:]
ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
theirs = AutoModelForCausalLM.from_pretrained(
    os.path.dirname(file), gguf_file=os.path.basename(file), dtype=torch.float32
)
weights = theirs.state_dict()
assert weights.keys() == ours.state_dict().keys()
for name, tensor in ours.state_dict().items():
    assert torch.equal(tensor, weights[name]), f"{name} differs from transformers' reading"

tokenizer = AutoTokenizer.from_pretrained(folder)
prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": "What is the capital of France?"}],
    tokenize=False,
    add_generation_prompt=True,
)
ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
answer = ours.generate(ids, do_sample=False, max_new_tokens=40)[0, ids.shape[1] :]
print(repr(prompt))
print(ids.shape[1], "tokens")
print(repr(tokenizer.decode(answer)))
print("real_folder: 1 passed, 0 failed")
