//! IQ4_NL and IQ4_XS: 4-bit codes for 16 unevenly spaced levels `v`, closer together near zero; 4.5
//! and 4.25 bits per weight.
//!
//! ```text
//! IQ4_NL:  w' = d v[q]                 32 weights, one scale
//! IQ4_XS:  w' = d (s_g - 32) v[q]      256 weights in 8 groups g of 32, s in 0..=63
//! ```
//!
//! The scale of a group is found by a search: the inverse step `-v[0] / m` and 15 around
//! `v[0] / m` are tried, where `m` is the weight farthest from zero. Each gives the nearest levels
//! `v`, and for these the scale with the smallest `Σ p (a v - w)²` is `a = Σ p w v / Σ p v²`; the
//! larger `(Σ p w v)² / Σ p v²`, the smaller is the remaining error. The cost `p` is `w²`, or with
//! importance that of `weighted.rs` with twice the mean square of the block. IQ4_XS rounds the
//! scales to 6 bits, relative to the scale of the block that is farthest from zero. Then the codes
//! are computed again, with the scale before it was rounded to F16.
//!
//! Layout: `block_iq4_nl`, `block_iq4_xs` in ggml's
//! [`ggml-common.h`](https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).
//! The codes of 32 weights are stored as in Q4_0.

use bytemuck::{Pod, Zeroable};

use super::each::{each, map};
use super::half::Half;
use super::lanes::{Lanes, sum, transpose};
use super::q4::{pack_nibbles, unpack_nibbles};
use super::rounding::{inverse_or_zero, nearest_int};
use super::super_blocks::{BATCH, Batch, LANES, pair};
use super::symmetric::{NEGLIGIBLE, outermost, squares};
use super::weighted::{Rows, costs};
use super::{Block, assert_block_size};
use crate::TensorType;

/// The levels, `kvalues_iq4nl` in `ggml-common.h`.
pub(crate) const LEVELS: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const GROUPS: usize = 8;
const GROUP_LEN: usize = 32;
/// Scales of IQ4_XS are from -32 to 31.
const SCALE_REACH: i32 = 32;

/// 32 weights in 18 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockIQ4NL {
    pub(crate) scale: Half,
    pub(crate) quants: [u8; 16],
}

/// 256 weights in 136 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockIQ4XS {
    pub(crate) scale: Half,
    /// Upper two bits of the scales: see [`pack_scales`].
    pub(crate) scales_high: [u8; 2],
    /// Low four bits of the scales.
    pub(crate) scales_low: [u8; 4],
    pub(crate) quants: [[u8; 16]; GROUPS],
}

assert_block_size!(BlockIQ4NL, TensorType::IQ4_NL);
assert_block_size!(BlockIQ4XS, TensorType::IQ4_XS);

impl Block for BlockIQ4NL {
    const TYPE: TensorType = TensorType::IQ4_NL;
    type Weights = [f32; 32];

    #[inline(always)]
    fn quantize_all(x: &[[f32; 32]], out: &mut [Self]) {
        for (x, out) in x.chunks(LANES).zip(out.chunks_mut(LANES)) {
            let blocks: [[f32; 32]; LANES] = each_block(x);
            let groups = transpose::<LANES, 32>(blocks.as_flattened());
            let scales = search(&groups, &squares(&groups));
            for ((block, x), scale) in out.iter_mut().zip(x).zip(scales) {
                *block = BlockIQ4NL::new(x, scale);
            }
        }
    }

    #[inline(always)]
    fn quantize_weighted(rows: Rows<[f32; 32]>, out: &mut [Self]) {
        for (i, out) in out.chunks_mut(LANES).enumerate() {
            let (x, importance) = rows.side_by_side::<LANES>(i * LANES);
            let mean = sum(&squares(&x)) * Lanes::splat(2.0 / 32.0);
            let scales = search(&x, &costs(&x, &importance, mean));
            let x = &rows.x[i * LANES..];
            for ((block, x), scale) in out.iter_mut().zip(x).zip(scales) {
                *block = BlockIQ4NL::new(x, scale);
            }
        }
    }

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let scale = self.scale.get();
        *out = map(&unpack_nibbles(&self.quants), |q| scale * f32::from(LEVELS[usize::from(q)]));
    }

    #[inline(always)]
    fn is_finite(&self) -> bool {
        self.scale.is_finite()
    }
}

impl BlockIQ4NL {
    #[inline(always)]
    fn new(x: &[f32; 32], scale: f32) -> Self {
        BlockIQ4NL { scale: Half::new(scale), quants: quants(x, scale) }
    }
}

impl Block for BlockIQ4XS {
    const TYPE: TensorType = TensorType::IQ4_XS;
    type Weights = [f32; 256];

    /// Two blocks in parallel.
    #[inline(always)]
    fn quantize_all(x: &[[f32; 256]], out: &mut [Self]) {
        for (x, out) in x.chunks(2).zip(out.chunks_mut(2)) {
            let groups = pair(x);
            let scales = search(&groups, &squares(&groups));
            for (i, (block, x)) in out.iter_mut().zip(x).enumerate() {
                *block = BlockIQ4XS::new(x, each(|g| scales[i * GROUPS + g]));
            }
        }
    }

    #[inline(always)]
    fn quantize_weighted(rows: Rows<[f32; 256]>, out: &mut [Self]) {
        for (i, out) in out.chunks_mut(BATCH).enumerate() {
            let batch = Batch::new(&rows, i * BATCH, |sum| sum * (2.0 / 256.0));
            for (j, out) in out.chunks_mut(2).enumerate() {
                let (x, costs) = batch.groups::<GROUP_LEN>(2 * j);
                let scales = search(&x, &costs);
                for (k, block) in out.iter_mut().enumerate() {
                    let scales = each(|g| scales[k * GROUPS + g]);
                    *block = BlockIQ4XS::new(batch.x[2 * j + k], scales);
                }
            }
        }
    }

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let steps = self.steps();
        for (group, out) in out.chunks_exact_mut(GROUP_LEN).enumerate() {
            let codes = unpack_nibbles(&self.quants[group]);
            for (w, q) in out.iter_mut().zip(codes) {
                *w = steps[group] * f32::from(LEVELS[usize::from(q)]);
            }
        }
    }

    #[inline(always)]
    fn is_finite(&self) -> bool {
        self.scale.is_finite()
    }
}

impl BlockIQ4XS {
    #[inline(always)]
    fn new(x: &[f32; 256], fitted: [f32; GROUPS]) -> Self {
        let outermost =
            fitted.iter().fold(0.0, |most: f32, s| if s.abs() > most.abs() { *s } else { most });
        let scale = -outermost / SCALE_REACH as f32;
        let inverse = inverse_or_zero(scale);
        let scales: [i32; GROUPS] =
            map(&fitted, |s| nearest_int(inverse * s).clamp(-SCALE_REACH, SCALE_REACH - 1));
        let (scales_high, scales_low) = pack_scales(&map(&scales, |s| (s + SCALE_REACH) as u8));
        let mut block = BlockIQ4XS {
            scale: Half::new(scale),
            scales_high,
            scales_low,
            quants: [[0; 16]; GROUPS],
        };
        let (groups, _) = x.as_chunks::<GROUP_LEN>();
        for ((quants_of_group, x), s) in block.quants.iter_mut().zip(groups).zip(scales) {
            *quants_of_group = quants(x, scale * s as f32);
        }
        block
    }

    /// The scale of each group, as it is stored.
    #[inline(always)]
    pub(crate) fn steps(&self) -> [f32; GROUPS] {
        let scale = self.scale.get();
        let scales = unpack_scales(&self.scales_high, &self.scales_low);
        map(&scales, |s| scale * (i32::from(s) - SCALE_REACH) as f32)
    }
}

/// `N` blocks; if there are fewer, the last one is repeated.
#[inline(always)]
fn each_block<const N: usize>(x: &[[f32; 32]]) -> [[f32; 32]; N] {
    std::array::from_fn(|i| x[i.min(x.len() - 1)])
}

/// The best scale of each group: the search of `quantize_row_iq4_nl_impl` in ggml's
/// `ggml-quants.c`, for all groups in parallel.
#[inline(always)]
fn search<const N: usize>(x: &[Lanes<N>; GROUP_LEN], p: &[Lanes<N>; GROUP_LEN]) -> [f32; N] {
    let zero = Lanes::splat(0.0);
    let lowest = f32::from(LEVELS[0]);
    let (magnitude, outermost) = outermost(x);
    let negligible = magnitude.less_than(Lanes::splat(NEGLIGIBLE));

    let first_step = Lanes::splat(1.0) / (-outermost / Lanes::splat(lowest));
    let (sum_pwv, sum_pv2) = correlate(x, p, first_step);
    let mut scale = zero.less_than(sum_pv2).select(sum_pwv / sum_pv2, zero);
    let mut best = scale * sum_pwv;
    for attempt in -7..=7 {
        let step = Lanes::splat(attempt as f32 + lowest) / outermost;
        let (sum_pwv, sum_pv2) = correlate(x, p, step);
        let better = zero.less_than(sum_pv2).and((best * sum_pv2).less_than(sum_pwv * sum_pwv));
        let new_scale = sum_pwv / sum_pv2;
        scale = better.select(new_scale, scale);
        best = better.select(new_scale * sum_pwv, best);
    }
    negligible.select(zero, scale).0
}

/// `Σ p w v` and `Σ p v²` for the levels `v` nearest to `w * step`.
#[inline(always)]
fn correlate<const N: usize>(
    x: &[Lanes<N>; GROUP_LEN],
    p: &[Lanes<N>; GROUP_LEN],
    step: Lanes<N>,
) -> (Lanes<N>, Lanes<N>) {
    let mut sum_pwv = Lanes::splat(0.0);
    let mut sum_pv2 = Lanes::splat(0.0);
    for (&w, &p) in x.iter().zip(p) {
        let v = Lanes(map(&(step * w).0, nearest_level));
        let pv = p * v;
        sum_pwv = sum_pwv + pv * w;
        sum_pv2 = sum_pv2 + pv * v;
    }
    (sum_pwv, sum_pv2)
}

/// The codes for a scale that is not rounded yet.
#[inline(always)]
fn quants(x: &[f32; 32], scale: f32) -> [u8; 16] {
    let inverse = inverse_or_zero(scale);
    pack_nibbles(&map(x, |w| nearest_code(inverse * w)))
}

/// The midpoints between neighbouring levels. They are exact, and so are the corresponding
/// comparisons in ggml.
const MIDPOINTS: [f32; 15] = {
    let mut midpoints = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        midpoints[i] = (LEVELS[i] as f32 + LEVELS[i + 1] as f32) / 2.0;
        i += 1;
    }
    midpoints
};

/// The code of the nearest level; the upper one of two that are equally near, and the last one for
/// NaN.
#[inline(always)]
pub(crate) fn nearest_code(x: f32) -> u8 {
    MIDPOINTS.iter().fold(15, |code, &midpoint| code - u8::from(x < midpoint))
}

/// The level of [`nearest_code`].
#[inline(always)]
fn nearest_level(x: f32) -> f32 {
    let mut level = f32::from(LEVELS[15]);
    for i in 0..15 {
        level -=
            if x < MIDPOINTS[i] { f32::from(LEVELS[i + 1]) - f32::from(LEVELS[i]) } else { 0.0 };
    }
    level
}

/// Eight scales of 6 bits: the upper two bits of all, then the low four.
#[inline(always)]
pub(crate) fn pack_scales(scales: &[u8; GROUPS]) -> ([u8; 2], [u8; 4]) {
    let low = each(|i| scales[2 * i] & 0x0f | scales[2 * i + 1] << 4);
    let high = scales.iter().rev().fold(0_u16, |bits, s| bits << 2 | u16::from(s >> 4));
    (high.to_le_bytes(), low)
}

/// The inverse of [`pack_scales`].
#[inline(always)]
pub(crate) fn unpack_scales(high: &[u8; 2], low: &[u8; 4]) -> [u8; GROUPS] {
    let high = u16::from_le_bytes(*high);
    each(|g| low[g / 2] >> (g % 2 * 4) & 0x0f | ((high >> (2 * g) & 3) as u8) << 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ggml's search, `best_index_int8`.
    fn by_bisection(x: f32) -> u8 {
        let level = |i: usize| f32::from(LEVELS[i]);
        if x <= level(0) {
            return 0;
        }
        if x >= level(15) {
            return 15;
        }
        let (mut low, mut high) = (0, 15);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if x < level(middle) { high = middle } else { low = middle }
        }
        (if x - level(high - 1) < level(high) - x { high - 1 } else { high }) as u8
    }

    #[test]
    fn the_nearest_level_is_that_of_the_bisection() {
        let around = |x: f32| [x.next_down().next_down(), x.next_down(), x, x.next_up()];
        let mut numbers: Vec<f32> = (-3000..3000).map(|i| i as f32 * 0.043).collect();
        numbers.extend(MIDPOINTS.into_iter().flat_map(around));
        numbers.extend(LEVELS.into_iter().flat_map(|level| around(f32::from(level))));
        numbers.extend([0.0, -0.0, 1e-40, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e30]);
        for x in numbers {
            let code = nearest_code(x);
            assert_eq!(code, by_bisection(x), "{x}");
            assert_eq!(nearest_level(x), f32::from(LEVELS[usize::from(code)]), "{x}");
        }
    }

    #[test]
    fn scales_survive_packing() {
        let scales = [0, 63, 17, 32, 31, 48, 5, 62];
        let (high, low) = pack_scales(&scales);
        assert_eq!(unpack_scales(&high, &low), scales);
    }
}
