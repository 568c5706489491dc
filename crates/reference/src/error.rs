//! Errors of loading a model or running it on tokens.

use checkpoint::CheckpointError;
use gguf::GgufError;

/// Why a model was refused, or a pass could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// A tensor is missing, or its bytes cannot be read.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The metadata does not describe a model that this crate can run.
    #[error(transparent)]
    Metadata(#[from] CheckpointError),
    /// The settings contradict themselves.
    #[error("model settings: {reason}")]
    Config {
        /// Which setting, and what was expected of it.
        reason: String,
    },
    /// A tensor has another shape than the settings say.
    #[error(
        "tensor {name}: expected shape {expected:?}, found {found:?} (fastest dimension first); \
         the file's metadata and its tensors do not belong together"
    )]
    Shape {
        /// The tensor at fault.
        name: String,
        /// The shape that the settings require, fastest dimension first.
        expected: Vec<u64>,
        /// The shape in the file, fastest dimension first.
        found: Vec<u64>,
    },
    /// A tensor that this architecture does not use.
    #[error("tensor {name} has no place in a model of architecture {architecture}")]
    UnexpectedTensor {
        /// The tensor at fault.
        name: String,
        /// The architecture that the metadata names.
        architecture: &'static str,
    },
    /// A pass without tokens.
    #[error("no tokens to read: expected at least one")]
    NoTokens,
    /// More tokens than the model has positions for.
    #[error("{wanted} tokens do not fit in the model's context of {limit}: pass at most {limit}")]
    ContextOverflow {
        /// Tokens that would be in the context.
        wanted: usize,
        /// Positions of the model.
        limit: usize,
    },
    /// A token id beyond the embedding.
    #[error(
        "token {token} at position {position}: expected an id below the vocabulary size \
         {vocab_size}; the text was encoded with another tokenizer"
    )]
    TokenOutOfRange {
        /// The id at fault.
        token: u32,
        /// Its index in the tokens that were passed.
        position: usize,
        /// Rows of the embedding.
        vocab_size: usize,
    },
}
