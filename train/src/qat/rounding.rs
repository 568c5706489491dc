//! Rounds a matrix to the values that the quantized file will hold.
//!
//! A file stores rows `[out, in]` and divides each row into blocks, while Burn's linear layers are
//! `[in, out]`. A matrix is therefore transposed strip by strip, rounded in rows, and transposed
//! back. Only one strip and its blocks need additional memory.

use std::ops::Range;

use gguf::{GgufError, TensorType, blocks};
use rayon::prelude::*;

/// Number of weights that are transposed and rounded at a time: 4 MiB of floats.
const STRIP: usize = 1 << 20;

/// Side of the squares that are transposed: a cache line holds 16 floats.
const TILE: usize = 16;

/// The memory order of a file's rows in Burn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// One row after the other, as in an embedding `[rows, row]`.
    Rows,
    /// As the columns of a linear layer `[in, out]`, each `in` long.
    Columns,
}

/// How one tensor is rounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rounding {
    /// The types that its values are converted to, in order, on the way into the file; empty for
    /// F32.
    pub types: Vec<TensorType>,
    /// Weights in one row of the file.
    pub row_len: usize,
    /// Memory order of the rows in the input.
    pub from: Lie,
    /// Memory order of the rows in the result.
    pub to: Lie,
}

/// Buffers that are reused by the next rounding.
#[derive(Debug, Default)]
pub struct Scratch {
    strip: Vec<f32>,
    bytes: Vec<u8>,
}

impl Rounding {
    /// Writes `weights` to `out` with the values that a reader of the file will get.
    ///
    /// # Errors
    /// For a weight that is not a finite number, or is too large for its type.
    ///
    /// # Panics
    /// If the two slices have different lengths or do not hold whole rows.
    pub fn round(
        &self,
        weights: &[f32],
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), GgufError> {
        let row_len = self.row_len;
        assert_eq!(weights.len(), out.len(), "as many weights as there is room for");
        assert!(weights.len().is_multiple_of(row_len), "whole rows");
        let rows = weights.len() / row_len;
        let in_strip = (STRIP / row_len).next_multiple_of(TILE);
        let Scratch { strip, bytes } = scratch;
        for first in (0..rows).step_by(in_strip) {
            let range = first * row_len..rows.min(first + in_strip) * row_len;
            match self.to {
                Lie::Rows => self.round_strip(weights, range.clone(), &mut out[range], bytes)?,
                Lie::Columns => {
                    strip.resize(range.len(), 0.0);
                    self.round_strip(weights, range, strip, bytes)?;
                    scatter_columns(strip, row_len, out, rows, first);
                }
            }
        }
        Ok(())
    }

    /// Rounds whole rows of the file, the weights `range`.
    fn round_strip(
        &self,
        weights: &[f32],
        range: Range<usize>,
        strip: &mut [f32],
        bytes: &mut Vec<u8>,
    ) -> Result<(), GgufError> {
        match self.from {
            Lie::Rows => strip.copy_from_slice(&weights[range]),
            Lie::Columns => {
                let (rows, first) = (weights.len() / self.row_len, range.start / self.row_len);
                gather_columns(weights, rows, first, strip, self.row_len);
            }
        }
        self.through_blocks(strip, bytes)
    }

    /// Replaces whole rows by the values that their blocks represent.
    fn through_blocks(&self, rows: &mut [f32], bytes: &mut Vec<u8>) -> Result<(), GgufError> {
        for &tensor_type in &self.types {
            bytes.resize(rows.len() / tensor_type.block_len() * tensor_type.block_bytes(), 0);
            blocks::quantize(tensor_type, rows, self.row_len, None, bytes)?;
            blocks::check_scales(tensor_type, bytes)?;
            blocks::dequantize(tensor_type, bytes, rows)?;
        }
        Ok(())
    }
}

/// Copies the columns from `first` of `matrix [_, columns]` into the rows of `rows [_, row_len]`.
fn gather_columns(matrix: &[f32], columns: usize, first: usize, rows: &mut [f32], row_len: usize) {
    rows.par_chunks_mut(TILE * row_len).enumerate().for_each(|(tile, rows)| {
        let (first, count) = (first + tile * TILE, rows.len() / row_len);
        for (i, line) in matrix.chunks_exact(columns).enumerate() {
            for (row, &value) in line[first..first + count].iter().enumerate() {
                rows[row * row_len + i] = value;
            }
        }
    });
}

/// The inverse of [`gather_columns`].
fn scatter_columns(rows: &[f32], row_len: usize, matrix: &mut [f32], columns: usize, first: usize) {
    let count = rows.len() / row_len;
    matrix.par_chunks_mut(TILE * columns).enumerate().for_each(|(tile, lines)| {
        let (begin, height) = (tile * TILE, lines.len() / columns);
        for (row, values) in rows.chunks_exact(row_len).enumerate().take(count) {
            for (line, &value) in values[begin..begin + height].iter().enumerate() {
                lines[line * columns + first + row] = value;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use checkpoint::transpose;
    use kernels::random;

    use super::*;

    fn weights(len: usize) -> Vec<f32> {
        random::normal(random::derive_named(5, "w"), len, 0.02)
    }

    /// The whole matrix in one pass.
    fn by_definition(types: &[TensorType], mut rows: Vec<f32>, row_len: usize) -> Vec<f32> {
        for &tensor_type in types {
            let size = rows.len() / tensor_type.block_len() * tensor_type.block_bytes();
            let mut bytes = vec![0; size];
            blocks::quantize(tensor_type, &rows, row_len, None, &mut bytes).unwrap();
            blocks::dequantize(tensor_type, &bytes, &mut rows).unwrap();
        }
        rows
    }

    #[test]
    fn rows_and_columns_become_what_the_file_holds() {
        let mut scratch = Scratch::default();
        // More than a strip; columns that do not fill a tile; one row.
        for [rows, row_len] in [[4099_usize, 512], [33, 256], [1, 768], [70, 32]] {
            for last in TensorType::ALL {
                if !row_len.is_multiple_of(last.block_len()) {
                    continue;
                }
                let types = vec![TensorType::F16, last];
                let given = weights(rows * row_len);
                let expected = by_definition(&types, given.clone(), row_len);
                let lying = |lie, rows_: &[f32]| match lie {
                    Lie::Rows => rows_.to_vec(),
                    Lie::Columns => transpose(rows_, rows, row_len),
                };
                for from in [Lie::Rows, Lie::Columns] {
                    for to in [Lie::Rows, Lie::Columns] {
                        let rounding = Rounding { types: types.clone(), row_len, from, to };
                        let mut out = vec![f32::NAN; given.len()];
                        rounding.round(&lying(from, &given), &mut out, &mut scratch).unwrap();
                        let same = out == lying(to, &expected);
                        assert!(same, "{rows} rows of {row_len} in {last}, {from:?} to {to:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_weight_beyond_the_format_is_refused() {
        let (from, to) = (Lie::Columns, Lie::Columns);
        let rounding = Rounding { types: vec![TensorType::Q4_0], row_len: 32, from, to };
        for bad in [f32::NAN, f32::INFINITY, 1e30] {
            let mut given = weights(64);
            given[5] = bad;
            let mut out = vec![0.0; 64];
            rounding.round(&given, &mut out, &mut Scratch::default()).unwrap_err();
        }
    }

    #[test]
    fn without_a_type_the_weights_stay() {
        let given = weights(33);
        let (from, to) = (Lie::Rows, Lie::Rows);
        let rounding = Rounding { types: Vec::new(), row_len: 33, from, to };
        let mut out = vec![0.0; 33];
        rounding.round(&given, &mut out, &mut Scratch::default()).unwrap();
        assert_eq!(out, given);
    }
}
