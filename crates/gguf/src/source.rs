//! What every holder of tensors offers: a mapped file, a folder of fragments, a checkpoint.

use std::borrow::Cow;

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
}

/// Something that holds the metadata and tensors of one GGUF.
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

    /// Says that `tensor` will not be read again soon, so that a source which maps its file can
    /// give the memory back. Reading it again stays possible.
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
