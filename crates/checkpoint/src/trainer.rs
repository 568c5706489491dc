//! The position in the training: everything except the weights and the optimizer's moments.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::CheckpointError;
use crate::limits::{SMALL_JSON_BYTES, read_text};

/// The content of `trainer.json`: with it, a resumed run continues as if it had never stopped. All
/// random numbers follow from the seed and the step. Keys of older versions that are not listed
/// here (`random`) are skipped.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainerState {
    /// Version of the program that wrote it.
    pub version: String,
    /// Optimizer steps taken.
    pub step: u64,
    /// Current epoch, counted from 0.
    pub epoch: u64,
    /// Trained batches of this epoch: the next one has this position in the shuffled order.
    pub batch: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Number format of the matrix products: `f32` or `bf16`; empty if it was not recorded.
    pub precision: String,
    /// The first step, counted from 0, that used rounded weights or will use them; none without
    /// quantization-aware training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qat_start: Option<u64>,
    /// Digest of the teacher, or of its recorded predictions; empty without one.
    #[serde(alias = "qat_teacher", skip_serializing_if = "String::is_empty")]
    pub teacher: String,
    /// Digest of the weights that adapters are trained for; empty without adapters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lora_base: String,
    /// Digest of the reference log-probabilities of training on pairs of answers; empty without.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reference: String,
    /// Lowest validation loss so far, in nats per token.
    pub best_val_loss: Option<f64>,
    /// Hash of the token file: resuming with other tokens is refused.
    pub tokens_hash: String,
    /// Seconds spent training, over all starts of the run.
    pub elapsed_s: f64,
    /// The last values measured, by the names of `metrics.jsonl`.
    pub metrics: BTreeMap<String, f64>,
}

impl TrainerState {
    /// The text of `trainer.json`.
    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// Reads `trainer.json`.
    pub(crate) fn load(path: &Path) -> Result<Self, CheckpointError> {
        let text = read_text(path, SMALL_JSON_BYTES)?;
        serde_json::from_str(&text)
            .map_err(|source| CheckpointError::Json { path: path.to_owned(), source })
    }
}
