//! A file with weights in it, read by position.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::{CheckpointError, limits};

/// An open file that holds tensors.
#[derive(Debug)]
pub(super) struct DataFile {
    pub path: PathBuf,
    pub size: u64,
    file: File,
}

impl DataFile {
    /// Opens a file; a Git LFS pointer is refused.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file = plain_file::open(path).map_err(CheckpointError::io(path))?;
        let size = file.metadata().map_err(CheckpointError::io(path))?.len();
        let data = DataFile { path: path.to_owned(), size, file };
        let start = data.bytes(0, size.min(gguf::GIT_LFS_POINTER.len() as u64) as usize)?;
        limits::check_fetched(path, &start)?;
        Ok(data)
    }

    /// Fills `out` from byte `start` of the file on.
    pub fn read_at(&self, start: u64, out: &mut [u8]) -> Result<(), CheckpointError> {
        read_exact_at(&self.file, start, out).map_err(CheckpointError::io(&self.path))
    }

    /// `length` bytes from byte `start` on; the caller has held `length` against the file's size.
    pub fn bytes(&self, start: u64, length: usize) -> Result<Vec<u8>, CheckpointError> {
        let mut bytes = vec![0; length];
        self.read_at(start, &mut bytes)?;
        Ok(bytes)
    }

    /// The file itself, for readers that seek.
    pub fn file(&self) -> &File {
        &self.file
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                offset += n as u64;
                out = &mut out[n..];
            }
        }
    }
    Ok(())
}
