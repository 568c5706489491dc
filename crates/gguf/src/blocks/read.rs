//! Reads a tensor as floats, from any source and in any format.

use crate::{GgufError, TensorInfo, TensorSource, blocks};

/// Reads a tensor and converts it to floats, in the order of its file: rows of
/// [`TensorInfo::row_len`] weights.
///
/// # Errors
/// Those of [`TensorSource::read`], and [`blocks::BlockError::Size`] if the source returns another
/// number of bytes than the shape needs.
pub fn read_f32(source: &dyn TensorSource, tensor: &TensorInfo) -> Result<Vec<f32>, GgufError> {
    floats(tensor, &source.read(tensor)?, tensor.elements() as usize)
}

/// As [`read_f32`], one of the [`TensorInfo::matrices`] of a tensor.
///
/// # Errors
/// As [`read_f32`], and when there is no such matrix.
pub fn read_matrix_f32(
    source: &dyn TensorSource,
    tensor: &TensorInfo,
    index: usize,
) -> Result<Vec<f32>, GgufError> {
    let bytes = source.read_matrix(tensor, index)?;
    floats(tensor, &bytes, tensor.elements() as usize / tensor.matrices())
}

fn floats(tensor: &TensorInfo, bytes: &[u8], expected: usize) -> Result<Vec<f32>, GgufError> {
    // The allocation is limited by the bytes that exist, not by the shape that a file claims.
    let block_bytes = tensor.tensor_type.block_bytes();
    let weights = bytes.len() / block_bytes * tensor.tensor_type.block_len();
    if weights != expected {
        return Err(blocks::BlockError::Size {
            tensor_type: tensor.tensor_type,
            weights: expected,
            expected: expected / tensor.tensor_type.block_len() * block_bytes,
            actual: bytes.len(),
        }
        .into());
    }
    let mut out = vec![0.0; weights];
    blocks::dequantize(tensor.tensor_type, bytes, &mut out)?;
    Ok(out)
}
