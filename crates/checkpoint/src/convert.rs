//! Converts weights as Hugging Face stores them to the bytes of a GGUF tensor.
//!
//! The result is the only whole tensor in memory: the input is read in pieces of 16 MiB, and a
//! matrix that has to be transposed is transposed piece by piece.

use gguf::TensorType;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::names::RowOrder;
use crate::{CheckpointError, Dtype, Weights};

/// Number of weights that are read at a time.
const PIECE: usize = 4 << 20;

/// Number of weights that one thread converts at a time.
const STRIP: usize = 64 << 10;

/// Output rows that are gathered together: one cache line of the input holds values of all of them.
const GROUP: usize = 16;

/// The remedy for a weight that is not a number.
const NOT_FINITE: &str = "training went wrong, take an earlier checkpoint";

/// A tensor in its own order.
pub(crate) fn straight(
    weights: &Weights,
    name: &str,
    to: TensorType,
) -> Result<Vec<u8>, CheckpointError> {
    if is_stored_as(weights.dtype(name)?, to) {
        return copied(weights, name, to);
    }
    let elements: usize = weights.shape(name)?.iter().product();
    let width = to.block_bytes();
    let mut out = vec![0; elements * width];
    let mut piece = vec![0.0; PIECE.min(elements)];
    for (i, out) in out.chunks_mut(PIECE * width).enumerate() {
        let piece = &mut piece[..out.len() / width];
        weights.read_f32_at(name, i * PIECE, piece)?;
        encode_piece(to, piece, out).map_err(|bad| bad.at(name, |n| i * PIECE + n))?;
    }
    Ok(out)
}

fn is_stored_as(stored: Dtype, wanted: TensorType) -> bool {
    matches!(
        (stored, wanted),
        (Dtype::F32, TensorType::F32)
            | (Dtype::F16, TensorType::F16)
            | (Dtype::BF16, TensorType::BF16)
    )
}

/// A tensor that is stored in the wanted format: its bytes, after checking that all weights are
/// finite.
fn copied(weights: &Weights, name: &str, to: TensorType) -> Result<Vec<u8>, CheckpointError> {
    let bytes = weights.bytes(name)?;
    bytes.par_chunks(STRIP * to.block_bytes()).enumerate().try_for_each(|(strip, bytes)| {
        let bad = match to {
            TensorType::F16 => not_finite(bytes, |b| f16::from_le_bytes(b).to_f32()),
            TensorType::BF16 => not_finite(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            _ => not_finite(bytes, f32::from_le_bytes),
        };
        bad.map_or(Ok(()), |bad| Err(bad.at(name, |n| strip * STRIP + n)))
    })?;
    Ok(bytes)
}

/// The first weight that is not finite, among numbers of `N` bytes each. A first pass checks many
/// at a time, because nearly always all are finite.
fn not_finite<const N: usize>(bytes: &[u8], widen: impl Fn([u8; N]) -> f32) -> Option<BadValue> {
    let (numbers, _) = bytes.as_chunks::<N>();
    if !numbers.iter().fold(false, |bad, &number| bad | !widen(number).is_finite()) {
        return None;
    }
    let index = numbers.iter().position(|&number| !widen(number).is_finite())?;
    Some(BadValue { value: widen(numbers[index]), index, cure: NOT_FINITE })
}

/// A tensor whose values are in memory.
pub(crate) fn encoded(
    values: &[f32],
    name: &str,
    to: TensorType,
) -> Result<Vec<u8>, CheckpointError> {
    let mut out = vec![0; values.len() * to.block_bytes()];
    encode_piece(to, values, &mut out).map_err(|bad| bad.at(name, |n| n))?;
    Ok(out)
}

/// A matrix or vector whose rows of `width` weights are reordered in the result.
pub(crate) fn reordered(
    weights: &Weights,
    name: &str,
    (rows, width): (RowOrder, usize),
    to: TensorType,
) -> Result<Vec<u8>, CheckpointError> {
    let elements: usize = weights.shape(name)?.iter().product();
    let row_bytes = width * to.block_bytes();
    let mut out = vec![0; elements * to.block_bytes()];
    let rows_per_piece = (PIECE / width).clamp(1, elements / width);
    let mut piece = vec![0.0; rows_per_piece * width];
    let mut encoded = vec![0; rows_per_piece * row_bytes];
    for first in (0..elements / width).step_by(rows_per_piece) {
        let height = rows_per_piece.min(elements / width - first);
        let piece = &mut piece[..height * width];
        weights.read_f32_at(name, first * width, piece)?;
        let encoded = &mut encoded[..height * row_bytes];
        encode_piece(to, piece, encoded).map_err(|bad| bad.at(name, |n| first * width + n))?;
        for (row, bytes) in encoded.chunks_exact(row_bytes).enumerate() {
            out[rows.ours(first + row) * row_bytes..][..row_bytes].copy_from_slice(bytes);
        }
    }
    Ok(out)
}

/// A matrix `[rows, columns]` as `[columns, rows]`.
pub(crate) fn transposed(
    weights: &Weights,
    name: &str,
    [rows, columns]: [usize; 2],
    to: TensorType,
) -> Result<Vec<u8>, CheckpointError> {
    let width = to.block_bytes();
    let mut out = vec![0; rows * columns * width];
    let rows_per_piece = (PIECE / columns).clamp(1, rows);
    let mut piece = vec![0.0; rows_per_piece * columns];
    for first in (0..rows).step_by(rows_per_piece) {
        let height = rows_per_piece.min(rows - first);
        let piece = &mut piece[..height * columns];
        weights.read_f32_at(name, first * columns, piece)?;
        // Each thread fills GROUP rows of the output, in columns first..first + height.
        out.par_chunks_mut(GROUP * rows * width).enumerate().try_for_each(|(group, out)| {
            let mut gathered = vec![0.0; GROUP * height];
            gather(piece, columns, group * GROUP, height, &mut gathered);
            for (row, out) in out.chunks_mut(rows * width).enumerate() {
                let values = &gathered[row * height..(row + 1) * height];
                let out = &mut out[first * width..(first + height) * width];
                // Down a column of the input: the next value is one row further.
                let position = |n: usize| (first + n) * columns + group * GROUP + row;
                encode(to, values, out).map_err(|bad| bad.at(name, position))?;
            }
            Ok::<_, CheckpointError>(())
        })?;
    }
    Ok(out)
}

/// Columns `first..first + GROUP` of `piece`, `[height, columns]`, as rows of `gathered`,
/// `[GROUP, height]`; the last group may be narrower.
fn gather(piece: &[f32], columns: usize, first: usize, height: usize, gathered: &mut [f32]) {
    let group = GROUP.min(columns - first);
    for (i, row) in piece.chunks_exact(columns).enumerate() {
        for (j, &value) in row[first..first + group].iter().enumerate() {
            gathered[j * height + i] = value;
        }
    }
}

/// A weight that cannot be stored.
struct BadValue {
    value: f32,
    /// Index among the values that were encoded together.
    index: usize,
    cure: &'static str,
}

impl BadValue {
    /// `position` converts an index into the position in the tensor.
    fn at(self, name: &str, position: impl Fn(usize) -> usize) -> CheckpointError {
        CheckpointError::Value {
            name: name.to_owned(),
            value: self.value,
            position: position(self.index),
            cure: self.cure,
        }
    }
}

/// [`encode`] on all processors.
fn encode_piece(to: TensorType, values: &[f32], out: &mut [u8]) -> Result<(), BadValue> {
    let strips = out.par_chunks_mut(STRIP * to.block_bytes()).zip(values.par_chunks(STRIP));
    strips.enumerate().try_for_each(|(strip, (out, values))| {
        encode(to, values, out).map_err(|bad| BadValue { index: strip * STRIP + bad.index, ..bad })
    })
}

/// Writes `values` in the format `to`, rounding to nearest, ties to even.
fn encode(to: TensorType, values: &[f32], out: &mut [u8]) -> Result<(), BadValue> {
    let bad = |index: usize, cure| BadValue { value: values[index], index, cure };
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        return Err(bad(index, NOT_FINITE));
    }
    match to {
        TensorType::F16 => {
            let mut narrow = vec![f16::ZERO; values.len()];
            narrow.convert_from_f32_slice(values);
            if let Some(index) = narrow.iter().position(|value| !value.is_finite()) {
                return Err(bad(index, "F16 ends at 65504, use --type BF16 or F32"));
            }
            out.copy_from_slice(bytemuck::cast_slice(&narrow));
        }
        TensorType::BF16 => {
            let mut narrow = vec![bf16::ZERO; values.len()];
            narrow.convert_from_f32_slice(values);
            out.copy_from_slice(bytemuck::cast_slice(&narrow));
        }
        _ => out.copy_from_slice(bytemuck::cast_slice(values)),
    }
    Ok(())
}
