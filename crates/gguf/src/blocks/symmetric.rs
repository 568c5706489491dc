//! The search for the scale of a group whose codes are centred on zero: Q3_K, Q6_K, and with
//! importance Q4_0 and Q5_0.
//!
//! 19 steps around `-m / r` are tried, where `m` is the weight farthest from zero and codes are
//! from `-r` to `r - 1`. Each gives codes `q`, and for these codes the scale with the smallest
//! `Σ p (a q - w)²` is `a = Σ p w q / Σ p q²`; the larger `(Σ p w q)² / Σ p q²`, the smaller is the
//! remaining error.

use super::lanes::{Lanes, Mask};
use super::rounding::nearest_int;

/// A group whose largest magnitude is below this counts as zero.
pub(super) const NEGLIGIBLE: f32 = 1e-15;

/// The best scale of each of `N` groups, and the step with which the codes for it were computed.
#[derive(Clone, Copy)]
pub(super) struct Fits<const N: usize> {
    /// `a`, 0 in a negligible group.
    pub(super) scale: [f32; N],
    /// Codes are `w * code_step`, rounded.
    code_step: [f32; N],
    negligible: Mask<N>,
}

impl<const N: usize> Fits<N> {
    pub(super) const EMPTY: Self =
        Fits { scale: [0.0; N], code_step: [0.0; N], negligible: Mask::NONE };

    /// `make_qx_quants` in ggml's `ggml-quants.c`, for all groups in parallel.
    #[inline(always)]
    pub(super) fn search<const LEN: usize>(
        x: &[Lanes<N>; LEN],
        p: &[Lanes<N>; LEN],
        reach: i32,
    ) -> Self {
        let zero = Lanes::splat(0.0);
        let (magnitude, outermost) = outermost(x);
        let negligible = magnitude.less_than(Lanes::splat(NEGLIGIBLE));

        let mut code_step = Lanes::splat(-reach as f32) / outermost;
        let (sum_pwq, sum_pq2) = correlate(x, p, code_step, reach);
        let mut scale = sum_pq2.equals(zero).select(zero, sum_pwq / sum_pq2);
        let mut best = scale * sum_pwq;
        for attempt in (-9..=9).filter(|&attempt| attempt != 0) {
            let step = Lanes::splat(-(reach as f32 + 0.1 * attempt as f32)) / outermost;
            let (sum_pwq, sum_pq2) = correlate(x, p, step, reach);
            let better = zero.less_than(sum_pq2).and((best * sum_pq2).less_than(sum_pwq * sum_pwq));
            let new_scale = sum_pwq / sum_pq2;
            scale = better.select(new_scale, scale);
            best = better.select(new_scale * sum_pwq, best);
            code_step = better.select(step, code_step);
        }
        Fits {
            scale: negligible.select(zero, scale).0,
            code_step: negligible.select(zero, code_step).0,
            negligible,
        }
    }

    /// The codes at the end of the search, counted from 0. In a negligible group all codes are 0,
    /// which is not the code of zero.
    #[inline(always)]
    pub(super) fn searched_codes(&self, group: usize, x: &[f32], reach: i32, codes: &mut [u8]) {
        if self.negligible.lane(group) {
            codes.fill(0);
            return;
        }
        let step = self.code_step[group];
        for (q, &w) in codes.iter_mut().zip(x) {
            *q = code(step * w, reach);
        }
    }
}

/// A code from 0 to `2 reach - 1`.
#[inline(always)]
pub(super) fn code(x: f32, reach: i32) -> u8 {
    (nearest_int(x).clamp(-reach, reach - 1) + reach) as u8
}

/// The largest magnitude, and the weight that has it; the first one of several.
#[inline(always)]
pub(super) fn outermost<const N: usize, const LEN: usize>(
    x: &[Lanes<N>; LEN],
) -> (Lanes<N>, Lanes<N>) {
    let mut magnitude = Lanes::splat(0.0);
    let mut outermost = magnitude;
    for &w in x {
        let farther = magnitude.less_than(w.abs());
        magnitude = farther.select(w.abs(), magnitude);
        outermost = farther.select(w, outermost);
    }
    (magnitude, outermost)
}

/// `Σ p w q` and `Σ p q²` for the codes that `step` gives.
#[inline(always)]
fn correlate<const N: usize, const LEN: usize>(
    x: &[Lanes<N>; LEN],
    p: &[Lanes<N>; LEN],
    step: Lanes<N>,
    reach: i32,
) -> (Lanes<N>, Lanes<N>) {
    let mut sum_pwq = Lanes::splat(0.0);
    let mut sum_pq2 = Lanes::splat(0.0);
    for (&w, &p) in x.iter().zip(p) {
        let q = (step * w).round_within(-reach, reach - 1);
        sum_pwq = sum_pwq + p * w * q;
        sum_pq2 = sum_pq2 + p * q * q;
    }
    (sum_pwq, sum_pq2)
}

/// `w²`, the cost of an error without importance.
#[inline(always)]
pub(super) fn squares<const N: usize, const LEN: usize>(x: &[Lanes<N>; LEN]) -> [Lanes<N>; LEN] {
    let mut squares = *x;
    for w in &mut squares {
        *w = *w * *w;
    }
    squares
}
