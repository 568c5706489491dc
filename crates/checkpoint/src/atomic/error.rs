//! Why output could not be put in its place.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file or folder was not written. What was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum AtomicError {
    /// The target exists and may not be replaced.
    #[error("{path} exists already; use --force to replace it", path = path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// A file was to be written where a folder is.
    #[error("{path} is a folder; name a file", path = path.display())]
    NotAFile {
        /// The target.
        path: PathBuf,
    },
    /// A device, a pipe or a socket is where a file was to be written.
    #[error(
        "{path} is {found}: expected a file, or nothing, there; name another output",
        path = path.display()
    )]
    Special {
        /// The target.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// A folder was to be written where a file is.
    #[error("{path} is a file; name a folder", path = path.display())]
    NotAFolder {
        /// The target.
        path: PathBuf,
    },
    /// What is to be written would take the place of what it is made from.
    #[error(
        "{path} is, holds or lies inside of the input {input}; name another output",
        path = path.display(),
        input = input.display()
    )]
    OverInput {
        /// The target.
        path: PathBuf,
        /// What it is made from.
        input: PathBuf,
    },
    /// The path ends in `..` or is the root.
    #[error("{path} does not end in a name; write the name out", path = path.display())]
    NoName {
        /// The target.
        path: PathBuf,
    },
    /// The folder that holds the target cannot be made or written.
    #[error("cannot write in the folder {folder}: {source}", folder = folder.display())]
    Folder {
        /// The target's parent.
        folder: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The bytes or the rename did not go through; a full disk ends here.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The target.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl AtomicError {
    /// That `path` was not written. An error of [`super::NamedFile`] says so already and is taken as
    /// it is.
    pub fn write(path: &Path, source: io::Error) -> Self {
        match source.downcast::<AtomicError>() {
            Ok(named) => named,
            Err(source) => AtomicError::Write { path: path.to_owned(), source },
        }
    }
}
