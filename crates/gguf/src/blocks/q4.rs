//! Q4_0 and Q4_1: 32 weights, 4 bits each; 4.5 and 5 bits per weight.
//!
//! ```text
//! Q4_0:  d = m / -8,           m: weight farthest from zero    q = floor(w / d + 8.5)
//! Q4_1:  d = (max - min) / 15                                  q = floor((w - min) / d + 0.5)
//!        w' = d (q - 8)   and   w' = d q + min
//! ```
//!
//! The sign of Q4_0's scale is chosen so that the outermost weight, on whichever side, gets the
//! code 0, which reaches one step farther than the code 15. Codes are clamped to 15.
//!
//! Layout: `block_q4_0`, `block_q4_1` in ggml's
//! [`ggml-common.h`](https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).
//! Byte `j` holds weight `j` in its low half and weight `j + 16` in its high half.

use bytemuck::{Pod, Zeroable};

use super::each::{each, map};
use super::extremes::{outermost, smallest_and_largest};
use super::half::Half;
use super::rounding::{inverse_or_zero, truncate};
use super::{Block, assert_block_size};
use crate::TensorType;

/// 32 weights in 18 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct BlockQ4_0 {
    scale: Half,
    quants: [u8; 16],
}

/// 32 weights in 20 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct BlockQ4_1 {
    scale: Half,
    min: Half,
    quants: [u8; 16],
}

assert_block_size!(BlockQ4_0, TensorType::Q4_0);
assert_block_size!(BlockQ4_1, TensorType::Q4_1);

impl Block for BlockQ4_0 {
    const TYPE: TensorType = TensorType::Q4_0;
    type Weights = [f32; 32];

    #[inline(always)]
    fn quantize(x: &[f32; 32]) -> Self {
        let scale = outermost(x) / -8.0;
        let inverse = inverse_or_zero(scale);
        let codes = map(x, |w| code(w * inverse + 8.5));
        BlockQ4_0 { scale: Half::new(scale), quants: pack_nibbles(&codes) }
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
    fn quantize(x: &[f32; 32]) -> Self {
        let (min, max) = smallest_and_largest(x);
        let scale = (max - min) / 15.0;
        let inverse = inverse_or_zero(scale);
        let codes = map(x, |w| code((w - min) * inverse + 0.5));
        BlockQ4_1 { scale: Half::new(scale), min: Half::new(min), quants: pack_nibbles(&codes) }
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

/// A 4-bit code from a value that lies in `0.5..16.5`, unless the scale was degenerate.
#[inline(always)]
fn code(x: f32) -> u8 {
    (truncate(x) as i8).min(15) as u8
}

/// Two codes to a byte: `j` low, `j + 16` high.
#[inline(always)]
pub(super) fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    each(|j| (codes[j] & 0x0f) | (codes[j + 16] << 4))
}

/// The inverse of [`pack_nibbles`].
#[inline(always)]
pub(super) fn unpack_nibbles(bytes: &[u8; 16]) -> [u8; 32] {
    let mut codes = [0; 32];
    for (j, byte) in bytes.iter().enumerate() {
        codes[j] = byte & 0x0f;
        codes[j + 16] = byte >> 4;
    }
    codes
}
