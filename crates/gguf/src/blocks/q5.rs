//! Q5_0 and Q5_1: 32 weights, 5 bits each; 5.5 and 6 bits per weight.
//!
//! ```text
//! Q5_0:  d = m / -16,          m: weight farthest from zero    q = floor(w / d + 16.5)
//! Q5_1:  d = (max - min) / 31                                  q = floor((w - min) / d + 0.5)
//!        w' = d (q - 16)   and   w' = d q + min
//! ```
//!
//! As in Q4_0 the weight farthest from zero gets the code 0. Q5_0's codes are clamped to 31; Q5_1's
//! cannot exceed it. With importance the searches are those of Q4_0 and Q4_1.
//!
//! Layout: `block_q5_0`, `block_q5_1` in ggml's
//! [`ggml-common.h`](https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).
//! The low four bits are stored as in Q4_0; bit `j` of `high_bits` is the fifth bit of weight `j`.

use bytemuck::{Pod, Zeroable};

use super::each::{each, map};
use super::half::Half;
use super::minmax::{outermost, smallest_and_largest};
use super::q4::{floors_within, pack_nibbles, unpack_nibbles};
use super::rounding::inverse_or_zero;
use super::super_blocks::LANES;
use super::weighted::Rows;
use super::{Block, affine, assert_block_size, symmetric};
use crate::TensorType;

const WEIGHTED: affine::Search = affine::Search::weighted(31);
/// Blocks whose codes are stored in memory before they are packed. If the fifth bits were gathered
/// right after the codes are computed, the compiler would split the vectors into single numbers.
const PACKED_TOGETHER: usize = 8;

/// 32 weights in 22 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ5_0 {
    pub(crate) scale: Half,
    /// See [`gather_fifth_bits`].
    pub(crate) high_bits: [u8; 4],
    /// See [`pack_nibbles`].
    pub(crate) quants: [u8; 16],
}

/// 32 weights in 24 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ5_1 {
    pub(crate) scale: Half,
    pub(crate) min: Half,
    /// See [`gather_fifth_bits`].
    pub(crate) high_bits: [u8; 4],
    /// See [`pack_nibbles`].
    pub(crate) quants: [u8; 16],
}

assert_block_size!(BlockQ5_0, TensorType::Q5_0);
assert_block_size!(BlockQ5_1, TensorType::Q5_1);

impl Block for BlockQ5_0 {
    const TYPE: TensorType = TensorType::Q5_0;
    type Weights = [f32; 32];

    #[inline(always)]
    fn quantize_all(x: &[[f32; 32]], out: &mut [Self]) {
        for (x, out) in x.chunks(PACKED_TOGETHER).zip(out.chunks_mut(PACKED_TOGETHER)) {
            let mut codes = [[0; 32]; PACKED_TOGETHER];
            for ((x, block), codes) in x.iter().zip(&mut *out).zip(&mut codes) {
                let scale = outermost(x) / -16.0;
                let inverse = inverse_or_zero(scale);
                block.scale = Half::new(scale);
                *codes = floors_within(&map(x, |w| w * inverse + 16.5), inverse, 31);
            }
            for (block, codes) in out.iter_mut().zip(&codes) {
                block.high_bits = gather_fifth_bits(codes);
                block.quants = pack_nibbles(codes);
            }
        }
    }

    #[inline(always)]
    fn quantize_weighted(rows: Rows<[f32; 32]>, out: &mut [Self]) {
        let mean_squares = rows.mean_squares();
        for (i, out) in out.chunks_mut(LANES).enumerate() {
            let (x, costs) = rows.with_costs(i * LANES, &mean_squares);
            let fits = symmetric::Fits::<LANES>::search(&x, &costs, 16);
            for (lane, block) in out.iter_mut().enumerate() {
                let mut codes = [0; 32];
                fits.searched_codes(lane, &rows.x[i * LANES + lane], 16, &mut codes);
                *block = BlockQ5_0::new(fits.scale[lane], &codes);
            }
        }
    }

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let scale = self.scale.get();
        *out = map(&unpack(&self.quants, self.high_bits), |q| (i32::from(q) - 16) as f32 * scale);
    }

    #[inline(always)]
    fn is_finite(&self) -> bool {
        self.scale.is_finite()
    }
}

impl Block for BlockQ5_1 {
    const TYPE: TensorType = TensorType::Q5_1;
    type Weights = [f32; 32];

    #[inline(always)]
    fn quantize_all(x: &[[f32; 32]], out: &mut [Self]) {
        for (x, out) in x.chunks(PACKED_TOGETHER).zip(out.chunks_mut(PACKED_TOGETHER)) {
            let mut codes = [[0; 32]; PACKED_TOGETHER];
            for ((x, block), codes) in x.iter().zip(&mut *out).zip(&mut codes) {
                let (min, max) = smallest_and_largest(x);
                let scale = (max - min) / 31.0;
                let inverse = inverse_or_zero(scale);
                (block.scale, block.min) = (Half::new(scale), Half::new(min));
                *codes = floors_within(&map(x, |w| (w - min) * inverse + 0.5), inverse, 31);
            }
            for (block, codes) in out.iter_mut().zip(&codes) {
                block.high_bits = gather_fifth_bits(codes);
                block.quants = pack_nibbles(codes);
            }
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
                *block = BlockQ5_1::new(fits.scale[lane], -fits.min[lane], &codes);
            }
        }
    }

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let (scale, min) = (self.scale.get(), self.min.get());
        *out = map(&unpack(&self.quants, self.high_bits), |q| f32::from(q) * scale + min);
    }

    #[inline(always)]
    fn is_finite(&self) -> bool {
        self.scale.is_finite() && self.min.is_finite()
    }
}

impl BlockQ5_0 {
    #[inline(always)]
    fn new(scale: f32, codes: &[u8; 32]) -> Self {
        BlockQ5_0 {
            scale: Half::new(scale),
            high_bits: gather_fifth_bits(codes),
            quants: pack_nibbles(codes),
        }
    }
}

impl BlockQ5_1 {
    #[inline(always)]
    fn new(scale: f32, min: f32, codes: &[u8; 32]) -> Self {
        BlockQ5_1 {
            scale: Half::new(scale),
            min: Half::new(min),
            high_bits: gather_fifth_bits(codes),
            quants: pack_nibbles(codes),
        }
    }
}

/// Bit 4 of code `j` becomes bit `j` of a little-endian number.
#[inline(always)]
pub(crate) fn gather_fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    // The product moves eight bits, one from each byte, next to each other into the top byte.
    let (words, _) = codes.as_chunks::<8>();
    each(|byte| {
        let bits = u64::from_le_bytes(words[byte]) >> 4 & 0x0101_0101_0101_0101;
        (bits.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
    })
}

/// The inverse of [`pack_nibbles`] and [`gather_fifth_bits`]: codes from 0 to 31.
#[inline(always)]
pub(crate) fn unpack(quants: &[u8; 16], high_bits: [u8; 4]) -> [u8; 32] {
    let high = u32::from_le_bytes(high_bits);
    let mut codes = unpack_nibbles(quants);
    for (j, code) in codes.iter_mut().enumerate() {
        *code |= ((high >> j & 1) as u8) << 4;
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_bits_survive_packing() {
        let codes: [u8; 32] = std::array::from_fn(|i| (i * 37 / 3 % 32) as u8);
        assert_eq!(unpack(&pack_nibbles(&codes), gather_fifth_bits(&codes)), codes);
    }
}
