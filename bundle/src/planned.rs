//! The model that is planned for, and the sizes that it comes in.

use config::ModelConfig;

use crate::training::TrainingNeed;

/// A model in one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// llama.cpp's name of the quantization, or the file's.
    pub recipe: String,
    /// Bytes of its tensors.
    pub weights: u64,
    /// Whether `weights` is computed and not read from a file.
    pub estimated: bool,
}

/// A model, and the sizes that it comes in.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Its shape.
    pub config: ModelConfig,
    /// Its sizes.
    pub candidates: Vec<Candidate>,
    /// What training it takes, if it is described by a run file.
    pub training: Option<TrainingNeed>,
}
