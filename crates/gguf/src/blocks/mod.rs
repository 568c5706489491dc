//! The block formats of GGUF: converts weights to bytes and back, with the same bytes as ggml.
//!
//! A row of weights is cut into blocks of 32 or 256; a block stores one or two scales as 16-bit
//! floats, and a few bits for each weight. Each file describes one family of formats: the formula,
//! the layout, and a kernel.
//!
//! | type | bits per weight | relative RMS error on normal weights | file |
//! |---|---|---|---|
//! | F16, BF16 | 16 | 0.02 %, 0.17 % | `plain.rs` |
//! | Q8_0 | 8.5 | 0.53 % | `q8_0.rs` |
//! | Q6_K | 6.56 | 1.8 % | `q6_k.rs` |
//! | Q5_K | 5.5 | 3.6 % | `q5_k.rs` |
//! | Q5_1, Q5_0 | 6, 5.5 | 3.8 %, 4.3 % | `q5.rs` |
//! | Q4_K | 4.5 | 7.1 % | `q4_k.rs` |
//! | IQ4_NL, IQ4_XS | 4.5, 4.25 | 7.6 %, 7.7 % | `iq4.rs` |
//! | Q4_1, Q4_0 | 5, 4.5 | 7.8 %, 8.6 % | `q4.rs` |
//! | Q3_K | 3.44 | 15 % | `q3_k.rs` |
//! | Q2_K | 2.63 | 30 % | `q2_k.rs` |
//!
//! All formats use three searches: for a scale and a minimum (`affine.rs`), for a scale of codes
//! around zero (`symmetric.rs`), and for the scale of a block's own scales (`qp_quants.rs`). They
//! compute many groups of weights in parallel (`lanes.rs`).
//!
//! # What "ggml's bytes" means
//!
//! Those of `ggml_quantize_chunk`, with or without an importance matrix, in a build for x86-64. On
//! that architecture ggml compiles its reference quantizers without CPU-specific flags, so
//! multiply-adds are not fused and every operation rounds once; Rust never fuses by itself. (On ARM
//! a C compiler may fuse, and then ggml's own files differ in a few codes from machine to machine;
//! ours do not.) The kernels are compiled three times, for any x86-64, for AVX2 and for AVX-512,
//! and give the same bytes each time: wider vectors do not change the order of sums.

mod affine;
mod driver;
mod each;
mod error;
pub(crate) mod half;
pub(crate) mod iq4;
mod lanes;
mod minmax;
mod plain;
pub(crate) mod q2_k;
pub(crate) mod q3_k;
pub(crate) mod q4;
pub(crate) mod q4_k;
pub(crate) mod q5;
pub(crate) mod q5_k;
pub(crate) mod q6_k;
pub(crate) mod q8_0;
mod qp_quants;
mod read;
pub(crate) mod rounding;
mod simd;
pub(crate) mod six_bits;
mod super_blocks;
mod symmetric;
mod unpack;
mod weighted;

use bytemuck::Pod;

pub use error::BlockError;
pub(crate) use iq4::LEVELS as IQ4_LEVELS;
pub use read::{read_f32, read_matrix_f32};
pub(crate) use unpack::{put_together, take_apart};

use weighted::Rows;

use crate::{GgufError, TensorType};

/// One block of a format: how its weights are converted to bytes and back.
trait Block: Pod + Send + Sync {
    /// The format.
    const TYPE: TensorType;
    /// `[f32; N]`, the weights of one block.
    type Weights: Pod + Send + Sync + AsRef<[f32]>;

    /// The blocks for these weights, which are finite.
    fn quantize_all(x: &[Self::Weights], out: &mut [Self]);

    /// [`Block::quantize_all`] for whole rows, with the importance of their columns.
    fn quantize_weighted(rows: Rows<Self::Weights>, out: &mut [Self]);

    /// The weights that the block represents.
    fn dequantize(&self, out: &mut Self::Weights);

    /// [`Block::dequantize`] for one block after another.
    #[inline(always)]
    fn dequantize_all(blocks: &[Self], out: &mut [Self::Weights]) {
        for (block, out) in blocks.iter().zip(out) {
            block.dequantize(out);
        }
    }

    /// Whether all scales are finite; they are not if weights were too large for F16 scales.
    fn is_finite(&self) -> bool;
}

/// Checks at compile time that a struct has the size of ggml's block.
macro_rules! assert_block_size {
    ($block:ty, $tensor_type:expr) => {
        const _: () = assert!(size_of::<$block>() == $tensor_type.block_bytes());
        const _: () = assert!(align_of::<$block>() == 1);
    };
}
use assert_block_size;

/// Converts stored bytes to weights, in parallel.
///
/// # Errors
/// [`BlockError::Size`] if the sizes of `bytes` and `out` do not fit together.
pub fn dequantize(tensor_type: TensorType, bytes: &[u8], out: &mut [f32]) -> Result<(), GgufError> {
    check_size(tensor_type, out.len(), bytes.len())?;
    match tensor_type {
        TensorType::F32 => driver::read_plain(bytes, out, plain::read_f32),
        TensorType::F16 => driver::read_plain(bytes, out, plain::read_f16),
        TensorType::BF16 => driver::read_plain(bytes, out, plain::read_bf16),
        TensorType::Q4_0 => driver::dequantize::<q4::BlockQ4_0>(bytes, out),
        TensorType::Q4_1 => driver::dequantize::<q4::BlockQ4_1>(bytes, out),
        TensorType::Q5_0 => driver::dequantize::<q5::BlockQ5_0>(bytes, out),
        TensorType::Q5_1 => driver::dequantize::<q5::BlockQ5_1>(bytes, out),
        TensorType::Q8_0 => driver::dequantize::<q8_0::BlockQ8_0>(bytes, out),
        TensorType::Q2_K => driver::dequantize::<q2_k::BlockQ2K>(bytes, out),
        TensorType::Q3_K => driver::dequantize::<q3_k::BlockQ3K>(bytes, out),
        TensorType::Q4_K => driver::dequantize::<q4_k::BlockQ4K>(bytes, out),
        TensorType::Q5_K => driver::dequantize::<q5_k::BlockQ5K>(bytes, out),
        TensorType::Q6_K => driver::dequantize::<q6_k::BlockQ6K>(bytes, out),
        TensorType::IQ4_NL => driver::dequantize::<iq4::BlockIQ4NL>(bytes, out),
        TensorType::IQ4_XS => driver::dequantize::<iq4::BlockIQ4XS>(bytes, out),
    }
    Ok(())
}

/// Converts rows of `row_len` weights to ggml's bytes, in parallel.
///
/// `importance` gives for each of the `row_len` columns how much its errors count: the mean square
/// of the inputs that the column is multiplied with. Formats without a search for the scale (Q8_0,
/// F32, F16, BF16) ignore it, as in ggml.
///
/// A weight so large that its scale does not fit in F16 gives an infinite scale, as in ggml;
/// [`check_scales`] detects it.
///
/// # Errors
/// [`BlockError::RowLength`] if a row is not a whole number of blocks, [`BlockError::Size`] if the
/// size of `out` is not what the rows take, [`BlockError::ImportanceLength`] if there are not
/// `row_len` importances, [`BlockError::Importance`] if one of them is NaN, infinite or negative,
/// [`BlockError::NotFinite`] for a weight that is NaN or infinite.
pub fn quantize(
    tensor_type: TensorType,
    rows: &[f32],
    row_len: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), GgufError> {
    if row_len == 0 || !row_len.is_multiple_of(tensor_type.block_len()) {
        return Err(BlockError::RowLength { tensor_type, row_len }.into());
    }
    check_size(tensor_type, rows.len(), out.len())?;
    if !rows.len().is_multiple_of(row_len) {
        return Err(BlockError::PartialRow { weights: rows.len(), row_len }.into());
    }
    if let Some(importance) = importance {
        check_importance(row_len, importance)?;
    }
    let not_finite = match tensor_type {
        TensorType::F32 => driver::write_plain(rows, out, plain::write_f32),
        TensorType::F16 => driver::write_plain(rows, out, plain::write_f16),
        TensorType::BF16 => driver::write_plain(rows, out, plain::write_bf16),
        TensorType::Q4_0 => driver::quantize::<q4::BlockQ4_0>(rows, importance, out),
        TensorType::Q4_1 => driver::quantize::<q4::BlockQ4_1>(rows, importance, out),
        TensorType::Q5_0 => driver::quantize::<q5::BlockQ5_0>(rows, importance, out),
        TensorType::Q5_1 => driver::quantize::<q5::BlockQ5_1>(rows, importance, out),
        TensorType::Q8_0 => driver::quantize::<q8_0::BlockQ8_0>(rows, importance, out),
        TensorType::Q2_K => driver::quantize::<q2_k::BlockQ2K>(rows, importance, out),
        TensorType::Q3_K => driver::quantize::<q3_k::BlockQ3K>(rows, importance, out),
        TensorType::Q4_K => driver::quantize::<q4_k::BlockQ4K>(rows, importance, out),
        TensorType::Q5_K => driver::quantize::<q5_k::BlockQ5K>(rows, importance, out),
        TensorType::Q6_K => driver::quantize::<q6_k::BlockQ6K>(rows, importance, out),
        TensorType::IQ4_NL => driver::quantize::<iq4::BlockIQ4NL>(rows, importance, out),
        TensorType::IQ4_XS => driver::quantize::<iq4::BlockIQ4XS>(rows, importance, out),
    };
    match not_finite {
        None => Ok(()),
        Some(index) => Err(BlockError::NotFinite {
            index,
            row: index / row_len,
            value: rows[index].to_string(),
        }
        .into()),
    }
}

/// Checks that there is a finite, non-negative number for every column.
fn check_importance(row_len: usize, importance: &[f32]) -> Result<(), BlockError> {
    if importance.len() != row_len {
        return Err(BlockError::ImportanceLength { row_len, actual: importance.len() });
    }
    match importance.iter().position(|p| !p.is_finite() || *p < 0.0) {
        None => Ok(()),
        Some(column) => {
            Err(BlockError::Importance { column, value: importance[column].to_string() })
        }
    }
}

/// Looks for scales (or plain weights) that are NaN or infinite, in parallel.
///
/// # Errors
/// [`BlockError::ScaleOverflow`], or [`BlockError::WeightOverflow`] for types without blocks, for
/// the first one.
pub fn check_scales(tensor_type: TensorType, bytes: &[u8]) -> Result<(), GgufError> {
    let blocks = bytes.len() / tensor_type.block_bytes();
    check_size(tensor_type, blocks * tensor_type.block_len(), bytes.len())?;
    let bad = match tensor_type {
        TensorType::F32 => plain::first_not_finite::<4>(bytes, 0x7f80),
        TensorType::F16 => plain::first_not_finite::<2>(bytes, 0x7c00),
        TensorType::BF16 => plain::first_not_finite::<2>(bytes, 0x7f80),
        TensorType::Q4_0 => driver::first_not_finite::<q4::BlockQ4_0>(bytes),
        TensorType::Q4_1 => driver::first_not_finite::<q4::BlockQ4_1>(bytes),
        TensorType::Q5_0 => driver::first_not_finite::<q5::BlockQ5_0>(bytes),
        TensorType::Q5_1 => driver::first_not_finite::<q5::BlockQ5_1>(bytes),
        TensorType::Q8_0 => driver::first_not_finite::<q8_0::BlockQ8_0>(bytes),
        TensorType::Q2_K => driver::first_not_finite::<q2_k::BlockQ2K>(bytes),
        TensorType::Q3_K => driver::first_not_finite::<q3_k::BlockQ3K>(bytes),
        TensorType::Q4_K => driver::first_not_finite::<q4_k::BlockQ4K>(bytes),
        TensorType::Q5_K => driver::first_not_finite::<q5_k::BlockQ5K>(bytes),
        TensorType::Q6_K => driver::first_not_finite::<q6_k::BlockQ6K>(bytes),
        TensorType::IQ4_NL => driver::first_not_finite::<iq4::BlockIQ4NL>(bytes),
        TensorType::IQ4_XS => driver::first_not_finite::<iq4::BlockIQ4XS>(bytes),
    };
    match bad {
        None => Ok(()),
        Some(index) if !tensor_type.is_quantized() => {
            Err(BlockError::WeightOverflow { tensor_type, index }.into())
        }
        Some(block) => {
            let weight = block * tensor_type.block_len();
            Err(BlockError::ScaleOverflow { tensor_type, block, weight }.into())
        }
    }
}

/// `weights` of this type must take exactly `bytes`.
fn check_size(tensor_type: TensorType, weights: usize, bytes: usize) -> Result<(), BlockError> {
    let blocks = weights / tensor_type.block_len();
    let expected = blocks.saturating_mul(tensor_type.block_bytes());
    if !weights.is_multiple_of(tensor_type.block_len()) || expected != bytes {
        return Err(BlockError::Size { tensor_type, weights, expected, actual: bytes });
    }
    Ok(())
}
