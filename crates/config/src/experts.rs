//! Feed-forward layers of which each token uses a part.

use serde::{Deserialize, Serialize};

use crate::ModelConfig;

/// The experts of every feed-forward layer of a model: a router chooses for each token those that
/// it uses (Shazeer et al., 2017). Each is as wide as [`crate::ModelConfig::n_inner`] says.
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
    /// None has.
    Never,
    /// Some have: llama.cpp calls Mixtral a `llama`.
    Sometimes,
    /// All have.
    Always,
}

impl ModelConfig {
    /// Why a model of this shape is not trained here, with the way out; none where it is.
    pub fn training_objection(&self) -> Option<String> {
        let experts = self.experts?;
        Some(format!(
            "{} experts in each layer, which are not trained here: `export` and `quantize` take \
             the model as it is; for training, name a model without experts",
            experts.count
        ))
    }
}
