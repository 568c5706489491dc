//! A tensor as floats, wherever it is and however it is stored.

use crate::{GgufError, TensorInfo, TensorSource, blocks};

/// Reads a tensor and converts it to floats, in the order of its file: rows of
/// [`TensorInfo::row_len`] weights.
///
/// # Errors
/// Those of [`TensorSource::read`], and [`blocks::BlockError::Size`] where the source hands out
/// another number of bytes than the shape needs.
pub fn read_f32(source: &dyn TensorSource, tensor: &TensorInfo) -> Result<Vec<f32>, GgufError> {
    let bytes = source.read(tensor)?;
    // The bytes at hand bound the allocation, not the shape that a file claims.
    let block_bytes = tensor.tensor_type.block_bytes();
    let weights = bytes.len() / block_bytes * tensor.tensor_type.block_len();
    if weights as u64 != tensor.elements() {
        return Err(blocks::BlockError::Size {
            tensor_type: tensor.tensor_type,
            weights: tensor.elements() as usize,
            expected: tensor.size as usize,
            actual: bytes.len(),
        }
        .into());
    }
    let mut out = vec![0.0; weights];
    blocks::dequantize(tensor.tensor_type, &bytes, &mut out)?;
    Ok(out)
}
