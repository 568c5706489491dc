//! The errors of checkpoints.

use std::io;
use std::path::PathBuf;

use gguf::GgufError;

use crate::atomic::AtomicError;

/// Why a checkpoint could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// An error of the operating system.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The affected file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The output could not be moved to its place.
    #[error(transparent)]
    Atomic(#[from] AtomicError),
    /// An error of the GGUF crate.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A JSON file is malformed or lacks a field.
    #[error("{path}: {source}", path = path.display())]
    Json {
        /// The affected file.
        path: PathBuf,
        /// What was found and expected, with line and column.
        source: serde_json::Error,
    },
    /// A text file that Git stores in place of the real file (Git LFS).
    #[error(
        "{path}: a Git LFS pointer, which stands for a file that was not fetched; run `git lfs \
         pull` in the repository that it lies in, or download the file itself",
        path = path.display()
    )]
    GitLfsPointer {
        /// The affected file.
        path: PathBuf,
    },
    /// A text file larger than any real file of its kind.
    #[error("{path}: {size} bytes, expected at most {limit}", path = path.display())]
    TooLarge {
        /// The affected file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// Most bytes that are read.
        limit: u64,
    },
    /// The model is of a family that is not supported.
    #[error(
        "{place}: architecture {name} is not supported, expected one of: {known}",
        place = place.display()
    )]
    Architecture {
        /// The file, or `GGUF metadata`.
        place: PathBuf,
        /// The family's name as found.
        name: String,
        /// The names that are supported there.
        known: String,
    },
    /// A setting of the model is missing, out of range or not supported.
    #[error("{place}: {key} = {value}, expected {expected}", place = place.display())]
    Setting {
        /// The file, or `GGUF metadata`.
        place: PathBuf,
        /// The affected key.
        key: String,
        /// The value found, `(nothing)` if it is missing.
        value: String,
        /// What a valid value would be.
        expected: String,
    },
    /// The safetensors container is malformed.
    #[error("{path}: not a whole safetensors file: {reason}", path = path.display())]
    Container {
        /// The affected file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// A file of PyTorch that cannot be read without running its code, or is damaged.
    #[error("{path}: {reason}", path = path.display())]
    Torch {
        /// The affected file.
        path: PathBuf,
        /// What was found and what was expected, with a remedy.
        reason: String,
    },
    /// A tensor of the model is missing in the file.
    #[error("{path}: tensor {name} is missing", path = path.display())]
    MissingTensor {
        /// The affected file.
        path: PathBuf,
        /// Hugging Face's name.
        name: String,
    },
    /// The file holds a tensor that the model does not have.
    #[error("{path}: tensor {name} belongs to no part of this model", path = path.display())]
    ExtraTensor {
        /// The affected file.
        path: PathBuf,
        /// The name found.
        name: String,
    },
    /// A tensor has another shape than the model's settings require.
    #[error("{path}: tensor {name} has shape {found:?}, expected {expected:?}", path = path.display())]
    Shape {
        /// The affected file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The shape found, slowest dimension first.
        found: Vec<usize>,
        /// The shape that the settings require.
        expected: Vec<usize>,
    },
    /// A tensor is stored in a format that this reader does not convert.
    #[error("{path}: tensor {name} is stored as {found}, expected {expected}", path = path.display())]
    Dtype {
        /// The affected file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The format found.
        found: String,
        /// The supported formats.
        expected: &'static str,
    },
    /// The weights are codes of a quantized format.
    #[error(
        "{path}: tensor {name}, stored as {found}, is a part of quantized weights, expected plain \
         ones in F32, F16 or BF16; take the model from before it was quantized, or dequantize it \
         first",
        path = path.display()
    )]
    Quantized {
        /// The affected file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// How it is stored.
        found: String,
    },
    /// A weight that later stages could not use.
    #[error("tensor {name}: {value} at position {position}; {cure}")]
    Value {
        /// The tensor's name.
        name: String,
        /// The affected weight.
        value: f32,
        /// Its index in the tensor, counted from 0.
        position: usize,
        /// The remedy.
        cure: &'static str,
    },
    /// The values of a file contradict each other.
    #[error("{path}: {reason}", path = path.display())]
    Content {
        /// The affected file.
        path: PathBuf,
        /// The problem, and what was expected.
        reason: String,
    },
    /// The tokenizer does not match this model, or cannot be stored in a GGUF.
    #[error("tokenizer.json: {reason}")]
    Tokenizer {
        /// The problem, and what was expected.
        reason: String,
    },
    /// A folder without a tokenizer.
    #[error(
        "{path}: no tokenizer here; expected tokenizer.json, vocab.json with merges.txt, or \
         tokenizer.model",
        path = path.display()
    )]
    NoTokenizer {
        /// The folder.
        path: PathBuf,
    },
    /// There is no checkpoint in this folder.
    #[error("{path}: {reason}", path = path.display())]
    NoCheckpoint {
        /// The folder as given.
        path: PathBuf,
        /// What was looked for.
        reason: String,
    },
    /// Another process writes into the run folder.
    #[error(
        "{run} is in use by {holder}: wait until that is done, stop it, or choose another run folder",
        run = run.display()
    )]
    InUse {
        /// The run folder.
        run: PathBuf,
        /// The command and the number of its process.
        holder: String,
    },
    /// The source of the weights could not provide one.
    #[error("tensor {name}: {source}")]
    Source {
        /// The tensor's name.
        name: String,
        /// The error of the source.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl CheckpointError {
    /// For `map_err`: an I/O error at `path`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| CheckpointError::Io { path, source }
    }
}
