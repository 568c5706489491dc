//! Reading a safetensors file, one tensor or a part of one at a time.
//!
//! The file is read by position and not mapped: a mapping counts towards the memory of the
//! process once its pages were touched, and export promises to hold one tensor only.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorInfo};

use crate::CheckpointError;

pub use safetensors::Dtype;

/// Longest header that is read: the limit that the format itself sets.
const HEADER_LIMIT: u64 = 100_000_000;

/// The tensors of one safetensors file.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    file: File,
    data_start: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Weights {
    /// Reads the header; no weights yet.
    ///
    /// # Errors
    /// When the file cannot be read, is cut short, has gaps, or is no safetensors file.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
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
        Ok(Weights { path: path.to_owned(), file, data_start: length + 8, tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names in alphabetical order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Names with shapes, in alphabetical order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info.shape.as_slice()))
    }

    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Slowest dimension first.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize], CheckpointError> {
        self.info(name).map(|info| info.shape.as_slice())
    }

    /// How the weights are stored.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub fn dtype(&self, name: &str) -> Result<Dtype, CheckpointError> {
        self.info(name).map(|info| info.dtype)
    }

    /// The bytes of one tensor as they are stored.
    ///
    /// # Errors
    /// When there is no such tensor or the file cannot be read.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>, CheckpointError> {
        let (start, end) = self.info(name)?.data_offsets;
        let mut bytes = vec![0; end - start];
        self.read_at(start, &mut bytes)?;
        Ok(bytes)
    }

    /// One tensor, row-major; F16 and BF16 are widened.
    ///
    /// # Errors
    /// When there is no such tensor, it holds something else than floats, or the file cannot be
    /// read.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let elements = self.info(name)?.shape.iter().product();
        let mut values = vec![0.0; elements];
        self.read_f32_at(name, 0, &mut values)?;
        Ok(values)
    }

    /// Part of a tensor: as many weights as `out` holds, from position `first` of the row-major
    /// order on.
    ///
    /// # Errors
    /// As [`Weights::read_f32`], and when the part reaches past the end of the tensor.
    pub fn read_f32_at(
        &self,
        name: &str,
        first: usize,
        out: &mut [f32],
    ) -> Result<(), CheckpointError> {
        let info = self.info(name)?;
        let elements: usize = info.shape.iter().product();
        if first.checked_add(out.len()).is_none_or(|end| end > elements) {
            let reason = format!("tensor {name} has {elements} weights, asked for more");
            return Err(CheckpointError::Content { path: self.path.clone(), reason });
        }
        let width = info.dtype.bitsize() / 8;
        let start = info.data_offsets.0 + first * width;
        match info.dtype {
            Dtype::F32 => self.read_at(start, bytemuck::cast_slice_mut(out)),
            Dtype::F16 => {
                let mut stored = vec![f16::ZERO; out.len()];
                self.read_at(start, bytemuck::cast_slice_mut(&mut stored))?;
                stored.convert_to_f32_slice(out);
                Ok(())
            }
            Dtype::BF16 => {
                let mut stored = vec![bf16::ZERO; out.len()];
                self.read_at(start, bytemuck::cast_slice_mut(&mut stored))?;
                stored.convert_to_f32_slice(out);
                Ok(())
            }
            other => Err(CheckpointError::Dtype {
                path: self.path.clone(),
                name: name.to_owned(),
                found: other.to_string(),
                expected: "F32, F16 or BF16",
            }),
        }
    }

    /// Gives every tensor the name that `rename` makes of its own; no two may become equal.
    pub(crate) fn rename(&mut self, rename: impl Fn(&str) -> String) {
        let tensors = std::mem::take(&mut self.tensors);
        self.tensors = tensors.into_iter().map(|(name, info)| (rename(&name), info)).collect();
    }

    /// Forgets a tensor.
    pub(crate) fn remove(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, CheckpointError> {
        self.tensors.get(name).ok_or_else(|| CheckpointError::MissingTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })
    }

    fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<(), CheckpointError> {
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
