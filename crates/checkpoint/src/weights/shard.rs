//! One safetensors file: its header, and its bytes by position.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};

use crate::CheckpointError;

/// Longest header that is read: the limit that the format itself sets.
const HEADER_LIMIT: u64 = 100_000_000;

/// An open file and the start of its data.
#[derive(Debug)]
pub(super) struct Shard {
    pub path: PathBuf,
    file: File,
    data_start: u64,
}

impl Shard {
    /// Reads the header; no weights yet.
    pub fn open(path: &Path) -> Result<(Self, Vec<(String, TensorInfo)>), CheckpointError> {
        let mut file = File::open(path).map_err(CheckpointError::io(path))?;
        let size = file.metadata().map_err(CheckpointError::io(path))?.len();
        let refuse = |reason: String| CheckpointError::Container { path: path.to_owned(), reason };

        let mut length = [0; 8];
        file.read_exact(&mut length)
            .map_err(|_| refuse(format!("{size} bytes, shorter than a header")))?;
        let length = u64::from_le_bytes(length);
        if length > HEADER_LIMIT || length + 8 > size {
            return Err(refuse(format!("a header of {length} bytes in a file of {size}")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(CheckpointError::io(path))?;
        // Deserializing checks shapes against offsets, and that the tensors leave no gaps.
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| refuse(error.to_string()))?;
        let expected = (length + 8).saturating_add(metadata.data_len() as u64);
        if expected != size {
            return Err(refuse(format!("{size} bytes, expected {expected}; copy it again")));
        }
        let tensors = metadata.tensors().into_iter().map(|(k, v)| (k, v.clone())).collect();
        Ok((Shard { path: path.to_owned(), file, data_start: length + 8 }, tensors))
    }

    /// Fills `out` from byte `offset` of the data on.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<(), CheckpointError> {
        read_exact_at(&self.file, self.data_start + offset as u64, out)
            .map_err(CheckpointError::io(&self.path))
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
