//! LLaMA and the families derived from it.
//!
//! Source: `modeling_llama.py` and similar files of transformers; `gguf-py/gguf/tensor_mapping.py`
//! and `src/models/*.cpp` of llama.cpp.

use config::{Architecture, BlockDesign, ModelConfig, Positions, Projections, QkNorm, RopePairs};

use super::{Orientation, RowOrder, Source, Stem, TensorName, TensorUse};

const EMBEDDING: &str = "model.embed_tokens";

pub(super) fn table(config: &ModelConfig) -> Vec<TensorName> {
    let (c, v) = (config.n_embd, config.vocab_size);
    let embedding = Stem::new(EMBEDDING, "wte", "token_embd");
    let mut table = rope_factors(config);
    table.push(embedding.embedding([v, c], TensorUse::Matrix));
    for i in 0..config.n_layer {
        block(config, i, &mut table);
    }
    table.push(norm(config, &Stem::new("model.norm", "norm", "output_norm"), c));
    let head = Stem::new("lm_head", "lm_head", "output").head([v, c]);
    if !config.tie_embeddings {
        table.push(head);
    } else if config.architecture == Architecture::Olmo2 {
        // llama.cpp does not support a tied head in this family.
        let source = Source::Repeat(format!("{EMBEDDING}.weight"));
        table.push(TensorName { source, ..head });
    }
    table
}

/// The factors of a scaled rotation, which only a GGUF stores as a tensor.
fn rope_factors(config: &ModelConfig) -> Vec<TensorName> {
    let row = |(name, factors): (&str, Vec<f32>)| {
        let row = Stem::new(name, name, name).row(
            "weight",
            "weight",
            &[factors.len()],
            TensorUse::Vector,
        );
        TensorName { source: Source::Settings(factors), ..row }
    };
    config.rope_tensors().into_iter().map(row).collect()
}

fn norm(config: &ModelConfig, stem: &Stem, width: usize) -> TensorName {
    let offset = config.architecture.block().norm_weight.offset();
    TensorName { offset, ..stem.rms_norm(width) }
}

fn block(config: &ModelConfig, i: usize, table: &mut Vec<TensorName>) {
    let (c, f) = (config.n_embd, config.n_inner);
    let BlockDesign { norm_placement, projections, .. } = config.architecture.block();
    let stem = |hugging_face: &str, burn: &str, gguf: &str| {
        Stem::new(
            format!("model.layers.{i}.{hugging_face}"),
            format!("blocks.{i}.{burn}"),
            format!("blk.{i}.{gguf}"),
        )
    };
    let matrix = |hugging_face: &str, burn: &str, gguf: &str, shape: [usize; 2]| {
        stem(hugging_face, burn, gguf).matrix(shape, Orientation::OutputFirst, RowOrder::SAME)
    };
    // Hugging Face names the second norm of a block by the layer before it if there are two norms,
    // and by the layer after it if there are more.
    let before_mlp = match norm_placement.is_after() {
        true => "pre_feedforward_layernorm",
        false => "post_attention_layernorm",
    };
    let norms = |name: [&str; 3], is_there: bool| {
        let [hugging_face, burn, gguf] = name;
        is_there.then(|| norm(config, &stem(hugging_face, burn, gguf), c))
    };
    let (before, after) = (norm_placement.is_before(), norm_placement.is_after());

    table.extend(norms(["input_layernorm", "attn_norm", "attn_norm"], before));
    attention(config, &stem, table);
    let post = ["post_attention_layernorm", "attn_post_norm", "post_attention_norm"];
    table.extend(norms(post, after));
    table.extend(norms([before_mlp, "ffn_norm", "ffn_norm"], before));
    match (config.experts, projections) {
        (Some(experts), _) => table.extend(super::experts::rows(config, i, experts.count)),
        (None, Projections::Separate) => table.extend([
            matrix("mlp.gate_proj", "mlp.gate", "ffn_gate", [f, c]),
            matrix("mlp.up_proj", "mlp.up", "ffn_up", [f, c]),
        ]),
        (None, Projections::Joined) => {
            table.push(matrix("mlp.gate_up_proj", "mlp.gate_up", "ffn_up", [2 * f, c]));
        }
    }
    if config.experts.is_none() {
        table.push(matrix("mlp.down_proj", "mlp.down", "ffn_down", [c, f]));
    }
    table.extend(norms(["post_feedforward_layernorm", "ffn_post_norm", "post_ffw_norm"], after));
}

fn attention(
    config: &ModelConfig,
    stem: &dyn Fn(&str, &str, &str) -> Stem,
    table: &mut Vec<TensorName>,
) {
    let (c, q, kv) = (config.n_embd, config.q_width(), config.kv_width());
    let BlockDesign { positions, qk_norm, qkv_bias, projections, .. } = config.architecture.block();
    let rotated = |heads: usize| match positions {
        Positions::Rotary(RopePairs::Adjacent) => {
            RowOrder::halves_to_pairs(heads, config.head_width())
        }
        Positions::Rotary(RopePairs::Halves) | Positions::Learned => RowOrder::SAME,
    };
    let separate = [
        ("q", q, rotated(config.n_head)),
        ("k", kv, rotated(config.n_kv_head)),
        ("v", kv, RowOrder::SAME),
    ];
    let joined = [("qkv", q + 2 * kv, RowOrder::SAME)];
    for &(letter, outputs, rows) in match projections {
        Projections::Separate => separate.as_slice(),
        Projections::Joined => &joined,
    } {
        let stem = stem(
            &format!("self_attn.{letter}_proj"),
            &format!("attn.{letter}"),
            &format!("attn_{letter}"),
        );
        table.push(stem.matrix([outputs, c], Orientation::OutputFirst, rows));
        // Readers of families with biases expect them.
        let lists_bias = config.qkv_bias || qkv_bias;
        table.extend(lists_bias.then(|| stem.bias(outputs, rows, config.qkv_bias)));
    }
    for (letter, all_heads) in [("q", q), ("k", kv)] {
        let width = match qk_norm {
            QkNorm::None => continue,
            QkNorm::Head => config.head_width(),
            QkNorm::Width => all_heads,
        };
        let stem = stem(
            &format!("self_attn.{letter}_norm"),
            &format!("attn.{letter}_norm"),
            &format!("attn_{letter}_norm"),
        );
        table.push(norm(config, &stem, width));
    }
    let output = stem("self_attn.o_proj", "attn.output", "attn_output");
    table.push(output.matrix([c, q], Orientation::OutputFirst, RowOrder::SAME));
}
