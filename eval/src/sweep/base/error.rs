//! The errors of reading and writing a base.

use std::io;
use std::path::PathBuf;

/// Why a file is not the wanted base, or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// Another kind of file.
    #[error("{path} is no base of logits: name another file with --base-logits")]
    NoBase {
        /// The affected file.
        path: PathBuf,
    },
    /// A file of llama-perplexity, which stores log-probabilities.
    #[error(
        "{path} is llama-perplexity's own file of log-probabilities, whose precision is another: \
         name another file with --base-logits"
    )]
    OfLlamaPerplexity {
        /// The affected file.
        path: PathBuf,
    },
    /// Written by a newer or older program.
    #[error("{path}: version {found} of the format, expected {expected}: --force writes it anew")]
    Version {
        /// The affected file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The supported version.
        expected: u32,
    },
    /// Bytes of the header changed.
    #[error("{path}: its header is damaged: --force writes it anew")]
    DamagedHeader {
        /// The affected file.
        path: PathBuf,
    },
    /// Valid, but made from another model or text.
    #[error("{path} is a base {what}: name another file, or replace it with --force")]
    Another {
        /// The affected file.
        path: PathBuf,
        /// The first difference.
        what: String,
    },
    /// Truncated, or with additional bytes.
    #[error("{path} has {found} bytes, its header says {expected}: --force writes it anew")]
    Size {
        /// The affected file.
        path: PathBuf,
        /// Bytes of the file.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// A window without a mark in a base whose name says that it is finished.
    #[error("{path}: window {window} was never written: --force writes it anew")]
    Unfinished {
        /// The affected file.
        path: PathBuf,
        /// The first such window.
        window: usize,
    },
    /// Bytes of a window changed.
    #[error("{path}: window {window} is damaged: --force writes it anew")]
    DamagedWindow {
        /// The affected file.
        path: PathBuf,
        /// The affected window.
        window: usize,
    },
    /// Another process is writing the file.
    #[error("{path} is being written by another process: wait for it, or name another file")]
    Busy {
        /// The file that is locked.
        path: PathBuf,
    },
    /// Not enough space on the disk.
    #[error(
        "{path} would take {needed}, and its disk has {free} left: read less with --tokens, or \
         name a file on another disk with --base-logits"
    )]
    NoRoom {
        /// The file that was to be written.
        path: PathBuf,
        /// Bytes that still have to be written, in words.
        needed: String,
        /// Bytes that are free, in words.
        free: String,
    },
    /// An error of the operating system.
    #[error("{path}")]
    Io {
        /// The affected file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl BaseError {
    /// Whether the file is a base of this program, which may be overwritten; false for other files
    /// and for files that cannot be read.
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
