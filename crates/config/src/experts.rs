//! Feed-forward layers of which each token uses only a part.

use serde::{Deserialize, Serialize};

use crate::ModelConfig;

/// The experts of every feed-forward layer of a model: for each token a router chooses the experts
/// to use (Shazeer et al., 2017). Each has the width [`crate::ModelConfig::n_inner`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experts {
    /// Experts in a layer, `E`.
    pub count: usize,
    /// Experts that each token uses.
    pub used: usize,
}

/// Whether the models of a family have experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HasExperts {
    /// No model has experts.
    Never,
    /// Some models have experts: llama.cpp treats Mixtral as a `llama`.
    Sometimes,
    /// All models have experts.
    Always,
}

impl ModelConfig {
    /// Why a model of this shape cannot be trained here, with a remedy; `None` if it can.
    pub fn training_objection(&self) -> Option<String> {
        let experts = self.experts?;
        Some(format!(
            "{} experts in each layer, which are not trained here: `export` and `quantize` take \
             the model as it is; for training, name a model without experts",
            experts.count
        ))
    }
}
