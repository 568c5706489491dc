//! LLaMA and Qwen2, which is a LLaMA with biases on query, key and value and another rotation.
//!
//! Source: `modeling_llama.py` and `modeling_qwen2.py` of transformers;
//! `gguf-py/gguf/tensor_mapping.py`, `src/models/llama.cpp` and `src/models/qwen2.cpp` of
//! llama.cpp.

use config::{Architecture, ModelConfig, RopePairs};

use super::{Orientation, Role, RowOrder, Stem, TensorName};

pub(super) fn table(config: &ModelConfig) -> Vec<TensorName> {
    let (c, v) = (config.n_embd, config.vocab_size);
    let embedding = Stem::new("model.embed_tokens", "wte", "token_embd");
    let mut table = vec![embedding.embedding([v, c], Role::Matrix)];
    for i in 0..config.n_layer {
        block(config, i, &mut table);
    }
    table.push(Stem::new("model.norm", "norm", "output_norm").rms_norm(c));
    if !config.tie_embeddings {
        table.push(Stem::new("lm_head", "lm_head", "output").head([v, c]));
    }
    table
}

fn block(config: &ModelConfig, i: usize, table: &mut Vec<TensorName>) {
    let (c, f, kv) = (config.n_embd, config.n_inner, config.kv_width());
    let stem = |hugging_face: &str, burn: &str, gguf: &str| {
        Stem::new(
            format!("model.layers.{i}.{hugging_face}"),
            format!("blocks.{i}.{burn}"),
            format!("blk.{i}.{gguf}"),
        )
    };
    let matrix = |stem: &Stem, outputs: usize, inputs: usize, rows: RowOrder| {
        stem.matrix([outputs, inputs], Orientation::OutputFirst, rows)
    };
    let rotated = |heads: usize| match config.architecture.rope_pairs() {
        Some(RopePairs::Adjacent) => RowOrder::halves_to_pairs(heads, config.head_width()),
        _ => RowOrder::SAME,
    };
    // Readers of Qwen2 count on its biases.
    let lists_bias = config.qkv_bias || config.architecture == Architecture::Qwen2;

    table.push(stem("input_layernorm", "attn_norm", "attn_norm").rms_norm(c));
    for (letter, outputs, rows) in [
        ("q", c, rotated(config.n_head)),
        ("k", kv, rotated(config.n_kv_head)),
        ("v", kv, RowOrder::SAME),
    ] {
        let stem = stem(
            &format!("self_attn.{letter}_proj"),
            &format!("attn.{letter}"),
            &format!("attn_{letter}"),
        );
        table.push(matrix(&stem, outputs, c, rows));
        table.extend(lists_bias.then(|| stem.bias(outputs, rows, config.qkv_bias)));
    }
    let output = stem("self_attn.o_proj", "attn.output", "attn_output");
    let gate = stem("mlp.gate_proj", "mlp.gate", "ffn_gate");
    let up = stem("mlp.up_proj", "mlp.up", "ffn_up");
    let down = stem("mlp.down_proj", "mlp.down", "ffn_down");
    table.extend([
        matrix(&output, c, c, RowOrder::SAME),
        stem("post_attention_layernorm", "ffn_norm", "ffn_norm").rms_norm(c),
        matrix(&gate, f, c, RowOrder::SAME),
        matrix(&up, f, c, RowOrder::SAME),
        matrix(&down, c, f, RowOrder::SAME),
    ]);
}
