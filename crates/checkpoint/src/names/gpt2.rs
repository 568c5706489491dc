//! GPT-2.
//!
//! Source: `modeling_gpt2.py` of transformers; `gguf-py/gguf/tensor_mapping.py` and
//! `src/models/gpt2.cpp` of llama.cpp.

use config::ModelConfig;

use super::{Orientation, RowOrder, Stem, TensorName, TensorUse};

pub(super) fn table(config: &ModelConfig) -> Vec<TensorName> {
    let (c, v, t) = (config.n_embd, config.vocab_size, config.context_length);
    let stem = |name: &str, gguf: &str| Stem::new(format!("transformer.{name}"), name, gguf);
    let mut table = vec![
        stem("wte", "token_embd").embedding([v, c], TensorUse::Matrix),
        stem("wpe", "position_embd").embedding([t, c], TensorUse::Position),
    ];
    for i in 0..config.n_layer {
        table.extend(block(config, i));
    }
    table.extend(stem("ln_f", "output_norm").layer_norm(c));
    if !config.tie_embeddings {
        table.push(Stem::new("lm_head", "lm_head", "output").head([v, c]));
    }
    table
}

fn block(config: &ModelConfig, i: usize) -> impl Iterator<Item = TensorName> {
    let (c, f) = (config.n_embd, config.n_inner);
    let stem = |name: &str, gguf: &str| {
        Stem::new(
            format!("transformer.h.{i}.{name}"),
            format!("blocks.{i}.{name}"),
            format!("blk.{i}.{gguf}"),
        )
    };
    // Conv1D: the inputs come first.
    let linear = |name: &str, gguf: &str, shape: [usize; 2], has_bias: bool| {
        let stem = stem(name, gguf);
        let weight = stem.matrix(shape, Orientation::InputFirst, RowOrder::SAME);
        [weight, stem.bias(shape[1], RowOrder::SAME, has_bias)]
    };
    [
        stem("ln_1", "attn_norm").layer_norm(c),
        linear("attn.c_attn", "attn_qkv", [c, 3 * c], config.qkv_bias),
        linear("attn.c_proj", "attn_output", [c, c], true),
        stem("ln_2", "ffn_norm").layer_norm(c),
        linear("mlp.c_fc", "ffn_up", [c, f], true),
        linear("mlp.c_proj", "ffn_down", [f, c], true),
    ]
    .into_iter()
    .flatten()
}
