//! The place of a tensor in a file, and how its values are read from there.
//!
//! Values are requested in row-major order. In the file they may have another order: PyTorch stores
//! a transposed matrix in its memory order, together with the stride of each dimension.

use std::sync::Arc;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;

use super::affine::Affine;
use super::data_file::DataFile;
use crate::CheckpointError;

/// Bytes that are read at a time if only some of them are needed.
const GAP_BYTES: usize = 1 << 20;

/// A tensor in one of the files.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Index of the file.
    pub file: usize,
    /// The storage format of a value.
    pub dtype: Dtype,
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    pub values: Values,
}

/// The source of a tensor's values.
#[derive(Debug, Clone)]
pub(super) enum Values {
    /// Bytes of the file from `start` on. `strides` are the steps of each dimension in elements;
    /// `None` is row-major without gaps. The creator has checked that all elements are inside the
    /// file.
    Stored { start: u64, strides: Option<Vec<usize>> },
    /// Codes of fewer bits with scales; the tensor's format is F32.
    Affine(Box<Affine>),
    /// Values of another tensor from position `first` of its row-major order on: one of the
    /// matrices that it holds one after the other.
    Part { whole: Arc<Place>, first: usize },
}

impl Place {
    /// Number of values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of one value.
    pub fn width(&self) -> usize {
        self.dtype.bitsize() / 8
    }

    /// Fills `out` with the values from position `first` of the row-major order on. `first` and the
    /// length of `out` are inside the tensor.
    pub fn read(
        &self,
        files: &[DataFile],
        first: usize,
        out: &mut [u8],
    ) -> Result<(), CheckpointError> {
        if out.is_empty() {
            return Ok(());
        }
        let file = &files[self.file];
        let (start, strides) = match &self.values {
            Values::Stored { start, strides } => (start, strides),
            Values::Affine(affine) => return affine.read_bytes(files, first, out),
            Values::Part { whole, first: before } => return whole.read(files, before + first, out),
        };
        match strides {
            None => file.read_at(start + (first * self.width()) as u64, out),
            Some(strides) => {
                let view = View { file, start: *start, width: self.width() };
                match (self.shape.as_slice(), strides.as_slice()) {
                    (&[_, columns], &[row_step, column_step]) if row_step < column_step => {
                        view.read_columns(columns, [row_step, column_step], first, out)
                    }
                    _ => view.read_rows(&self.shape, strides, first, out),
                }
            }
        }
    }
}

impl Place {
    /// [`Place::read`] of floats; F16 and BF16 are upcast.
    pub fn read_f32(
        &self,
        files: &[DataFile],
        first: usize,
        out: &mut [f32],
    ) -> Result<(), CheckpointError> {
        match (self.dtype, &self.values) {
            (_, Values::Affine(affine)) => affine.read(files, first, out),
            (_, Values::Part { whole, first: before }) => {
                whole.read_f32(files, before + first, out)
            }
            (Dtype::F16, _) => {
                let mut stored = vec![f16::ZERO; out.len()];
                self.read(files, first, bytemuck::cast_slice_mut(&mut stored))?;
                stored.convert_to_f32_slice(out);
                Ok(())
            }
            (Dtype::BF16, _) => {
                let mut stored = vec![bf16::ZERO; out.len()];
                self.read(files, first, bytemuck::cast_slice_mut(&mut stored))?;
                stored.convert_to_f32_slice(out);
                Ok(())
            }
            _ => self.read(files, first, bytemuck::cast_slice_mut(out)),
        }
    }
}

/// Values of one width in a file, with strides.
struct View<'a> {
    file: &'a DataFile,
    start: u64,
    width: usize,
}

impl View<'_> {
    /// Row after row, each along the last dimension.
    fn read_rows(
        &self,
        shape: &[usize],
        strides: &[usize],
        first: usize,
        out: &mut [u8],
    ) -> Result<(), CheckpointError> {
        let (Some((&columns, outer)), Some((&step, outer_strides))) =
            (shape.split_last(), strides.split_last())
        else {
            // A single number.
            return self.read_run(0, 1, out);
        };
        let (mut at, mut rest) = (first, out);
        while !rest.is_empty() {
            let (row, column) = (at / columns, at % columns);
            let length = (columns - column).min(rest.len() / self.width);
            let (run, after) = rest.split_at_mut(length * self.width);
            let row_start = offset(row, outer, outer_strides);
            self.read_run(row_start + column * step, step, run)?;
            (at, rest) = (at + length, after);
        }
        Ok(())
    }

    /// Column after column of a matrix whose columns have a smaller stride than its rows.
    fn read_columns(
        &self,
        columns: usize,
        [row_step, column_step]: [usize; 2],
        first: usize,
        out: &mut [u8],
    ) -> Result<(), CheckpointError> {
        let end = first + out.len() / self.width;
        let rows = first / columns..end.div_ceil(columns);
        let mut run = vec![0; rows.len() * self.width];
        for column in 0..columns {
            self.read_run(rows.start * row_step + column * column_step, row_step, &mut run)?;
            for (row, value) in rows.clone().zip(run.chunks_exact(self.width)) {
                let at = row * columns + column;
                if (first..end).contains(&at) {
                    out[(at - first) * self.width..][..self.width].copy_from_slice(value);
                }
            }
        }
        Ok(())
    }

    /// Fills `out` with values that are `step` apart, from element `from` on.
    fn read_run(&self, from: usize, step: usize, out: &mut [u8]) -> Result<(), CheckpointError> {
        let byte = |element: usize| self.start + (element * self.width) as u64;
        if step == 1 {
            return self.file.read_at(byte(from), out);
        }
        let at_once = (GAP_BYTES / (step * self.width).max(1)).max(1);
        for (piece, out) in out.chunks_mut(at_once * self.width).enumerate() {
            let count = out.len() / self.width;
            let span = self.file.bytes(
                byte(from + piece * at_once * step),
                ((count - 1) * step + 1) * self.width,
            )?;
            for (i, value) in out.chunks_exact_mut(self.width).enumerate() {
                value.copy_from_slice(&span[i * step * self.width..][..self.width]);
            }
        }
        Ok(())
    }
}

/// The element at the row-major index `index` of `shape`.
fn offset(mut index: usize, shape: &[usize], strides: &[usize]) -> usize {
    let mut offset = 0;
    for (&size, &step) in shape.iter().zip(strides).rev() {
        offset += index % size * step;
        index /= size;
    }
    offset
}
