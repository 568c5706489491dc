//! Errors of packing weights into blocks, or reading weights from blocks.

use crate::TensorType;

/// What is wrong with the weights or the bytes of a tensor.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BlockError {
    /// A row must be a whole number of blocks.
    #[error(
        "rows of {row_len} weights cannot be {tensor_type}: its blocks hold {block_len} weights, \
         and a row must be a whole number of them",
        block_len = tensor_type.block_len()
    )]
    RowLength {
        /// The requested format.
        tensor_type: TensorType,
        /// Weights in one row.
        row_len: usize,
    },
    /// The number of bytes does not fit the number of weights.
    #[error("{weights} weights of {tensor_type} take {expected} bytes, not {actual}")]
    Size {
        /// The requested format.
        tensor_type: TensorType,
        /// Number of weights.
        weights: usize,
        /// Bytes that this number of weights takes.
        expected: usize,
        /// Bytes that were given.
        actual: usize,
    },
    /// A weight is NaN or infinite, so its block cannot be stored with any scale.
    #[error("weight {index} (row {row}) is {value}; only finite weights can be quantized")]
    NotFinite {
        /// Position of the weight in the tensor.
        index: usize,
        /// The row of the weight.
        row: usize,
        /// `NaN`, `inf` or `-inf`.
        value: String,
    },
    /// The last row is cut off.
    #[error("{weights} weights are no whole number of rows of {row_len}")]
    PartialRow {
        /// Number of weights.
        weights: usize,
        /// Weights in one row.
        row_len: usize,
    },
    /// The number of importances differs from the number of columns.
    #[error("rows of {row_len} weights need the importance of {row_len} columns, not of {actual}")]
    ImportanceLength {
        /// Weights in one row.
        row_len: usize,
        /// Columns whose importance is known.
        actual: usize,
    },
    /// A column whose importance is NaN, infinite or negative.
    #[error("the importance of column {column} is {value}; expected a number that is 0 or more")]
    Importance {
        /// Position in the row.
        column: usize,
        /// `NaN`, `inf` or a negative number.
        value: String,
    },
    /// A scale that does not fit in the 16-bit float of its block.
    #[error(
        "block {block} of {tensor_type} has a scale beyond the range of F16 (65504): the weights \
         around weight {weight} are too large for this format"
    )]
    ScaleOverflow {
        /// The format of the block.
        tensor_type: TensorType,
        /// Position of the block in the tensor.
        block: usize,
        /// Position of the block's first weight.
        weight: usize,
    },
    /// A stored weight that is NaN or infinite.
    #[error("weight {index} is NaN, or beyond the range of {tensor_type}")]
    WeightOverflow {
        /// The format it is stored in.
        tensor_type: TensorType,
        /// Position of the weight in the tensor.
        index: usize,
    },
}
