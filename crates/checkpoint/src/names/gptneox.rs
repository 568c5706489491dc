//! GPT-NeoX.
//!
//! Source: `modeling_gpt_neox.py` of transformers; `gguf-py/gguf/tensor_mapping.py` and
//! `src/models/gptneox.cpp` of llama.cpp.

use config::ModelConfig;

use super::{Orientation, RowOrder, Source, Stem, TensorName, TensorUse};

const EMBEDDING: &str = "gpt_neox.embed_in";

pub(super) fn table(config: &ModelConfig) -> Vec<TensorName> {
    let (c, v) = (config.n_embd, config.vocab_size);
    let mut table =
        vec![Stem::new(EMBEDDING, "wte", "token_embd").embedding([v, c], TensorUse::Matrix)];
    for i in 0..config.n_layer {
        table.extend(block(config, i));
    }
    table.extend(Stem::new("gpt_neox.final_layer_norm", "ln_f", "output_norm").layer_norm(c));
    let head = Stem::new("embed_out", "lm_head", "output").head([v, c]);
    table.push(match config.tie_embeddings {
        false => head,
        // llama.cpp does not support a tied head in this family.
        true => TensorName { source: Source::Repeat(format!("{EMBEDDING}.weight")), ..head },
    });
    table
}

fn block(config: &ModelConfig, i: usize) -> impl Iterator<Item = TensorName> {
    let (c, f) = (config.n_embd, config.n_inner);
    let stem = |hugging_face: &str, burn: &str, gguf: &str| {
        Stem::new(
            format!("gpt_neox.layers.{i}.{hugging_face}"),
            format!("blocks.{i}.{burn}"),
            format!("blk.{i}.{gguf}"),
        )
    };
    let linear = |stem: Stem, shape: [usize; 2], rows: RowOrder, has_bias: bool| {
        let weight = stem.matrix(shape, Orientation::OutputFirst, rows);
        [weight, stem.bias(shape[0], rows, has_bias)]
    };
    let same = RowOrder::SAME;
    let qkv = RowOrder::interleaved_qkv(config.n_head, config.head_width());
    [
        stem("input_layernorm", "ln_1", "attn_norm").layer_norm(c),
        linear(
            stem("attention.query_key_value", "attn.c_attn", "attn_qkv"),
            [3 * c, c],
            qkv,
            config.qkv_bias,
        ),
        linear(stem("attention.dense", "attn.c_proj", "attn_output"), [c, c], same, true),
        stem("post_attention_layernorm", "ln_2", "ffn_norm").layer_norm(c),
        linear(stem("mlp.dense_h_to_4h", "mlp.c_fc", "ffn_up"), [f, c], same, true),
        linear(stem("mlp.dense_4h_to_h", "mlp.c_proj", "ffn_down"), [c, f], same, true),
    ]
    .into_iter()
    .flatten()
}
