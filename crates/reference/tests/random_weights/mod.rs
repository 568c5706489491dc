//! A small GPT-2 whose weights come from a formula, so that no file has to hold them.

use config::{Architecture, ModelConfig};
use reference::MemorySource;

/// Sizes that no vector width and no task size divides.
pub fn config() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size: 101,
        context_length: 130,
        n_layer: 2,
        n_head: 3,
        n_kv_head: 3,
        n_embd: 51,
        n_inner: 70,
        norm_epsilon: 1e-5,
        rope_base: config::ROPE_BASE,
        qkv_bias: true,
        tie_embeddings: true,
        dropout: 0.1,
    }
}

/// Weights that look random, the same every time and in `golden/make_gpt2.py`; `change` may alter
/// the list of tensors.
pub fn source(
    config: &ModelConfig,
    change: impl Fn(&mut Vec<(String, Vec<usize>)>),
) -> MemorySource {
    let (c, f) = (config.n_embd, config.n_inner);
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), vec![config.vocab_size, c]),
        ("position_embd.weight".to_owned(), vec![config.context_length, c]),
        ("output_norm.weight".to_owned(), vec![c]),
        ("output_norm.bias".to_owned(), vec![c]),
    ];
    for layer in 0..config.n_layer {
        for (name, shape) in [
            ("attn_norm.weight", vec![c]),
            ("attn_norm.bias", vec![c]),
            ("attn_qkv.weight", vec![3 * c, c]),
            ("attn_qkv.bias", vec![3 * c]),
            ("attn_output.weight", vec![c, c]),
            ("attn_output.bias", vec![c]),
            ("ffn_norm.weight", vec![c]),
            ("ffn_norm.bias", vec![c]),
            ("ffn_up.weight", vec![f, c]),
            ("ffn_up.bias", vec![f]),
            ("ffn_down.weight", vec![c, f]),
            ("ffn_down.bias", vec![c]),
        ] {
            tensors.push((format!("blk.{layer}.{name}"), shape));
        }
    }
    if !config.tie_embeddings {
        tensors.push(("output.weight".to_owned(), vec![config.vocab_size, c]));
    }
    change(&mut tensors);
    let mut source = MemorySource::default();
    let mut state = 1_u64;
    for (name, shape) in tensors {
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        let data = (0..shape.iter().product()).map(|_| next() * 0.5).collect();
        source.add(&name, &shape, data);
    }
    source
}
