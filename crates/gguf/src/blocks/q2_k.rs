//! Q2_K: 256 weights in 16 groups of 16, 2 bits each, 4-bit scales and minima; 2.625 bits per
//! weight.
//!
//! ```text
//! w' = (d s_g) q - (dmin m_g)        g: group, q in 0..=3, s and m in 0..=15
//! ```
//!
//! A group's scale and minimum are found by a search (`affine.rs`) with the cost `p = |w|` and the
//! magnitudes of errors. They are rounded to 4 bits relative to the largest of the block, and the
//! codes are computed again with the rounded values. With importance the squares of errors are
//! used, `p` is that of `weighted.rs` with the block's mean square, and the 4 bits are found by a
//! search too (`qp_quants.rs`).
//!
//! Layout: `block_q2_K` in ggml's
//! [`ggml-common.h`](https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).

use bytemuck::{Pod, Zeroable};

use super::affine::{Fits, Search};
use super::each::{each, map};
use super::half::Half;
use super::lanes::{Lanes, transpose};
use super::rounding::nearest_int;
use super::six_bits::largest_positive;
use super::super_blocks::{BATCH, Batch, Stored};
use super::weighted::Rows;
use super::{Block, assert_block_size};
use crate::TensorType;

const GROUPS: usize = 16;
const GROUP_LEN: usize = 16;
const MAX_SCALE: f32 = 15.0;
const SEARCH: Search = Search {
    max_code: 3,
    first: -0.5,
    increment: 0.1,
    last: 15,
    by_magnitude: true,
    clamp_first: false,
};
const WEIGHTED: Search = Search::weighted(3);

/// 256 weights in 84 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ2K {
    /// A group's scale in the lower half, its minimum in the upper one.
    pub(crate) scales: [u8; GROUPS],
    /// See [`pack_two_bits`].
    pub(crate) quants: [u8; 64],
    pub(crate) scale: Half,
    pub(crate) min_scale: Half,
}

assert_block_size!(BlockQ2K, TensorType::Q2_K);

impl Block for BlockQ2K {
    const TYPE: TensorType = TensorType::Q2_K;
    type Weights = [f32; 256];

    #[inline(always)]
    fn quantize_all(x: &[[f32; 256]], out: &mut [Self]) {
        for (x, block) in x.iter().zip(out) {
            let groups = transpose::<GROUPS, GROUP_LEN>(x);
            let mut costs = groups;
            costs.iter_mut().for_each(|p: &mut Lanes<GROUPS>| *p = p.abs());
            let fits = Fits::search(&groups, &costs, SEARCH);
            let (scale, scales) = fractions(&fits.scale);
            let (min_scale, mins) = fractions(&fits.min);
            *block = BlockQ2K {
                scales: each(|g| scales[g] | mins[g] << 4),
                quants: [0; 64],
                scale: Half::new(scale),
                min_scale: Half::new(min_scale),
            };
            block.set_codes(x, &fits, SEARCH);
        }
    }

    #[inline(always)]
    fn quantize_weighted(rows: Rows<[f32; 256]>, out: &mut [Self]) {
        for (i, out) in out.chunks_mut(BATCH).enumerate() {
            let batch = Batch::new(&rows, i * BATCH, |sum| sum / 256.0);
            let fits = batch.affine_fits::<GROUPS, GROUP_LEN>(WEIGHTED);
            let stored = Stored::search(&fits, MAX_SCALE as i32);
            for (b, block) in out.iter_mut().enumerate() {
                *block = BlockQ2K {
                    scales: each(|g| stored.scales[b][g] | stored.mins[b][g] << 4),
                    quants: [0; 64],
                    scale: Half::new(stored.scale[b]),
                    min_scale: Half::new(stored.min_scale[b]),
                };
                block.set_codes(batch.x[b], &fits[b], WEIGHTED);
            }
        }
    }

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let steps = self.steps();
        let codes = unpack_two_bits(&self.quants);
        for (group, out) in out.chunks_exact_mut(GROUP_LEN).enumerate() {
            let (step, min) = steps[group];
            for (w, &q) in out.iter_mut().zip(&codes[group * GROUP_LEN..]) {
                *w = step * f32::from(q) - min;
            }
        }
    }

    #[inline(always)]
    fn is_finite(&self) -> bool {
        self.scale.is_finite() && self.min_scale.is_finite()
    }
}

impl BlockQ2K {
    /// Scale and minimum of each group, as they are stored.
    #[inline(always)]
    pub(crate) fn steps(&self) -> [(f32, f32); GROUPS] {
        let (scale, min) = (self.scale.get(), self.min_scale.get());
        map(&self.scales, |s| (scale * f32::from(s & 0x0f), min * f32::from(s >> 4)))
    }

    #[inline(always)]
    fn set_codes(&mut self, x: &[f32; 256], fits: &Fits<GROUPS>, search: Search) {
        self.quants = pack_two_bits(&fits.codes(x, &self.steps(), search));
    }
}

/// 1/15 of the largest value, and all values as multiples of it. Negative values are not clamped to
/// 4 bits.
#[inline(always)]
fn fractions(values: &[f32; GROUPS]) -> (f32, [u8; GROUPS]) {
    let largest = largest_positive(values);
    if largest > 0.0 {
        let inverse = MAX_SCALE / largest;
        (largest / MAX_SCALE, map(values, |v| nearest_int(inverse * v) as u8))
    } else {
        (0.0, [0; GROUPS])
    }
}

/// Four codes to a byte: each half of the block has 128 weights in four quarters of 32, and byte
/// `i` of a half holds weight `i` of each, quarter 0 lowest.
#[inline(always)]
pub(crate) fn pack_two_bits(codes: &[u8; 256]) -> [u8; 64] {
    each(|byte| {
        let first = byte / 32 * 128 + byte % 32;
        let [a, b, c, d]: [u8; 4] = each(|quarter| codes[first + 32 * quarter]);
        a | b << 2 | c << 4 | d << 6
    })
}

/// The inverse of [`pack_two_bits`].
#[inline(always)]
pub(crate) fn unpack_two_bits(bytes: &[u8; 64]) -> [u8; 256] {
    let mut codes = [0; 256];
    for (half, codes) in codes.chunks_exact_mut(128).enumerate() {
        let bytes = &bytes[half * 32..][..32];
        for (quarter, codes) in codes.chunks_exact_mut(32).enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code = byte >> (2 * quarter) & 3;
            }
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_bits_survive_packing() {
        let codes: [u8; 256] = std::array::from_fn(|i| (i * 37 / 5 % 4) as u8);
        assert_eq!(unpack_two_bits(&pack_two_bits(&codes)), codes);
    }
}
