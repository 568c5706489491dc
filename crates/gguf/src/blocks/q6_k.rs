//! Q6_K: 256 weights in 16 groups of 16, 6 bits each, 8-bit scales; 6.5625 bits per weight.
//!
//! ```text
//! w' = d s_g (q - 32)        g: group, q in 0..=63, s in -128..=127
//! ```
//!
//! A group's scale is found by a search (`symmetric.rs`) with the cost `p = w²`, or with the
//! importance itself. The scales are rounded to 8 bits, relative to the scale of the block that is
//! farthest from zero, and the codes are computed again with the rounded values.
//!
//! Layout: `block_q6_K` in ggml's
//! [`ggml-common.h`](https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).
//! Each half of the block has 128 weights in four quarters of 32: weight `i` of the quarters 0 and
//! 2 share byte `i` of `low_bits`, those of 1 and 3 byte `i + 32`, and the upper two bits of all
//! four are in byte `i` of `high_bits`, quarter 0 lowest.

use bytemuck::{Pod, Zeroable};

use super::each::{each, map};
use super::half::Half;
use super::lanes::transpose;
use super::rounding::nearest_int;
use super::symmetric::{Fits, NEGLIGIBLE, code, squares};
use super::weighted::Rows;
use super::{Block, assert_block_size};
use crate::TensorType;

const GROUPS: usize = 16;
const GROUP_LEN: usize = 16;
/// Codes are from -32 to 31.
const REACH: i32 = 32;

/// 256 weights in 210 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ6K {
    /// See [`pack_six_bit_codes`].
    pub(crate) low_bits: [u8; 128],
    /// See [`pack_six_bit_codes`].
    pub(crate) high_bits: [u8; 64],
    pub(crate) scales: [i8; GROUPS],
    pub(crate) scale: Half,
}

assert_block_size!(BlockQ6K, TensorType::Q6_K);

impl Block for BlockQ6K {
    const TYPE: TensorType = TensorType::Q6_K;
    type Weights = [f32; 256];

    #[inline(always)]
    fn quantize_all(x: &[[f32; 256]], out: &mut [Self]) {
        for (x, block) in x.iter().zip(out) {
            let groups = transpose::<GROUPS, GROUP_LEN>(x);
            *block = BlockQ6K::new(x, &Fits::search(&groups, &squares(&groups), REACH));
        }
    }

    #[inline(always)]
    fn quantize_weighted(rows: Rows<[f32; 256]>, out: &mut [Self]) {
        for (i, (x, block)) in rows.x.iter().zip(out).enumerate() {
            let importance = transpose::<GROUPS, GROUP_LEN>(rows.importance_of(i));
            *block = BlockQ6K::new(x, &Fits::search(&transpose(x), &importance, REACH));
        }
    }

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let steps = self.steps();
        let codes = unpack_six_bit_codes(&self.low_bits, &self.high_bits);
        for (group, out) in out.chunks_exact_mut(GROUP_LEN).enumerate() {
            for (w, &q) in out.iter_mut().zip(&codes[group * GROUP_LEN..]) {
                *w = steps[group] * (i32::from(q) - REACH) as f32;
            }
        }
    }

    #[inline(always)]
    fn is_finite(&self) -> bool {
        self.scale.is_finite()
    }
}

impl BlockQ6K {
    /// A group whose scale was rounded to zero keeps the codes of the search, as in ggml.
    #[inline(always)]
    fn new(x: &[f32; 256], fits: &Fits<GROUPS>) -> Self {
        let outermost = outermost_scale(fits.scale);
        if outermost.abs() < NEGLIGIBLE {
            return BlockQ6K::zeroed();
        }
        let inverse = -128.0 / outermost;
        let mut block = BlockQ6K {
            scale: Half::new(1.0 / inverse),
            scales: map(&fits.scale, |scale| nearest_int(inverse * scale).min(127) as i8),
            ..BlockQ6K::zeroed()
        };
        let steps = block.steps();
        let mut codes = [0; 256];
        for (group, codes) in codes.chunks_exact_mut(GROUP_LEN).enumerate() {
            let weights = &x[group * GROUP_LEN..][..GROUP_LEN];
            let step = steps[group];
            if step == 0.0 {
                fits.searched_codes(group, weights, REACH, codes);
                continue;
            }
            for (q, &w) in codes.iter_mut().zip(weights) {
                *q = code(w / step, REACH);
            }
        }
        (block.low_bits, block.high_bits) = pack_six_bit_codes(&codes);
        block
    }

    /// The scale of each group, as it is stored.
    #[inline(always)]
    pub(crate) fn steps(&self) -> [f32; GROUPS] {
        let scale = self.scale.get();
        map(&self.scales, |s| scale * f32::from(s))
    }
}

/// The first of the scales that are farthest from zero.
#[inline(always)]
fn outermost_scale(scales: [f32; GROUPS]) -> f32 {
    scales.into_iter().fold(0.0, |most: f32, s| if s.abs() > most.abs() { s } else { most })
}

/// Low four and upper two bits of codes from 0 to 63.
#[inline(always)]
pub(crate) fn pack_six_bit_codes(codes: &[u8; 256]) -> ([u8; 128], [u8; 64]) {
    let (mut low_bits, mut high_bits) = ([0; 128], [0; 64]);
    for half in 0..2 {
        for i in 0..32 {
            let [a, b, c, d]: [u8; 4] = each(|quarter| codes[half * 128 + quarter * 32 + i]);
            low_bits[half * 64 + i] = a & 0x0f | c << 4;
            low_bits[half * 64 + 32 + i] = b & 0x0f | d << 4;
            high_bits[half * 32 + i] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
        }
    }
    (low_bits, high_bits)
}

/// The inverse of [`pack_six_bit_codes`].
#[inline(always)]
pub(crate) fn unpack_six_bit_codes(low_bits: &[u8; 128], high_bits: &[u8; 64]) -> [u8; 256] {
    let mut codes = [0; 256];
    for half in 0..2 {
        for i in 0..32 {
            let low = [low_bits[half * 64 + i], low_bits[half * 64 + 32 + i]];
            let high = high_bits[half * 32 + i];
            for k in 0..4 {
                let nibble = low[k % 2] >> (k / 2 * 4) & 0x0f;
                codes[half * 128 + k * 32 + i] = nibble | (high >> (2 * k) & 3) << 4;
            }
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_packing() {
        let codes: [u8; 256] = std::array::from_fn(|i| (i * 37 % 64) as u8);
        let (low_bits, high_bits) = pack_six_bit_codes(&codes);
        assert_eq!(unpack_six_bit_codes(&low_bits, &high_bits), codes);
    }
}
