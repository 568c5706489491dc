//! Encodes the rows of a tensor as bytes.

use gguf::blocks::{self, BlockError};
use gguf::{GgufError, TensorInfo, TensorType};

use crate::Importance;

/// Some rows of a tensor, and the type to encode them in.
pub(crate) struct Slab<'a> {
    /// The tensor as it is stored now.
    pub tensor: &'a TensorInfo,
    /// The type in the output.
    pub to: TensorType,
    /// The index of the first of these rows in the tensor.
    pub first_row: usize,
    /// Whole rows.
    pub rows: &'a [f32],
}

/// Encodes rows as bytes.
pub(crate) trait Encode: Sync {
    /// Fills `out`, which has the size of the encoded rows.
    ///
    /// # Errors
    /// When a weight is not finite or too large for the type.
    fn encode(&self, slab: &Slab<'_>, out: &mut [u8]) -> anyhow::Result<()>;
}

/// ggml's own rounding, block by block.
pub(crate) struct Rounding<'a> {
    /// The weight of the errors of each column.
    pub importance: Option<&'a Importance>,
}

impl Encode for Rounding<'_> {
    fn encode(&self, slab: &Slab<'_>, out: &mut [u8]) -> anyhow::Result<()> {
        let Slab { tensor, to, first_row, rows } = *slab;
        let row_len = tensor.row_len();
        let Some(importance) = self.importance.map(|data| data.of(tensor)).transpose()?.flatten()
        else {
            return round(to, rows, row_len, first_row, None, out);
        };
        // Experts are stored one after the other, and each has its own columns.
        let rows_of_expert = tensor.shape.get(1).map_or(1, |&n| n as usize);
        let row_bytes = row_len / to.block_len() * to.block_bytes();
        let (mut row, mut rows, mut out) = (first_row, rows, out);
        while !rows.is_empty() {
            let count = (rows_of_expert - row % rows_of_expert).min(rows.len() / row_len);
            let (these, later) = rows.split_at(count * row_len);
            let (bytes, later_bytes) = out.split_at_mut(count * row_bytes);
            let start = match importance.len() == row_len {
                true => 0,
                false => row / rows_of_expert * row_len,
            };
            let columns = &importance[start..start + row_len];
            round(to, these, row_len, row, Some(columns), bytes)?;
            (row, rows, out) = (row + count, later, later_bytes);
        }
        Ok(())
    }
}

/// Rounds whole rows, of which the first is row `first_row` of its tensor.
fn round(
    to: TensorType,
    rows: &[f32],
    row_len: usize,
    first_row: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> anyhow::Result<()> {
    blocks::quantize(to, rows, row_len, importance, out)
        .and_then(|()| blocks::check_scales(to, out))
        .map_err(|error| in_tensor(error, first_row, row_len).into())
}

/// Converts the indices of an error from these rows to the whole tensor.
fn in_tensor(error: GgufError, first_row: usize, row_len: usize) -> GgufError {
    let before = first_row * row_len;
    let GgufError::Blocks(error) = error else { return error };
    GgufError::Blocks(match error {
        BlockError::NotFinite { index, row, value } => {
            BlockError::NotFinite { index: index + before, row: row + first_row, value }
        }
        BlockError::ScaleOverflow { tensor_type, block, weight } => BlockError::ScaleOverflow {
            tensor_type,
            block: block + before / tensor_type.block_len(),
            weight: weight + before,
        },
        BlockError::WeightOverflow { tensor_type, index } => {
            BlockError::WeightOverflow { tensor_type, index: index + before }
        }
        other => other,
    })
}
