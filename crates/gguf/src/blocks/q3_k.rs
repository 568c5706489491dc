//! Q3_K: 256 weights in 16 groups of 16, 3 bits each, 6-bit scales; 3.4375 bits per weight.
//!
//! ```text
//! w' = d (s_g - 32) (q - 4)        g: group, q in 0..=7, s in 0..=63
//! ```
//!
//! The first step of a group is `-m / 4`, where `m` is the weight farthest from zero. Then single
//! codes are changed as long as `(Σ w³ q)² / Σ w² q²` increases, in at most five passes, and
//! `Σ w³ q / Σ w² q²` is the scale. (If `m` is positive the sum is negative at first, and codes do
//! not change, as in ggml.) The scales are rounded to 6 bits, relative to the scale of the block
//! that is farthest from zero, and the codes are computed again with the rounded values.
//!
//! With importance both the groups' scales and their 6 bits are found by a search as in
//! `symmetric.rs`, with twice the block's mean square in the cost of an error.
//!
//! Layout: `block_q3_K` in ggml's
//! [`ggml-common.h`](https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).
//! The low two bits of the codes are stored as in Q2_K; bit `k` of `high_bits[i]` is the third bit
//! of weight `32 k + i`.

use bytemuck::{Pod, Zeroable};

use super::each::{each, map};
use super::half::Half;
use super::lanes::{Lanes, Mask, sum, transpose};
use super::q2_k::{pack_two_bits, unpack_two_bits};
use super::rounding::nearest_int;
use super::super_blocks::{BATCH, Batch};
use super::symmetric::{self, NEGLIGIBLE, code, outermost};
use super::weighted::Rows;
use super::{Block, assert_block_size};
use crate::TensorType;

const GROUPS: usize = 16;
const GROUP_LEN: usize = 16;
/// Codes are from -4 to 3.
const REACH: i32 = 4;
/// Scales are from -32 to 31.
const SCALE_REACH: i32 = 32;
/// Number of groups, from several blocks, whose codes are refined in parallel: every step depends
/// on the one before, and more lanes use the time of waiting.
const REFINED_TOGETHER: usize = 32;

/// 256 weights in 110 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ3K {
    /// See [`pack_three_bits`].
    pub(crate) high_bits: [u8; 32],
    /// See [`pack_two_bits`].
    pub(crate) quants: [u8; 64],
    /// See [`pack_scales`].
    pub(crate) packed: [u8; 12],
    pub(crate) scale: Half,
}

assert_block_size!(BlockQ3K, TensorType::Q3_K);

impl Block for BlockQ3K {
    const TYPE: TensorType = TensorType::Q3_K;
    type Weights = [f32; 256];

    #[inline(always)]
    fn quantize_all(x: &[[f32; 256]], out: &mut [Self]) {
        for (x, out) in x.chunks(BATCH).zip(out.chunks_mut(BATCH)) {
            let fitted = fitted_scales(x);
            for ((x, block), fitted) in x.iter().zip(out).zip(&fitted) {
                let (scale, scales) = of_outermost(fitted);
                *block = BlockQ3K::new(scale, &scales, x, |group, codes| {
                    searched_codes(&x.as_chunks().0[group], codes);
                });
            }
        }
    }

    #[inline(always)]
    fn quantize_weighted(rows: Rows<[f32; 256]>, out: &mut [Self]) {
        for (i, out) in out.chunks_mut(BATCH).enumerate() {
            let batch = Batch::new(&rows, i * BATCH, |sum| 2.0 * sum / 256.0);
            let mut scales = [Lanes::<BATCH>::splat(0.0); GROUPS];
            let mut cost_sums = scales;
            let mut fits = [symmetric::Fits::EMPTY; BATCH];
            for (b, fits) in fits.iter_mut().enumerate() {
                let (x, costs) = batch.groups::<GROUP_LEN>(b);
                *fits = symmetric::Fits::search(&x, &costs, REACH);
                let cost = sum(&costs);
                for group in 0..GROUPS {
                    scales[group].0[b] = fits.scale[group];
                    cost_sums[group].0[b] = cost.0[group];
                }
            }
            let block_fits = symmetric::Fits::search(&scales, &cost_sums, SCALE_REACH);
            for ((b, block), fits) in out.iter_mut().enumerate().zip(&fits) {
                let scales: [f32; GROUPS] = each(|group| scales[group].0[b]);
                let mut codes = [0; GROUPS];
                block_fits.searched_codes(b, &scales, SCALE_REACH, &mut codes);
                let x = batch.x[b];
                *block = BlockQ3K::new(block_fits.scale[b], &codes, x, |group, codes| {
                    fits.searched_codes(group, &x[group * GROUP_LEN..], REACH, codes);
                });
            }
        }
    }

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let steps = self.steps();
        let codes = unpack_three_bits(&self.quants, &self.high_bits);
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

impl BlockQ3K {
    /// The block for these scales, 0 to 63. A group whose scale was rounded to zero keeps the codes
    /// of the search, as in ggml.
    #[inline(always)]
    fn new(
        scale: f32,
        scales: &[u8; GROUPS],
        x: &[f32; 256],
        searched: impl Fn(usize, &mut [u8]),
    ) -> Self {
        let packed = pack_scales(scales);
        let mut block = BlockQ3K { packed, scale: Half::new(scale), ..BlockQ3K::zeroed() };
        let steps = block.steps();
        let mut codes = [0; 256];
        for (group, codes) in codes.chunks_exact_mut(GROUP_LEN).enumerate() {
            let step = steps[group];
            if step == 0.0 {
                searched(group, codes);
                continue;
            }
            for (q, &w) in codes.iter_mut().zip(&x[group * GROUP_LEN..]) {
                *q = code(w / step, REACH);
            }
        }
        (block.quants, block.high_bits) = pack_three_bits(&codes);
        block
    }

    /// The scale of each group, as it is stored.
    #[inline(always)]
    pub(crate) fn steps(&self) -> [f32; GROUPS] {
        let scale = self.scale.get();
        map(&unpack_scales(&self.packed), |s| scale * (i32::from(s) - SCALE_REACH) as f32)
    }
}

/// The scale of each group of up to [`BATCH`] blocks.
///
/// If the weight farthest from zero is positive, codes never change. The other groups, about half,
/// are collected from all blocks, so that all lanes are used.
#[inline(always)]
fn fitted_scales(x: &[[f32; 256]]) -> [[f32; GROUPS]; BATCH] {
    let mut scales = [[0.0; GROUPS]; BATCH];
    let mut to_refine = [0; BATCH * GROUPS];
    let mut count = 0;
    for (b, (x, scales)) in x.iter().zip(&mut scales).enumerate() {
        let groups = transpose::<GROUPS, GROUP_LEN>(x);
        let (fit, negative) = Fit::begin(&groups);
        *scales = fit.scale().0;
        for g in 0..GROUPS {
            to_refine[count] = b * GROUPS + g;
            count += usize::from(negative.lane(g));
        }
    }
    let (groups, _) = x.as_flattened().as_chunks::<GROUP_LEN>();
    for indices in to_refine[..count].chunks(REFINED_TOGETHER) {
        let index = |lane: usize| indices[lane.min(indices.len() - 1)];
        let together: [[f32; GROUP_LEN]; REFINED_TOGETHER] =
            std::array::from_fn(|lane| groups[index(lane)]);
        let together = transpose::<REFINED_TOGETHER, GROUP_LEN>(together.as_flattened());
        let (mut fit, _) = Fit::begin(&together);
        fit.refine(&together);
        for (&index, scale) in indices.iter().zip(fit.scale().0) {
            scales[index / GROUPS][index % GROUPS] = scale;
        }
    }
    scales
}

/// The codes at the end of the search for a group's scale, counted from 0. In a negligible group
/// all codes are 0, which is not the code of zero.
fn searched_codes(x: &[f32; GROUP_LEN], codes: &mut [u8]) {
    let group = transpose::<1, GROUP_LEN>(x);
    let (mut fit, negative) = Fit::begin(&group);
    if negative.any() {
        fit.refine(&group);
    }
    let zero = if fit.negligible.any() { 0 } else { REACH };
    for (q, code) in codes.iter_mut().zip(&fit.codes) {
        *q = (code.0[0] as i32 + zero) as u8;
    }
}

/// Codes of `N` groups, and the sums that determine their scale: `make_q3_quants` in ggml's
/// `ggml-quants.c`, for all groups in parallel.
struct Fit<const N: usize> {
    /// Signed; zeros in a negligible group.
    codes: [Lanes<N>; GROUP_LEN],
    /// `Σ w³ q`
    sum_pwq: Lanes<N>,
    /// `Σ w² q²`
    sum_pq2: Lanes<N>,
    negligible: Mask<N>,
}

impl<const N: usize> Fit<N> {
    /// The codes of the first step, and the groups whose weight farthest from zero is negative.
    #[inline(always)]
    fn begin(x: &[Lanes<N>; GROUP_LEN]) -> (Self, Mask<N>) {
        let zero = Lanes::splat(0.0);
        let (magnitude, outermost) = outermost(x);
        let negligible = magnitude.less_than(Lanes::splat(NEGLIGIBLE));
        let step = negligible.select(zero, Lanes::splat(-REACH as f32) / outermost);
        let mut fit = Fit { codes: [zero; GROUP_LEN], sum_pwq: zero, sum_pq2: zero, negligible };
        for (&w, code) in x.iter().zip(&mut fit.codes) {
            let p = w * w;
            let q = (step * w).round_within(-REACH, REACH - 1);
            *code = q;
            fit.sum_pwq = fit.sum_pwq + p * w * q;
            fit.sum_pq2 = fit.sum_pq2 + p * q * q;
        }
        (fit, outermost.less_than(zero).and(negligible.not()))
    }

    /// Changes single codes as long as this improves the fit, in at most five passes.
    #[inline(always)]
    fn refine(&mut self, x: &[Lanes<N>; GROUP_LEN]) {
        let zero = Lanes::splat(0.0);
        let (mut sum_pwq, mut sum_pq2) = (self.sum_pwq, self.sum_pq2);
        for _ in 0..5 {
            let mut any_changed = Mask::NONE;
            for (&w, code) in x.iter().zip(&mut self.codes) {
                let (p, old) = (w * w, *code);
                let rest_pwq = sum_pwq - p * w * old;
                let rest_pq2 = sum_pq2 - p * old * old;
                let q = (w * rest_pq2 / rest_pwq).round_within(-REACH, REACH - 1);
                let new_pwq = rest_pwq + p * w * q;
                let new_pq2 = rest_pq2 + p * q * q;
                let better = (sum_pwq * sum_pwq * new_pq2).less_than(new_pwq * new_pwq * sum_pq2);
                let possible = zero.less_than(rest_pwq).and(zero.less_than(new_pq2));
                let changed = possible.and(q.equals(old).not()).and(better);
                *code = changed.select(q, old);
                sum_pwq = changed.select(new_pwq, sum_pwq);
                sum_pq2 = changed.select(new_pq2, sum_pq2);
                any_changed = any_changed.or(changed);
            }
            if !any_changed.any() {
                break;
            }
        }
        (self.sum_pwq, self.sum_pq2) = (sum_pwq, sum_pq2);
    }

    /// `Σ w³ q / Σ w² q²`, 0 in a negligible group.
    #[inline(always)]
    fn scale(&self) -> Lanes<N> {
        let zero = Lanes::splat(0.0);
        zero.less_than(self.sum_pq2).select(self.sum_pwq / self.sum_pq2, zero)
    }
}

/// Minus 1/32 of the scale farthest from zero, and all scales as multiples of it, from -32 to 31,
/// stored from 0.
#[inline(always)]
fn of_outermost(scales: &[f32; GROUPS]) -> (f32, [u8; GROUPS]) {
    let outermost =
        scales.iter().fold(0.0, |most: f32, s| if s.abs() > most.abs() { *s } else { most });
    if outermost == 0.0 {
        return (0.0, [0; GROUPS]);
    }
    let inverse = -SCALE_REACH as f32 / outermost;
    let codes = map(scales, |s| {
        // As in ggml the number is converted to a byte before it is clamped.
        let wrapped = i32::from(nearest_int(inverse * s) as i8);
        (wrapped.clamp(-SCALE_REACH, SCALE_REACH - 1) + SCALE_REACH) as u8
    });
    (1.0 / inverse, codes)
}

/// Low two bits and third bit of codes from 0 to 7.
#[inline(always)]
pub(crate) fn pack_three_bits(codes: &[u8; 256]) -> ([u8; 64], [u8; 32]) {
    let mut high_bits = [0; 32];
    for (k, codes) in codes.chunks_exact(32).enumerate() {
        for (byte, code) in high_bits.iter_mut().zip(codes) {
            *byte |= code >> 2 << k;
        }
    }
    (pack_two_bits(&map(codes, |code| code & 3)), high_bits)
}

/// The inverse of [`pack_three_bits`].
#[inline(always)]
pub(crate) fn unpack_three_bits(quants: &[u8; 64], high_bits: &[u8; 32]) -> [u8; 256] {
    let mut codes = unpack_two_bits(quants);
    for (k, codes) in codes.chunks_exact_mut(32).enumerate() {
        for (code, byte) in codes.iter_mut().zip(high_bits) {
            *code |= (byte >> k & 1) << 2;
        }
    }
    codes
}

/// Sixteen scales of 6 bits in 12 bytes.
///
/// Bytes 0..8 are the low four bits of groups 0..8 and, above them, of 8..16; byte `8 + i` holds
/// the upper two bits of the groups `i`, `i + 4`, `i + 8`, `i + 12`, the first lowest.
#[inline(always)]
pub(crate) fn pack_scales(scales: &[u8; GROUPS]) -> [u8; 12] {
    let mut packed = [0; 12];
    for i in 0..8 {
        packed[i] = scales[i] & 0x0f | scales[i + 8] << 4;
    }
    for (group, scale) in scales.iter().enumerate() {
        packed[8 + group % 4] |= scale >> 4 << (2 * (group / 4));
    }
    packed
}

/// The inverse of [`pack_scales`].
#[inline(always)]
pub(crate) fn unpack_scales(packed: &[u8; 12]) -> [u8; GROUPS] {
    each(|group| {
        let low = packed[group % 8] >> (group / 8 * 4) & 0x0f;
        low | (packed[8 + group % 4] >> (2 * (group / 4)) & 3) << 4
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_bits_survive_packing() {
        let codes: [u8; 256] = std::array::from_fn(|i| (i * 37 / 5 % 8) as u8);
        let (quants, high_bits) = pack_three_bits(&codes);
        assert_eq!(unpack_three_bits(&quants, &high_bits), codes);
    }

    #[test]
    fn scales_survive_packing() {
        let scales: [u8; GROUPS] = std::array::from_fn(|i| (i * 29 % 64) as u8);
        assert_eq!(unpack_scales(&pack_scales(&scales)), scales);
        assert_eq!(unpack_scales(&pack_scales(&[63; GROUPS])), [63; GROUPS]);
    }
}
