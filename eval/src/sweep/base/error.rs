//! Why a base is refused.

use std::io;
use std::path::PathBuf;

/// Why a file is not the base that was asked for, or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// Some other file.
    #[error("{path} is no base of logits: name another file with --base-logits")]
    NoBase {
        /// The file at fault.
        path: PathBuf,
    },
    /// A file of the tool that does the same.
    #[error(
        "{path} is llama-perplexity's own file of log-probabilities, whose precision is another: \
         name another file with --base-logits"
    )]
    OfLlamaPerplexity {
        /// The file at fault.
        path: PathBuf,
    },
    /// Written by a newer or older program.
    #[error("{path}: version {found} of the format, expected {expected}: --force writes it anew")]
    Version {
        /// The file at fault.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// Bytes of the header changed.
    #[error("{path}: its header is damaged: --force writes it anew")]
    DamagedHeader {
        /// The file at fault.
        path: PathBuf,
    },
    /// Sound, but made from something else.
    #[error("{path} is a base {what}: name another file, or replace it with --force")]
    Another {
        /// The file at fault.
        path: PathBuf,
        /// What is different.
        what: String,
    },
    /// Cut short, or something was added.
    #[error("{path} has {found} bytes, its header says {expected}: --force writes it anew")]
    Size {
        /// The file at fault.
        path: PathBuf,
        /// Bytes of the file.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// A window without a mark under the name of a finished base.
    #[error("{path}: window {window} was never written: --force writes it anew")]
    Unfinished {
        /// The file at fault.
        path: PathBuf,
        /// The first such window.
        window: usize,
    },
    /// Bytes of a window changed.
    #[error("{path}: window {window} is damaged: --force writes it anew")]
    DamagedWindow {
        /// The file at fault.
        path: PathBuf,
        /// The window at fault.
        window: usize,
    },
    /// Another process is at it.
    #[error("{path} is being written by another process: wait for it, or name another file")]
    Busy {
        /// The file that is locked.
        path: PathBuf,
    },
    /// The disk has no room for it.
    #[error(
        "{path} would take {needed}, and its disk has {free} left: read less with --tokens, or \
         name a file on another disk with --base-logits"
    )]
    NoRoom {
        /// The file that was to be written.
        path: PathBuf,
        /// Bytes that are missing in it, in words.
        needed: String,
        /// Bytes that are left, in words.
        free: String,
    },
    /// The operating system refused.
    #[error("{path}")]
    Io {
        /// The file at fault.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl BaseError {
    /// Whether the file is a base of ours that may be written anew, rather than somebody else's or one
    /// that cannot be looked at.
    pub fn is_of_ours(&self) -> bool {
        matches!(
            self,
            BaseError::Version { .. }
                | BaseError::DamagedHeader { .. }
                | BaseError::Another { .. }
                | BaseError::Size { .. }
                | BaseError::Unfinished { .. }
                | BaseError::DamagedWindow { .. }
        )
    }
}
