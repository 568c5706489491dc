//! Everything that can be wrong with a GGUF.

use std::path::PathBuf;

/// Why a GGUF was refused, on the way in or out.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file at hand.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// No tensor of this name.
    #[error("tensor {name} is missing")]
    MissingTensor {
        /// The name looked for.
        name: String,
    },
    /// No key of this name.
    #[error("key {key} is missing from the metadata")]
    MissingKey {
        /// The key looked for.
        key: String,
    },
    /// A key holds a value of another type.
    #[error("key {key}: expected {expected}")]
    WrongValueType {
        /// The key at fault.
        key: String,
        /// What a reader of this key needs.
        expected: &'static str,
    },
    /// A type name that this crate does not know.
    #[error(
        "unknown tensor type {name}: expected one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q6_K"
    )]
    UnknownTypeName {
        /// The name as given.
        name: String,
    },
}
