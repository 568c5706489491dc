//! The layout of the canonical file for given metadata and tensors.
//!
//! ```text
//! 0              header, keys, tensor descriptions
//! data_start     tensor 0     multiple of the alignment
//!                tensor 1     each starts at the next multiple after the one before it
//! file_size                   multiple of the alignment: the last tensor is padded, too
//! ```
//!
//! ggml (`gguf_init_from_reader` in `gguf.cpp`) accepts tensors only at these offsets, so planning
//! a file and checking one are the same computation.

use std::collections::HashMap;

use crate::{GgufError, Metadata, TensorInfo, TensorType, Value, encode, limits};

/// The key that changes the alignment.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";

/// Name, shape (fastest dimension first) and format of a tensor in a planned file.
pub(crate) type Described = (String, Vec<u64>, TensorType);

/// The layout of the canonical file for some metadata and tensors. Does not need the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Tensors in file order, with their offsets and sizes.
    pub tensors: Vec<TensorInfo>,
    /// Where the data section starts, in bytes from the start of the file.
    pub data_start: u64,
    /// Tensors start at multiples of this many bytes.
    pub alignment: u64,
    /// Bytes of the whole file, the padding of the last tensor included.
    pub file_size: u64,
    /// Index of each tensor by name, for a fast lookup in files with very many tensors.
    index: HashMap<String, usize>,
}

impl Layout {
    /// Plans a file with `metadata` and then `tensors` in the given order, each a name, a shape
    /// with the fastest dimension first, and a format.
    ///
    /// # Errors
    /// If llama.cpp would refuse to read the file; the error names the key or tensor.
    pub fn plan(metadata: &Metadata, tensors: &[Described]) -> Result<Self, GgufError> {
        check_metadata(metadata)?;
        let header_len = encode::header_len(metadata, tensors);
        Self::place(header_len, alignment(metadata)?, tensors.to_vec())
    }

    /// Places `tensors` after a header of `header_len` bytes, not counting padding.
    pub(crate) fn place(
        header_len: u64,
        alignment: u64,
        tensors: Vec<Described>,
    ) -> Result<Self, GgufError> {
        check_count("tensors", tensors.len(), limits::TENSORS)?;
        let data_start = pad(header_len, alignment)?;
        let mut offset = 0;
        let mut placed = Vec::with_capacity(tensors.len());
        for (index, (name, shape, tensor_type)) in tensors.into_iter().enumerate() {
            limits::check_name(&name, limits::TENSOR_NAME, || format!("tensor {index}"))?;
            let size = tensor_size(&name, &shape, tensor_type)?;
            placed.push(TensorInfo { name, shape, tensor_type, offset, size });
            offset = pad(add(offset, size)?, alignment)?;
        }
        let index = index(&placed)?;
        let file_size = add(data_start, offset)?;
        Ok(Self { tensors: placed, data_start, alignment, file_size, index })
    }

    /// The bytes from the start of the file to `data_start`, padding included.
    ///
    /// # Errors
    /// [`GgufError::ForeignMetadata`] if the size of `metadata` is not the one that this layout was
    /// planned for.
    pub fn header(&self, metadata: &Metadata) -> Result<Vec<u8>, GgufError> {
        let mut bytes = encode::header(metadata, &self.tensors)?;
        let (found, expected) = (bytes.len() as u64, self.data_start);
        if pad(found, self.alignment)? != expected {
            return Err(GgufError::ForeignMetadata { expected, found });
        }
        bytes.resize(expected as usize, 0);
        Ok(bytes)
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`] if there is none.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        let index = self.index.get(name);
        let missing = || GgufError::MissingTensor { name: name.to_owned() };
        Ok(&self.tensors[*index.ok_or_else(missing)?])
    }

    /// Index of `tensor` in [`Layout::tensors`].
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`] if it is not a tensor of this layout.
    pub fn index_of(&self, tensor: &TensorInfo) -> Result<usize, GgufError> {
        let index = self.index.get(&tensor.name).copied();
        index
            .filter(|&index| self.tensors[index] == *tensor)
            .ok_or_else(|| GgufError::MissingTensor { name: tensor.name.clone() })
    }

    /// The end of the bytes of `tensor` without its padding, from the start of the file.
    pub(crate) fn end_of(&self, tensor: &TensorInfo) -> u64 {
        self.data_start + tensor.offset + tensor.size
    }
}

/// The alignment in `metadata`.
pub(crate) fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    let limit = limits::ALIGNMENT;
    match metadata.get(ALIGNMENT_KEY) {
        None => Ok(crate::DEFAULT_ALIGNMENT),
        Some(&Value::U32(bytes)) if bytes.is_power_of_two() && u64::from(bytes) <= limit => {
            Ok(u64::from(bytes))
        }
        Some(other) => {
            let found = format!("{} {other}", other.type_name());
            Err(GgufError::BadAlignment { found, limit })
        }
    }
}

fn check_metadata(metadata: &Metadata) -> Result<(), GgufError> {
    check_count("keys", metadata.len(), limits::KEYS)?;
    for (index, (key, value)) in metadata.iter().enumerate() {
        limits::check_name(key, limits::KEY, || format!("key {index}"))?;
        limits::check_value(key, value)?;
    }
    Ok(())
}

fn check_count(what: &str, count: usize, limit: u64) -> Result<(), GgufError> {
    let count = count as u64;
    if count > limit {
        return Err(GgufError::TooMany { what: what.to_owned(), count, limit });
    }
    Ok(())
}

fn index(tensors: &[TensorInfo]) -> Result<HashMap<String, usize>, GgufError> {
    let mut index = HashMap::with_capacity(tensors.len());
    for (position, tensor) in tensors.iter().enumerate() {
        if index.insert(tensor.name.clone(), position).is_some() {
            return Err(GgufError::DuplicateTensor { name: tensor.name.clone() });
        }
    }
    Ok(index)
}

/// Bytes of one tensor, or why it is not possible in ggml.
fn tensor_size(name: &str, shape: &[u64], tensor_type: TensorType) -> Result<u64, GgufError> {
    let name = || name.to_owned();
    if shape.is_empty() || shape.len() > limits::DIMENSIONS {
        return Err(GgufError::DimensionCount { name: name(), count: shape.len() as u64 });
    }
    if shape.contains(&0) {
        return Err(GgufError::EmptyTensor { name: name(), shape: shape.to_vec() });
    }
    let (row, block) = (shape[0], tensor_type.block_len() as u64);
    if !row.is_multiple_of(block) {
        return Err(GgufError::PartialBlock { name: name(), row, block, tensor_type });
    }
    // In ggml the number of weights, not only of bytes, must fit in 63 bits.
    let elements = shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
    elements
        .filter(|&elements| i64::try_from(elements).is_ok())
        .and_then(|_| tensor_type.size_of(shape))
        .ok_or_else(|| GgufError::TensorTooLarge { name: name(), shape: shape.to_vec() })
}

/// The next multiple of `alignment`, a power of two.
fn pad(size: u64, alignment: u64) -> Result<u64, GgufError> {
    size.checked_next_multiple_of(alignment)
        .filter(|&padded| i64::try_from(padded).is_ok())
        .ok_or(GgufError::FileTooLarge)
}

fn add(a: u64, b: u64) -> Result<u64, GgufError> {
    a.checked_add(b).filter(|&sum| i64::try_from(sum).is_ok()).ok_or(GgufError::FileTooLarge)
}
