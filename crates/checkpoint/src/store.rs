//! Writes a safetensors file, with one tensor in memory at a time.
//!
//! The library's own writer needs a view of every tensor at once and creates the file itself; ours
//! requests the tensors one by one and writes through [`crate::atomic`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::atomic::{AtomicError, write_file};
use crate::{CheckpointError, Tensors};

/// Name, format and shape of a tensor that is to be written.
pub(crate) struct Entry {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// The weights of one tensor, in any type that can be written.
pub(crate) enum Values<'a> {
    F32(Cow<'a, [f32]>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    U32(&'a [u32]),
}

impl<'a> Values<'a> {
    /// In the format of a file.
    fn narrowed(values: Cow<'a, [f32]>, dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => {
                let mut narrow = vec![f16::ZERO; values.len()];
                narrow.convert_from_f32_slice(&values);
                Values::F16(narrow)
            }
            Dtype::BF16 => {
                let mut narrow = vec![bf16::ZERO; values.len()];
                narrow.convert_from_f32_slice(&values);
                Values::BF16(narrow)
            }
            _ => Values::F32(values),
        }
    }

    /// In their memory format.
    fn as_bytes(&self) -> &[u8] {
        match self {
            Values::F32(values) => bytemuck::cast_slice(values),
            Values::F16(values) => bytemuck::cast_slice(values),
            Values::BF16(values) => bytemuck::cast_slice(values),
            Values::U32(values) => bytemuck::cast_slice(values),
        }
    }
}

/// Writes `entries` in their order to a new file; `data` returns the values of one.
pub(crate) fn write<'a>(
    path: &Path,
    entries: &[Entry],
    data: impl Fn(&Entry) -> Result<Values<'a>, CheckpointError>,
) -> Result<(), CheckpointError> {
    let (header, sizes) = header(path, entries)?;
    write_file(path, false, |out| {
        let write_error = |source| AtomicError::Write { path: path.to_owned(), source };
        out.write_all(&(header.len() as u64).to_le_bytes()).map_err(write_error)?;
        out.write_all(&header).map_err(write_error)?;
        for (entry, &size) in entries.iter().zip(&sizes) {
            let values = data(entry)?;
            let bytes = values.as_bytes();
            if bytes.len() != size {
                let reason = format!(
                    "tensor {} came with {} bytes, expected {size} for its shape {:?}",
                    entry.name,
                    bytes.len(),
                    entry.shape
                );
                return Err(CheckpointError::Content { path: path.to_owned(), reason });
            }
            out.write_all(bytes).map_err(write_error)?;
        }
        Ok(())
    })
}

/// Writes a set of float tensors, each in its own format, as a safetensors file, which [`crate::Weights`]
/// reads.
///
/// # Errors
/// When the file exists or cannot be written, or a tensor cannot be read.
pub fn write_tensors(path: &Path, tensors: &dyn Tensors) -> Result<(), CheckpointError> {
    let entries: Vec<Entry> = tensors
        .list()
        .into_iter()
        .map(|(name, shape)| Entry { dtype: tensors.dtype(&name), name, shape })
        .collect();
    write(path, &entries, |entry| {
        tensors.data(&entry.name).map(|values| Values::narrowed(values, entry.dtype))
    })
}

/// The header, padded to 8 bytes as the format requires, and the bytes of each tensor.
fn header(path: &Path, entries: &[Entry]) -> Result<(Vec<u8>, Vec<usize>), CheckpointError> {
    let refuse = |reason: String| CheckpointError::Container { path: path.to_owned(), reason };
    let (mut sizes, mut infos, mut offset) = (Vec::new(), Vec::new(), 0_usize);
    for Entry { name, dtype, shape } in entries {
        let size = shape
            .iter()
            .try_fold(dtype.bitsize() / 8, |size, &dim| size.checked_mul(dim))
            .and_then(|size| offset.checked_add(size).map(|_| size))
            .ok_or_else(|| refuse(format!("tensor {name} is too large: {shape:?}")))?;
        let data_offsets = (offset, offset + size);
        offset += size;
        sizes.push(size);
        infos
            .push((name.clone(), TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets }));
    }
    // transformers reads this to identify the framework of the file.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos).map_err(|error| refuse(error.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| refuse(error.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok((header, sizes))
}
