//! A feed-forward layer of experts: Mixtral's and Qwen3-MoE's.
//!
//! Hugging Face stores each expert's matrices separately; a GGUF holds one tensor for each of the
//! three, `[E, F, C]` or `[E, C, F]`, with the experts one after the other.
//!
//! Source: `modeling_mixtral.py`, `modeling_qwen3_moe.py` and `conversion_mapping.py` of
//! transformers; `conversion/llama.py` and `conversion/qwen.py` of llama.cpp.

use config::{Architecture, ModelConfig};

use super::{Expert, Orientation, RowOrder, Stem, TensorName, TensorUse};

/// One of the three matrices of an expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Gate,
    Up,
    Down,
}

impl Part {
    pub const ALL: [Part; 3] = [Part::Gate, Part::Up, Part::Down];

    /// `gate`, `up` or `down`.
    pub fn name(self) -> &'static str {
        match self {
            Part::Gate => "gate",
            Part::Up => "up",
            Part::Down => "down",
        }
    }

    /// Rows and columns of the matrix of one expert.
    pub fn shape(self, config: &ModelConfig) -> [usize; 2] {
        match self {
            Part::Gate | Part::Up => [config.n_inner, config.n_embd],
            Part::Down => [config.n_embd, config.n_inner],
        }
    }
}

/// The name of the layer in Hugging Face's files, without the number of the layer's block.
fn layer(config: &ModelConfig) -> &'static str {
    match config.architecture {
        Architecture::Llama => "block_sparse_moe",
        _ => "mlp",
    }
}

/// The router's tensor in Hugging Face's files.
pub(crate) fn router(config: &ModelConfig, i: usize) -> String {
    format!("model.layers.{i}.{}.gate", layer(config))
}

/// The tensor of one expert in Hugging Face's files, without `.weight`.
pub(crate) fn expert(config: &ModelConfig, i: usize, index: usize, part: Part) -> String {
    let part = match (config.architecture, part) {
        (Architecture::Llama, Part::Gate) => "w1",
        (Architecture::Llama, Part::Up) => "w3",
        (Architecture::Llama, Part::Down) => "w2",
        (_, Part::Gate) => "gate_proj",
        (_, Part::Up) => "up_proj",
        (_, Part::Down) => "down_proj",
    };
    format!("model.layers.{i}.{}.experts.{index}.{part}", layer(config))
}

/// The rows of block `i`.
pub(super) fn rows(config: &ModelConfig, i: usize, experts: usize) -> Vec<TensorName> {
    let matrix = |stem: &Stem, shape| stem.matrix(shape, Orientation::OutputFirst, RowOrder::SAME);
    let stem = Stem::new(
        router(config, i),
        format!("blocks.{i}.mlp.router"),
        format!("blk.{i}.ffn_gate_inp"),
    );
    let router = matrix(&stem, [experts, config.n_embd]);
    let mut rows = vec![TensorName { role: TensorUse::Router, ..router }];
    for part in Part::ALL {
        rows.extend((0..experts).map(|index| {
            let stem = Stem::new(
                expert(config, i, index, part),
                format!("blocks.{i}.mlp.experts.{index}.{}", part.name()),
                format!("blk.{i}.ffn_{}_exps", part.name()),
            );
            let row = matrix(&stem, part.shape(config));
            TensorName { expert: Some(Expert { index, of: experts }), ..row }
        }));
    }
    rows
}
