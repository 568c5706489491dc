//! Weights in memory that are written to a file.

use std::borrow::Cow;

use crate::{CheckpointError, Dtype, Weights};

/// A tensor with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Unique in its set.
    pub name: String,
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    /// Row-major.
    pub data: Vec<f32>,
}

/// A set of tensors that provides one at a time, so that the writer does not need a second copy of
/// all of them.
pub trait Tensors {
    /// Names and shapes (slowest dimension first), in the order they are to be written.
    fn list(&self) -> Vec<(String, Vec<usize>)>;

    /// The values of one tensor, row-major.
    ///
    /// # Errors
    /// When the tensor is not in the set or cannot be read.
    fn data(&self, name: &str) -> Result<Cow<'_, [f32]>, CheckpointError>;

    /// The format in which a file should store one tensor: F32, F16 or BF16. A narrower format than
    /// F32 is only for values that were read from that format.
    fn dtype(&self, name: &str) -> Dtype {
        let _ = name;
        Dtype::F32
    }
}

impl Tensors for Vec<NamedTensor> {
    fn list(&self) -> Vec<(String, Vec<usize>)> {
        self.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect()
    }

    fn data(&self, name: &str) -> Result<Cow<'_, [f32]>, CheckpointError> {
        let tensor = self.iter().find(|tensor| tensor.name == name);
        tensor.map(|tensor| Cow::Borrowed(tensor.data.as_slice())).ok_or_else(|| {
            CheckpointError::MissingTensor { path: "memory".into(), name: name.to_owned() }
        })
    }
}

impl Tensors for Weights {
    fn list(&self) -> Vec<(String, Vec<usize>)> {
        self.iter().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect()
    }

    fn data(&self, name: &str) -> Result<Cow<'_, [f32]>, CheckpointError> {
        self.read_f32(name).map(Cow::Owned)
    }

    fn dtype(&self, name: &str) -> Dtype {
        match Weights::dtype(self, name) {
            Ok(narrow @ (Dtype::F16 | Dtype::BF16)) => narrow,
            _ => Dtype::F32,
        }
    }
}

/// A row-major `[rows, columns]` as a row-major `[columns, rows]`.
///
/// # Panics
/// If `values` does not hold `rows * columns` weights.
pub fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert_eq!(values.len(), rows * columns, "a matrix [{rows}, {columns}]");
    /// A square of 32 by 32 floats and its transpose fit in the first-level cache.
    const TILE: usize = 32;
    let mut out = vec![0.0; values.len()];
    for row_tile in (0..rows).step_by(TILE) {
        for column_tile in (0..columns).step_by(TILE) {
            for row in row_tile..rows.min(row_tile + TILE) {
                for column in column_tile..columns.min(column_tile + TILE) {
                    out[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_that_is_not_square_is_transposed() {
        assert_eq!(transpose(&[1., 2., 3., 4., 5., 6.], 2, 3), [1., 4., 2., 5., 3., 6.]);
        let (rows, columns) = (37, 70);
        let matrix: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        let transposed = transpose(&matrix, rows, columns);
        assert_eq!(transposed[69 * rows + 36], matrix[36 * columns + 69]);
        assert_eq!(transpose(&transposed, columns, rows), matrix);
    }
}
