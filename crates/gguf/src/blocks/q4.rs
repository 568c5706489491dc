//! Q4_0 and Q4_1: 32 weights, 4 bits each; 4.5 and 5 bits per weight.
//!
//! ```text
//! Q4_0:  d = m / -8,           m: weight farthest from zero    q = floor(w / d + 8.5)
//! Q4_1:  d = (max - min) / 15                                  q = floor((w - min) / d + 0.5)
//!        w' = d (q - 8)   and   w' = d q + min
//! ```
//!
//! The sign of Q4_0's scale is chosen so that the weight farthest from zero gets the code 0, which
//! is one step farther from zero than the code 15. Codes are clamped to 15.
//!
//! With importance the scale is found by a search as in `symmetric.rs`, and Q4_1's scale and
//! minimum as in `affine.rs`, with the mean square of the row in the cost of an error.
//!
//! Layout: `block_q4_0`, `block_q4_1` in ggml's
//! [`ggml-common.h`](https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).
//! Byte `j` holds weight `j` in its low half and weight `j + 16` in its high half.

use bytemuck::{Pod, Zeroable};

use super::each::{each, map};
use super::half::Half;
use super::minmax::{outermost, smallest_and_largest};
use super::rounding::{floor_to_byte, inverse_or_zero};
use super::super_blocks::LANES;
use super::weighted::Rows;
use super::{Block, affine, assert_block_size, symmetric};
use crate::TensorType;

const WEIGHTED: affine::Search = affine::Search::weighted(15);

/// 32 weights in 18 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ4_0 {
    pub(crate) scale: Half,
    /// See [`pack_nibbles`].
    pub(crate) quants: [u8; 16],
}

/// 32 weights in 20 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ4_1 {
    pub(crate) scale: Half,
    pub(crate) min: Half,
    /// See [`pack_nibbles`].
    pub(crate) quants: [u8; 16],
}

assert_block_size!(BlockQ4_0, TensorType::Q4_0);
assert_block_size!(BlockQ4_1, TensorType::Q4_1);

impl Block for BlockQ4_0 {
    const TYPE: TensorType = TensorType::Q4_0;
    type Weights = [f32; 32];

    #[inline(always)]
    fn quantize_all(x: &[[f32; 32]], out: &mut [Self]) {
        for (x, block) in x.iter().zip(out) {
            let scale = outermost(x) / -8.0;
            let inverse = inverse_or_zero(scale);
            let codes = floors_within(&map(x, |w| w * inverse + 8.5), inverse, 15);
            *block = BlockQ4_0 { scale: Half::new(scale), quants: pack_nibbles(&codes) };
        }
    }

    #[inline(always)]
    fn quantize_weighted(rows: Rows<[f32; 32]>, out: &mut [Self]) {
        let mean_squares = rows.mean_squares();
        for (i, out) in out.chunks_mut(LANES).enumerate() {
            let (x, costs) = rows.with_costs(i * LANES, &mean_squares);
            let fits = symmetric::Fits::<LANES>::search(&x, &costs, 8);
            for (lane, block) in out.iter_mut().enumerate() {
                let mut codes = [0; 32];
                fits.searched_codes(lane, &rows.x[i * LANES + lane], 8, &mut codes);
                let scale = Half::new(fits.scale[lane]);
                *block = BlockQ4_0 { scale, quants: pack_nibbles(&codes) };
            }
        }
    }

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let scale = self.scale.get();
        *out = map(&unpack_nibbles(&self.quants), |q| (i32::from(q) - 8) as f32 * scale);
    }

    #[inline(always)]
    fn is_finite(&self) -> bool {
        self.scale.is_finite()
    }
}

impl Block for BlockQ4_1 {
    const TYPE: TensorType = TensorType::Q4_1;
    type Weights = [f32; 32];

    #[inline(always)]
    fn quantize_all(x: &[[f32; 32]], out: &mut [Self]) {
        for (x, block) in x.iter().zip(out) {
            let (min, max) = smallest_and_largest(x);
            let scale = (max - min) / 15.0;
            let inverse = inverse_or_zero(scale);
            let codes = floors_within(&map(x, |w| (w - min) * inverse + 0.5), inverse, 15);
            let quants = pack_nibbles(&codes);
            *block = BlockQ4_1 { scale: Half::new(scale), min: Half::new(min), quants };
        }
    }

    #[inline(always)]
    fn quantize_weighted(rows: Rows<[f32; 32]>, out: &mut [Self]) {
        let mean_squares = rows.mean_squares();
        for (i, out) in out.chunks_mut(LANES).enumerate() {
            let (x, costs) = rows.with_costs(i * LANES, &mean_squares);
            let fits = affine::Fits::<LANES>::search(&x, &costs, WEIGHTED);
            for (lane, block) in out.iter_mut().enumerate() {
                let mut codes = [0; 32];
                fits.searched_codes(lane, &rows.x[i * LANES + lane], WEIGHTED, &mut codes);
                *block = BlockQ4_1 {
                    scale: Half::new(fits.scale[lane]),
                    min: Half::new(-fits.min[lane]),
                    quants: pack_nibbles(&codes),
                };
            }
        }
    }

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let (scale, min) = (self.scale.get(), self.min.get());
        *out = map(&unpack_nibbles(&self.quants), |q| f32::from(q) * scale + min);
    }

    #[inline(always)]
    fn is_finite(&self) -> bool {
        self.scale.is_finite() && self.min.is_finite()
    }
}

/// Codes up to `highest` from numbers in `0.5..highest + 1.5`.
///
/// If the scale is so small that its inverse is infinite, none of the numbers is finite. The
/// processor's conversion, and so ggml, gives zeros for them.
#[inline(always)]
pub(super) fn floors_within(x: &[f32; 32], inverse: f32, highest: u8) -> [u8; 32] {
    if inverse.is_infinite() { [0; 32] } else { map(x, |x| floor_to_byte(x).min(highest)) }
}

/// Two codes in a byte: `j` low, `j + 16` high.
#[inline(always)]
pub(crate) fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    each(|j| (codes[j] & 0x0f) | (codes[j + 16] << 4))
}

/// The inverse of [`pack_nibbles`].
#[inline(always)]
pub(crate) fn unpack_nibbles(bytes: &[u8; 16]) -> [u8; 32] {
    let mut codes = [0; 32];
    for (j, byte) in bytes.iter().enumerate() {
        codes[j] = byte & 0x0f;
        codes[j + 16] = byte >> 4;
    }
    codes
}
