//! Q6_K: 256 weights in 16 groups of 16, 6 bits each, 8-bit scales; 6.5625 bits per weight.
//!
//! ```text
//! w' = d s_g (q - 32)        g: group, q in 0..=63, s in -128..=127
//! ```
//!
//! A group's scale is searched for: 19 steps around `-m / 32`, `m` the weight farthest from zero,
//! are tried. Each gives signed codes `q`, and for these codes the scale with the smallest
//! `sum w² (a q - w)²` is `a = Σ w³ q / Σ w² q²`, which leaves an error that falls as
//! `(Σ w³ q)² / Σ w² q²` grows. The scales are rounded to 8 bits against the outermost of the
//! block, and the codes are computed anew with what was stored.
//!
//! Layout: `block_q6_K` in ggml's
//! [`ggml-common.h`](https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).
//! Each half of the block has 128 weights in four quarters of 32: weight `i` of the quarters 0 and
//! 2 share byte `i` of `low_bits`, those of 1 and 3 byte `i + 32`, and the upper two bits of all
//! four lie in byte `i` of `high_bits`, quarter 0 lowest.

use bytemuck::{Pod, Zeroable};

use super::each::{each, map};
use super::half::Half;
use super::lanes::{Lanes, transpose};
use super::rounding::nearest_int;
use super::{Block, assert_block_size};
use crate::TensorType;

const GROUPS: usize = 16;
const GROUP_LEN: usize = 16;
const LOWEST: i32 = -32;
const HIGHEST: i32 = 31;
/// A group (or block) whose largest magnitude is below this counts as zero.
const NEGLIGIBLE: f32 = 1e-15;

/// 256 weights in 210 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct BlockQ6K {
    low_bits: [u8; 128],
    high_bits: [u8; 64],
    scales: [i8; GROUPS],
    scale: Half,
}

assert_block_size!(BlockQ6K, TensorType::Q6_K);

impl Block for BlockQ6K {
    const TYPE: TensorType = TensorType::Q6_K;
    type Weights = [f32; 256];

    #[inline(always)]
    fn quantize(x: &[f32; 256]) -> Self {
        let fits = Fit::search(&transpose(x));
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
        let codes = block.codes(x, &fits);
        block.pack(&codes);
        block
    }

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let steps = self.steps();
        let codes = self.unpack();
        for (group, out) in out.chunks_exact_mut(GROUP_LEN).enumerate() {
            for (w, &q) in out.iter_mut().zip(&codes[group * GROUP_LEN..]) {
                *w = steps[group] * (i32::from(q) + LOWEST) as f32;
            }
        }
    }

    #[inline(always)]
    fn is_finite(&self) -> bool {
        self.scale.is_finite()
    }
}

impl BlockQ6K {
    /// The scale of each group, as it is stored.
    #[inline(always)]
    fn steps(&self) -> [f32; GROUPS] {
        let scale = self.scale.get();
        map(&self.scales, |s| scale * f32::from(s))
    }

    /// The codes of all groups, for the stored scales. A group whose scale was rounded to zero
    /// keeps those of the search, as it does in ggml.
    #[inline(always)]
    fn codes(&self, x: &[f32; 256], fits: &Fit) -> [u8; 256] {
        let steps = self.steps();
        let mut codes = [0; 256];
        for (group, codes) in codes.chunks_exact_mut(GROUP_LEN).enumerate() {
            let weights = &x[group * GROUP_LEN..][..GROUP_LEN];
            let step = steps[group];
            if step == 0.0 {
                fits.searched_codes(group, weights, codes);
                continue;
            }
            for (code, &w) in codes.iter_mut().zip(weights) {
                *code = shifted_code(w / step);
            }
        }
        codes
    }

    #[inline(always)]
    fn pack(&mut self, codes: &[u8; 256]) {
        for half in 0..2 {
            let quarter = |k: usize, i: usize| codes[half * 128 + k * 32 + i];
            for i in 0..32 {
                let q: [u8; 4] = each(|k| quarter(k, i));
                self.low_bits[half * 64 + i] = q[0] & 0x0f | q[2] << 4;
                self.low_bits[half * 64 + 32 + i] = q[1] & 0x0f | q[3] << 4;
                self.high_bits[half * 32 + i] =
                    q[0] >> 4 | q[1] >> 4 << 2 | q[2] >> 4 << 4 | q[3] >> 4 << 6;
            }
        }
    }

    /// The inverse of [`BlockQ6K::pack`].
    #[inline(always)]
    fn unpack(&self) -> [u8; 256] {
        let mut codes = [0; 256];
        for half in 0..2 {
            for i in 0..32 {
                let low = [self.low_bits[half * 64 + i], self.low_bits[half * 64 + 32 + i]];
                let high = self.high_bits[half * 32 + i];
                for k in 0..4 {
                    let nibble = low[k % 2] >> (k / 2 * 4) & 0x0f;
                    codes[half * 128 + k * 32 + i] = nibble | (high >> (2 * k) & 3) << 4;
                }
            }
        }
        codes
    }
}

/// The best scale of each group, and the step that made the codes it fits.
struct Fit {
    /// `a`, 0 in a negligible group.
    scale: [f32; GROUPS],
    /// Codes are `w * code_step`, rounded.
    code_step: [f32; GROUPS],
}

impl Fit {
    /// `make_qx_quants` with weights `w²` in ggml's `ggml-quants.c`, all groups side by side.
    #[inline(always)]
    fn search(x: &[Lanes<GROUPS>; GROUP_LEN]) -> Self {
        let zero = Lanes::splat(0.0);
        let mut magnitude = zero;
        let mut outermost = zero;
        for &w in x {
            let farther = magnitude.less_than(w.abs());
            magnitude = farther.select(w.abs(), magnitude);
            outermost = farther.select(w, outermost);
        }
        let negligible = magnitude.less_than(Lanes::splat(NEGLIGIBLE));

        let mut code_step = Lanes::splat(-32.0) / outermost;
        let (sum_xq, sum_q2) = correlate(x, code_step);
        let mut scale = sum_q2.equals(zero).select(zero, sum_xq / sum_q2);
        let mut best = scale * sum_xq;
        for attempt in (-9..=9).filter(|&attempt| attempt != 0) {
            let step = Lanes::splat(-(32.0 + 0.1 * attempt as f32)) / outermost;
            let (sum_xq, sum_q2) = correlate(x, step);
            let better = zero.less_than(sum_q2).and((best * sum_q2).less_than(sum_xq * sum_xq));
            let new_scale = sum_xq / sum_q2;
            scale = better.select(new_scale, scale);
            best = better.select(new_scale * sum_xq, best);
            code_step = better.select(step, code_step);
        }
        Fit {
            scale: negligible.select(zero, scale).0,
            code_step: negligible.select(zero, code_step).0,
        }
    }

    /// The codes that the search ended with; zeros, not the code of zero, in a negligible group.
    fn searched_codes(&self, group: usize, weights: &[f32], codes: &mut [u8]) {
        let step = self.code_step[group];
        if step == 0.0 {
            return;
        }
        for (code, &w) in codes.iter_mut().zip(weights) {
            *code = shifted_code(step * w);
        }
    }
}

/// `Σ w³ q` and `Σ w² q²` for the codes that `step` gives.
#[inline(always)]
fn correlate(
    x: &[Lanes<GROUPS>; GROUP_LEN],
    step: Lanes<GROUPS>,
) -> (Lanes<GROUPS>, Lanes<GROUPS>) {
    let mut sum_xq = Lanes::splat(0.0);
    let mut sum_q2 = Lanes::splat(0.0);
    for &w in x {
        let q = (step * w).round_within(LOWEST, HIGHEST);
        let square = w * w;
        sum_xq = sum_xq + square * w * q;
        sum_q2 = sum_q2 + square * q * q;
    }
    (sum_xq, sum_q2)
}

/// The first of the scales that are farthest from zero.
#[inline(always)]
fn outermost_scale(scales: [f32; GROUPS]) -> f32 {
    scales.into_iter().fold(0.0, |most: f32, s| if s.abs() > most.abs() { s } else { most })
}

/// A code from 0 to 63.
#[inline(always)]
fn shifted_code(x: f32) -> u8 {
    (nearest_int(x).clamp(LOWEST, HIGHEST) - LOWEST) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_packing() {
        let codes: [u8; 256] = std::array::from_fn(|i| (i * 37 % 64) as u8);
        let mut block = BlockQ6K::zeroed();
        block.pack(&codes);
        assert_eq!(block.unpack(), codes);
    }
}
