//! The errors of a run file, each with the place and a remedy.

use std::path::PathBuf;

/// Why a run file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the run file {path}: {source}")]
    Read {
        /// The file as the user named it.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The TOML is malformed, a key is unknown or a value has the wrong type.
    #[error("{path}:{line}: {message}")]
    Parse {
        /// The file as the user named it.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What was found and what was expected.
        message: String,
    },
    /// A `--set key=value` could not be applied.
    #[error("--set {assignment}: {message}")]
    Override {
        /// The argument as typed.
        assignment: String,
        /// What was expected.
        message: String,
    },
    /// A value cannot be represented in TOML: a path that is not UTF-8.
    #[error("the run file cannot be written as TOML: {0}")]
    NotToml(String),
    /// A value is out of its range, or two values contradict each other.
    #[error("{key} = {value}: expected {expected}")]
    Invalid {
        /// Dotted key, for example `model.n_head`.
        key: &'static str,
        /// The value found.
        value: String,
        /// The range or relation that holds for valid values.
        expected: String,
    },
}
