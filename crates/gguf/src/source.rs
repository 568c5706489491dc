//! The common interface of all sources of tensors: a mapped file, a folder of fragments, a
//! checkpoint.

use std::borrow::Cow;
use std::ops::Range;

use crate::{GgufError, Metadata, TensorType};

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// At most 63 bytes, unique in its file.
    pub name: String,
    /// Fastest dimension first, as GGUF stores it: a matrix `[out, in]` reads `[in, out]` here.
    pub shape: Vec<u64>,
    /// How the weights are stored.
    pub tensor_type: TensorType,
    /// Bytes from the start of the data section.
    pub offset: u64,
    /// Bytes, without padding.
    pub size: u64,
}

impl TensorInfo {
    /// Number of weights.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Weights in one row: the length of the fastest dimension.
    pub fn row_len(&self) -> usize {
        self.shape.first().map_or(0, |&n| n as usize)
    }

    /// Number of matrices in the tensor, stored one after the other: the experts of a layer; 1 for
    /// a plain matrix or a vector.
    pub fn matrices(&self) -> usize {
        self.shape.iter().skip(2).product::<u64>() as usize
    }

    /// Bytes of each of [`TensorInfo::matrices`].
    pub fn matrix_bytes(&self) -> usize {
        self.size as usize / self.matrices().max(1)
    }
}

/// A source of the metadata and tensors of one GGUF.
pub trait TensorSource: Sync {
    /// Keys in file order.
    fn metadata(&self) -> &Metadata;

    /// Tensors in file order.
    fn tensors(&self) -> &[TensorInfo];

    /// The stored bytes of one tensor, borrowed where the source has them in memory.
    ///
    /// # Errors
    /// When the bytes cannot be read, or are not the ones that were written.
    fn read(&self, tensor: &TensorInfo) -> Result<Cow<'_, [u8]>, GgufError>;

    /// The stored bytes of one of the [`TensorInfo::matrices`] of a tensor. A source that computes
    /// or copies its tensors does this only for the one matrix, so that the experts of a layer are
    /// never in memory together.
    ///
    /// # Errors
    /// As [`TensorSource::read`], and when there is no such matrix.
    fn read_matrix(&self, tensor: &TensorInfo, index: usize) -> Result<Cow<'_, [u8]>, GgufError> {
        let range = matrix_range(tensor, index)?;
        let short = || GgufError::NoMatrix { name: tensor.name.clone(), index };
        match self.read(tensor)? {
            Cow::Borrowed(bytes) => bytes.get(range).map(Cow::Borrowed).ok_or_else(short),
            Cow::Owned(bytes) => {
                bytes.get(range).map(|part| Cow::Owned(part.to_vec())).ok_or_else(short)
            }
        }
    }

    /// Tells the source that `tensor` will not be read again soon, so that a source which maps its
    /// file can release the memory. The tensor can still be read again.
    fn release(&self, tensor: &TensorInfo) {
        let _ = tensor;
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`] if there is none.
    fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.tensors()
            .iter()
            .find(|tensor| tensor.name == name)
            .ok_or_else(|| GgufError::MissingTensor { name: name.to_owned() })
    }
}

/// The byte range of matrix `index` within the bytes of a tensor.
///
/// # Errors
/// [`GgufError::NoMatrix`] when the tensor has fewer.
pub fn matrix_range(tensor: &TensorInfo, index: usize) -> Result<Range<usize>, GgufError> {
    if index >= tensor.matrices() {
        return Err(GgufError::NoMatrix { name: tensor.name.clone(), index });
    }
    let bytes = tensor.matrix_bytes();
    Ok(index * bytes..(index + 1) * bytes)
}
