"""Writes the intermediate results of transformers' forward pass, under the names of
crates/config/src/forward_stage.rs, for `eval trace --against`.

    python tests/peers/trace_hf.py FOLDER TRACE.safetensors --text TEXT
    python tests/peers/trace_hf.py FOLDER TRACE.safetensors --ids 1,2,3

A new family needs nothing here as long as its modules have the names of LLaMA's (`q_proj`,
`input_layernorm`, ...); a module with another name is a row of NAMES.
"""

import argparse
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

ADJACENT = {"llama", "mistral", "mixtral", "smollm3"}
"""Classes whose rotation pairs neighbouring channels in a GGUF, and halves of a head here."""

NAMES = {
    # The part of a module's path behind the block: the stage that it computes. With "<", the stage
    # is the module's input.
    "ln_1": ["attn_norm"],
    "ln_2": ["<attn_residual", "ffn_norm"],
    "attn.c_proj": ["<attn_heads", "attn_output"],
    "mlp.c_fc": ["ffn_up"],
    "mlp.c_proj": ["<ffn_activated", "ffn_down"],
    "input_layernorm": ["attn_norm"],
    "attention.dense": ["<attn_heads", "attn_output"],
    "mlp.dense_h_to_4h": ["ffn_up"],
    "mlp.dense_4h_to_h": ["<ffn_activated", "ffn_down"],
    "self_attn.q_proj": ["attn_q"],
    "self_attn.k_proj": ["attn_k"],
    "self_attn.v_proj": ["attn_v"],
    "self_attn.q_norm": ["attn_q_norm"],
    "self_attn.k_norm": ["attn_k_norm"],
    "self_attn.o_proj": ["<attn_heads", "attn_output"],
    "mlp.gate_proj": ["ffn_gate"],
    "mlp.up_proj": ["ffn_up"],
    "mlp.down_proj": ["<ffn_activated", "ffn_down"],
    "pre_feedforward_layernorm": ["<attn_residual", "ffn_norm"],
    "post_feedforward_layernorm": ["post_ffw_norm"],
}

MODEL = {
    "wte": ["token_embd"], "wpe": ["position_embd"], "drop": ["embedding"], "ln_f": ["output_norm"],
    "embed_tokens": ["token_embd"], "norm": ["output_norm"],
    "embed_in": ["token_embd"], "final_layer_norm": ["output_norm"],
}
"""The modules outside of blocks."""


class Trace:
    def __init__(self, model):
        self.model, self.config, self.stages = model, model.config, {}
        self.kind = model.config.model_type
        self.head_width = getattr(self.config, "head_dim", None) or (
            self.config.hidden_size // self.config.num_attention_heads
        )
        inner = getattr(model, "model", None) or getattr(model, "transformer", None) or model.gpt_neox
        blocks = getattr(inner, "layers", None) or inner.h
        for name, module in inner.named_children():
            if name in MODEL:
                self.hook(module, MODEL[name], "")
        for layer, block in enumerate(blocks):
            self.watch_block(block, f"blk.{layer}.")
        self.blocks = blocks

    def keep(self, name, x):
        x = x.detach()
        x = x[0] if x.dim() > 2 and x.shape[0] == 1 else x
        self.stages[name] = x.reshape(x.shape[0], -1).float().contiguous()

    def hook(self, module, stages, prefix, convert=None):
        def record(_, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            for stage in stages:
                x = inputs[0] if stage.startswith("<") else output
                name = prefix + stage.lstrip("<")
                self.keep(name, convert(name, x) if convert else x)

        module.register_forward_hook(record)

    def watch_block(self, block, prefix):
        modules = dict(block.named_modules())
        self.hook(block, ["output"], prefix)
        names = dict(NAMES)
        if "post_feedforward_layernorm" in modules:  # OLMo 2, Gemma 3
            names["post_attention_layernorm"] = ["post_attention_norm"]
        else:
            names["post_attention_layernorm"] = ["<attn_residual", "ffn_norm"]
        if "input_layernorm" not in modules and "ln_1" not in modules:  # OLMo 2
            names["mlp"] = ["<attn_residual"]
        if "mlp.experts" in modules:
            self.hook(modules["mlp"], ["ffn_down"], prefix)
            router = modules["mlp.gate"]
            router.register_forward_hook(lambda module, inputs, _: self.keep(
                f"{prefix}ffn_gate_inp", torch.nn.functional.linear(inputs[0], module.weight)
            ))
        for path, stages in names.items():
            if path in modules:
                self.hook(modules[path], stages, prefix, self.heads)
        self.watch_joined(modules, prefix)

    def watch_joined(self, modules, prefix):
        """Matrices that compute several stages at once."""
        def split(path, names, parts):
            def record(_, inputs, y):
                for name, part in zip(names, parts(y[0])):
                    self.keep(prefix + name, part)

            if path in modules:
                modules[path].register_forward_hook(record)

        qkv = ["attn_q", "attn_k", "attn_v"]
        heads, kv_heads = self.config.num_attention_heads, getattr(self.config, "num_key_value_heads", None)
        widths = [n * self.head_width for n in (heads, kv_heads or heads, kv_heads or heads)]
        split("attn.c_attn", qkv, lambda y: y.split(widths, dim=-1))
        split("self_attn.qkv_proj", qkv, lambda y: y.split(widths, dim=-1))
        split("attention.query_key_value", qkv, lambda y: (
            y.reshape(len(y), heads, 3, self.head_width).unbind(2)
        ))
        split("mlp.gate_up_proj", ["ffn_gate", "ffn_up"], lambda y: y.chunk(2, dim=-1))

    def heads(self, name, x):
        """Queries and keys as `[T, heads * D]`, with the channels of a head in a GGUF's order."""
        if not any(name.endswith(f".attn_{part}") for part in ("q", "k", "q_norm", "k_norm")):
            return x
        if x.dim() == 4 and self.kind.startswith("gemma3"):
            x = x.transpose(1, 2)  # the heads come before the positions
        return self.interleaved(x[0].reshape(x.shape[1], -1))

    def interleaved(self, x):
        if self.kind not in ADJACENT:
            return x
        return x.reshape(len(x), -1, 2, self.head_width // 2).transpose(2, 3).reshape(len(x), -1)

    def traced_attention(self, attention):
        """Rotated queries and keys, and attention's weights, are not a module's result: `attention`
        is the function that has them."""
        layers = {id(module): layer for layer, block in enumerate(self.blocks) for module in block.modules()}
        rotates = self.kind != "gpt2"
        skipped = getattr(self.config, "no_rope_layers", None)

        def record(module, query, key, value, *rest, **settings):
            output, weights = attention(module, query, key, value, *rest, **settings)
            layer = layers[id(module)]
            if rotates and not (skipped and not skipped[layer]):
                for name, x in (("q", query), ("k", key)):
                    x = x[0].transpose(0, 1)  # [T, heads, D]
                    self.keep(f"blk.{layer}.attn_{name}_rope", self.interleaved(x.reshape(len(x), -1)))
            self.stages[f"blk.{layer}.attn_weights"] = weights[0].detach().float().contiguous()
            return output, weights

        return record

    def run(self, ids):
        family = sys.modules[type(self.model).__module__]
        attention = family.eager_attention_forward
        family.eager_attention_forward = self.traced_attention(attention)
        try:
            with torch.no_grad():
                logits = self.model(torch.tensor([ids]), use_cache=False).logits
        finally:
            family.eager_attention_forward = attention
        self.keep("logits", logits)
        return self.stages


def trace(model, ids):
    """Every stage of an eager model's pass over `ids`, and the ids."""
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # the others need widths in multiples of 16 bytes
    stages = Trace(model.eval()).run(ids)
    return {"tokens": torch.tensor(ids, dtype=torch.uint32), **stages}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("folder")
    arguments.add_argument("output")
    text = arguments.add_mutually_exclusive_group(required=True)
    text.add_argument("--text")
    text.add_argument("--ids", help="separated by commas")
    arguments = arguments.parse_args()
    if arguments.ids:
        ids = [int(id) for id in arguments.ids.split(",")]
    else:
        ids = AutoTokenizer.from_pretrained(arguments.folder)(arguments.text)["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(
        arguments.folder, attn_implementation="eager", dtype=torch.float32
    )
    save_file(trace(model, ids), arguments.output)


if __name__ == "__main__":
    main()
