//! Q4_K: 256 weights in 8 groups of 32, 4 bits each, 6-bit scales and minima; 4.5 bits per weight.
//!
//! ```text
//! w' = (d s_g) q - (dmin m_g)        g: group, q in 0..=15, s and m in 0..=63
//! ```
//!
//! A group's scale and minimum are searched for. With the importance `p = sqrt(mean w²) + |w|`,
//! 21 step sizes a little smaller and larger than `(max - min) / 15` are tried; each gives codes
//! `q`, and for these codes the scale `a` and the offset `b <= 0` with the smallest
//! `sum p (a q + b - w)²` are known:
//!
//! ```text
//! D = Σp Σpq² - (Σpq)²     a = (Σp Σpqw - Σpw Σpq) / D     b = (Σpq² Σpw - Σpq Σpqw) / D
//! ```
//!
//! (`b` is 0 and `a = Σpqw / Σpq²` where `b` would be positive.) The best of all becomes the
//! group's; scales and minima are rounded to 6 bits against the largest of the block, and the
//! codes are computed anew with what was stored.
//!
//! Layout: `block_q4_K` in ggml's
//! [`ggml-common.h`](https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).

use bytemuck::{Pod, Zeroable};

use super::each::{each, map};
use super::half::Half;
use super::lanes::{Lanes, transpose};
use super::rounding::nearest_int;
use super::{Block, assert_block_size};
use crate::TensorType;

const GROUPS: usize = 8;
const GROUP_LEN: usize = 32;
const MAX_CODE: f32 = 15.0;
const MAX_SCALE: f32 = 63.0;

/// 256 weights in 144 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct BlockQ4K {
    scale: Half,
    min_scale: Half,
    packed: [u8; 12],
    quants: [u8; 128],
}

assert_block_size!(BlockQ4K, TensorType::Q4_K);

impl Block for BlockQ4K {
    const TYPE: TensorType = TensorType::Q4_K;
    type Weights = [f32; 256];

    #[inline(always)]
    fn quantize(x: &[f32; 256]) -> Self {
        let fits = Fits::<GROUPS>::search(&transpose(x));
        BlockQ4K::encode(x, &fits, 0)
    }

    /// Two blocks side by side: their 16 groups fill the widest registers.
    #[inline(always)]
    fn quantize_all(x: &[[f32; 256]], out: &mut [Self]) {
        let (pairs, rest) = x.as_chunks::<2>();
        let (out_pairs, out_rest) = out.as_chunks_mut::<2>();
        for (pair, out) in pairs.iter().zip(out_pairs) {
            let fits = Fits::<{ 2 * GROUPS }>::search(&transpose(pair.as_flattened()));
            out[0] = BlockQ4K::encode(&pair[0], &fits, 0);
            out[1] = BlockQ4K::encode(&pair[1], &fits, GROUPS);
        }
        for (x, out) in rest.iter().zip(out_rest) {
            *out = BlockQ4K::quantize(x);
        }
    }

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let steps = self.steps();
        for (group, out) in out.chunks_exact_mut(GROUP_LEN).enumerate() {
            let (step, min) = steps[group];
            let bytes = &self.quants[group / 2 * GROUP_LEN..][..GROUP_LEN];
            let shift = group % 2 * 4;
            for (w, byte) in out.iter_mut().zip(bytes) {
                *w = step * f32::from(byte >> shift & 0x0f) - min;
            }
        }
    }

    #[inline(always)]
    fn is_finite(&self) -> bool {
        self.scale.is_finite() && self.min_scale.is_finite()
    }
}

impl BlockQ4K {
    /// The block for weights whose groups are those from `first` in `fits`.
    #[inline(always)]
    fn encode<const N: usize>(x: &[f32; 256], fits: &Fits<N>, first: usize) -> Self {
        let fitted_scales: [f32; GROUPS] = each(|g| fits.scale[first + g]);
        let fitted_mins: [f32; GROUPS] = each(|g| fits.min[first + g]);
        let max_scale = largest_positive(&fitted_scales);
        let max_min = largest_positive(&fitted_mins);
        let scales = six_bits(&fitted_scales, max_scale);
        let mins = six_bits(&fitted_mins, max_min);
        let mut block = BlockQ4K {
            scale: Half::new(max_scale / MAX_SCALE),
            min_scale: Half::new(max_min / MAX_SCALE),
            packed: pack_six_bits(&scales, &mins),
            quants: [0; 128],
        };
        let codes = block.codes(x, fits, first);
        for (pair, bytes) in block.quants.chunks_exact_mut(GROUP_LEN).enumerate() {
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = codes[2 * pair][i] | (codes[2 * pair + 1][i] << 4);
            }
        }
        block
    }

    /// Scale and minimum of each group, as they are stored.
    #[inline(always)]
    fn steps(&self) -> [(f32, f32); GROUPS] {
        let (scale, min) = (self.scale.get(), self.min_scale.get());
        let stored = unpack_six_bits(&self.packed);
        map(&stored, |(s, m)| (scale * f32::from(s), min * f32::from(m)))
    }

    /// The codes of all groups, for the stored scales. A group whose scale was rounded to zero
    /// keeps those of the search, as it does in ggml.
    #[inline(always)]
    fn codes<const N: usize>(
        &self,
        x: &[f32; 256],
        fits: &Fits<N>,
        first: usize,
    ) -> [[u8; GROUP_LEN]; GROUPS] {
        let steps = self.steps();
        let mut codes = [[0; GROUP_LEN]; GROUPS];
        for (group, codes) in codes.iter_mut().enumerate() {
            let weights = &x[group * GROUP_LEN..][..GROUP_LEN];
            let (step, min) = steps[group];
            if step == 0.0 {
                fits.searched_codes(first + group, weights, codes);
                continue;
            }
            for (code, &w) in codes.iter_mut().zip(weights) {
                *code = nearest_int((w + min) / step).clamp(0, 15) as u8;
            }
        }
        codes
    }
}

/// For each of `N` groups the best scale and minimum, and how the codes were made that they fit.
struct Fits<const N: usize> {
    /// `a`, 0 in a group of equal weights.
    scale: [f32; N],
    /// `-b`, never negative.
    min: [f32; N],
    /// Codes are `(w - code_offset) * code_step`, rounded.
    code_step: [f32; N],
    code_offset: [f32; N],
}

impl<const N: usize> Fits<N> {
    /// `make_qkx2_quants` in ggml's `ggml-quants.c`, all groups side by side.
    #[inline(always)]
    fn search(x: &[Lanes<N>; GROUP_LEN]) -> Self {
        let zero = Lanes::splat(0.0);
        let importance = importance(x);

        let mut min = x[0];
        let mut max = x[0];
        let mut sum_p = importance[0];
        let mut sum_pw = sum_p * x[0];
        for (&w, &p) in x.iter().zip(&importance).skip(1) {
            min = w.less_than(min).select(w, min);
            max = max.less_than(w).select(w, max);
            sum_p = sum_p + p;
            sum_pw = sum_pw + p * w;
        }
        min = zero.less_than(min).select(zero, min);
        let flat = max.equals(min);
        let lowest = min;

        let mut code_step = Lanes::splat(MAX_CODE) / (max - min);
        let mut code_offset = min;
        let mut scale = Lanes::splat(1.0) / code_step;
        let mut least_error = zero;
        for (&w, &p) in x.iter().zip(&importance) {
            let q = (code_step * (w - min)).round_within(0, 15);
            let difference = scale * q + min - w;
            least_error = least_error + p * (difference * difference);
        }

        let mut codes = [zero; GROUP_LEN];
        for attempt in 0..=20 {
            let step = Lanes::splat(-1.0 + 0.1 * attempt as f32 + MAX_CODE) / (max - min);
            let (mut sum_pq, mut sum_pq2, mut sum_pqw) = (zero, zero, zero);
            for ((&w, &p), code) in x.iter().zip(&importance).zip(&mut codes) {
                let q = (step * (w - min)).round_within(0, 15);
                *code = q;
                let pq = p * q;
                sum_pq = sum_pq + pq;
                sum_pq2 = sum_pq2 + pq * q;
                sum_pqw = sum_pqw + pq * w;
            }
            let determinant = sum_p * sum_pq2 - sum_pq * sum_pq;
            let mut new_scale = (sum_p * sum_pqw - sum_pw * sum_pq) / determinant;
            let mut new_min = (sum_pq2 * sum_pw - sum_pq * sum_pqw) / determinant;
            let above_zero = zero.less_than(new_min);
            new_scale = above_zero.select(sum_pqw / sum_pq2, new_scale);
            new_min = above_zero.select(zero, new_min);

            let mut error = zero;
            for ((&w, &p), &q) in x.iter().zip(&importance).zip(&codes) {
                let difference = new_scale * q + new_min - w;
                error = error + p * (difference * difference);
            }
            let better = zero.less_than(determinant).and(error.less_than(least_error));
            least_error = better.select(error, least_error);
            scale = better.select(new_scale, scale);
            code_step = better.select(step, code_step);
            code_offset = better.select(min, code_offset);
            min = better.select(new_min, min);
        }

        Fits {
            scale: flat.select(zero, scale).0,
            min: (-flat.select(lowest, min)).0,
            code_step: flat.select(zero, code_step).0,
            code_offset: code_offset.0,
        }
    }

    /// The codes that the search ended with.
    fn searched_codes(&self, group: usize, weights: &[f32], codes: &mut [u8; GROUP_LEN]) {
        let (step, offset) = (self.code_step[group], self.code_offset[group]);
        if step == 0.0 {
            return;
        }
        for (code, &w) in codes.iter_mut().zip(weights) {
            *code = nearest_int(step * (w - offset)).clamp(0, 15) as u8;
        }
    }
}

/// `p`: how much an error of each weight counts.
#[inline(always)]
fn importance<const N: usize>(x: &[Lanes<N>; GROUP_LEN]) -> [Lanes<N>; GROUP_LEN] {
    let mut sum_of_squares = Lanes::splat(0.0);
    for &w in x {
        sum_of_squares = sum_of_squares + w * w;
    }
    let typical = (sum_of_squares / Lanes::splat(GROUP_LEN as f32)).sqrt();
    let mut importance = [typical; GROUP_LEN];
    for (p, &w) in importance.iter_mut().zip(x) {
        *p = typical + w.abs();
    }
    importance
}

/// The largest of the positive ones, 0 if there is none.
#[inline(always)]
fn largest_positive(values: &[f32; GROUPS]) -> f32 {
    values.iter().fold(0.0, |largest, &v| if v > largest { v } else { largest })
}

/// Fractions of the largest, in 63rds.
#[inline(always)]
fn six_bits(values: &[f32; GROUPS], largest: f32) -> [u8; GROUPS] {
    let inverse = if largest > 0.0 { MAX_SCALE / largest } else { 0.0 };
    map(values, |v| (nearest_int(inverse * v) as u8).min(63))
}

/// Eight pairs of 6 bits in 12 bytes.
///
/// Bytes 0..4 are the scales of groups 0..4, bytes 4..8 their minima, bytes 8..12 the low four
/// bits of scale and minimum of groups 4..8, whose upper two bits fill up bytes 0..4 and 4..8.
#[inline(always)]
fn pack_six_bits(scales: &[u8; GROUPS], mins: &[u8; GROUPS]) -> [u8; 12] {
    let mut packed = [0; 12];
    for g in 0..4 {
        packed[g] = scales[g] | scales[g + 4] >> 4 << 6;
        packed[g + 4] = mins[g] | mins[g + 4] >> 4 << 6;
        packed[g + 8] = scales[g + 4] & 0x0f | mins[g + 4] << 4;
    }
    packed
}

/// The inverse of [`pack_six_bits`]: scale and minimum of each group.
#[inline(always)]
fn unpack_six_bits(packed: &[u8; 12]) -> [(u8, u8); GROUPS] {
    let mut pairs = [(0, 0); GROUPS];
    for g in 0..4 {
        let (scale, min, rest) = (packed[g], packed[g + 4], packed[g + 8]);
        pairs[g] = (scale & 63, min & 63);
        pairs[g + 4] = (rest & 0x0f | scale >> 6 << 4, rest >> 4 | min >> 6 << 4);
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_bit_pairs_survive_packing() {
        let scales = [0, 1, 62, 63, 16, 47, 48, 33];
        let mins = [63, 0, 31, 32, 15, 17, 63, 1];
        let pairs = unpack_six_bits(&pack_six_bits(&scales, &mins));
        assert_eq!(pairs.map(|(s, _)| s), scales);
        assert_eq!(pairs.map(|(_, m)| m), mins);
    }
}
