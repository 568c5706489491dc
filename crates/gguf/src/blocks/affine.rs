//! The search for the scale and the minimum of a group: Q2_K, Q4_K, Q5_K, and with importance
//! Q4_1 and Q5_1.
//!
//! Step sizes a little smaller and larger than `(max - min) / max_code` are tried. Each gives codes
//! `q`. With the cost `p` of an error of each weight, the scale `a` and the offset `b <= 0` with
//! the smallest `Σ p (a q + b - w)²` for these codes are:
//!
//! ```text
//! D = Σp Σpq² - (Σpq)²     a = (Σp Σpqw - Σpw Σpq) / D     b = (Σpq² Σpw - Σpq Σpqw) / D
//! ```
//!
//! (`b` is 0 and `a = Σpqw / Σpq²` where `b` would be positive.) The group gets the best of all.
//! Codes of the next step are counted from the offset of the best step so far.

use super::each::each;
use super::lanes::Lanes;
use super::rounding::nearest_int;

/// Which step sizes are tried: `(max - min) / (max_code + first + increment i)` for `i` from 0 to
/// `last`.
#[derive(Clone, Copy)]
pub(super) struct Search {
    /// The largest code; the smallest is 0.
    pub(super) max_code: i32,
    pub(super) first: f32,
    pub(super) increment: f32,
    pub(super) last: i32,
    /// Whether the error is measured by its magnitude instead of its square.
    pub(super) by_magnitude: bool,
    /// Whether codes are clamped before they are rounded, as in `make_qkx3_quants` of ggml's
    /// `ggml-quants.c`. `make_qkx2_quants` rounds first. The two differ for numbers beyond 2^22,
    /// which occur if the offset is close to the maximum.
    pub(super) clamp_first: bool,
}

impl Search {
    /// With importance, in all formats.
    pub(super) const fn weighted(max_code: i32) -> Self {
        Search {
            max_code,
            first: -0.9,
            increment: 0.05,
            last: 36,
            by_magnitude: false,
            clamp_first: true,
        }
    }

    #[inline(always)]
    fn step_divisor(&self, attempt: i32) -> f32 {
        self.first + self.increment * attempt as f32 + self.max_code as f32
    }

    #[inline(always)]
    fn round<const N: usize>(&self, x: Lanes<N>) -> Lanes<N> {
        match self.clamp_first {
            true => x.clamp_and_round(self.max_code),
            false => x.round_within(0, self.max_code),
        }
    }

    #[inline(always)]
    fn error<const N: usize>(&self, difference: Lanes<N>) -> Lanes<N> {
        if self.by_magnitude { difference.abs() } else { difference * difference }
    }
}

/// The best scale and minimum of each of `N` groups, and how the codes for them were computed.
#[derive(Clone, Copy)]
pub(super) struct Fits<const N: usize> {
    /// `a`, 0 in a group of equal weights.
    pub(super) scale: [f32; N],
    /// `-b`, never negative.
    pub(super) min: [f32; N],
    /// `Σp`.
    pub(super) cost: [f32; N],
    /// Codes are `(w - code_offset) * code_step`, rounded.
    code_step: [f32; N],
    code_offset: [f32; N],
}

impl<const N: usize> Fits<N> {
    pub(super) const EMPTY: Self = Fits {
        scale: [0.0; N],
        min: [0.0; N],
        cost: [0.0; N],
        code_step: [0.0; N],
        code_offset: [0.0; N],
    };

    /// `make_qkx2_quants` and `make_qkx3_quants` in ggml's `ggml-quants.c`, for all groups in
    /// parallel.
    #[inline(always)]
    pub(super) fn search<const LEN: usize>(
        x: &[Lanes<N>; LEN],
        p: &[Lanes<N>; LEN],
        search: Search,
    ) -> Self {
        let zero = Lanes::splat(0.0);
        let mut min = x[0];
        let mut max = x[0];
        let mut sum_p = p[0];
        let mut sum_pw = sum_p * x[0];
        for (&w, &p) in x.iter().zip(p).skip(1) {
            min = w.less_than(min).select(w, min);
            max = max.less_than(w).select(w, max);
            sum_p = sum_p + p;
            sum_pw = sum_pw + p * w;
        }
        min = zero.less_than(min).select(zero, min);
        let flat = max.equals(min);
        let lowest = min;

        let first_step = Lanes::splat(search.max_code as f32) / (max - min);
        let mut scale = Lanes::splat(1.0) / first_step;
        let mut least_error = zero;
        for (&w, &p) in x.iter().zip(p) {
            let q = (first_step * (w - min)).round_within(0, search.max_code);
            least_error = least_error + p * search.error(scale * q + min - w);
        }
        // With an infinite step all of these first codes are zero.
        let mut code_step =
            first_step.less_than(Lanes::splat(f32::INFINITY)).select(first_step, zero);
        let mut code_offset = min;

        let mut codes = [zero; LEN];
        for attempt in 0..=search.last {
            let step = Lanes::splat(search.step_divisor(attempt)) / (max - min);
            let (mut sum_pq, mut sum_pq2, mut sum_pqw) = (zero, zero, zero);
            for ((&w, &p), code) in x.iter().zip(p).zip(&mut codes) {
                let q = search.round(step * (w - min));
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
            for ((&w, &p), &q) in x.iter().zip(p).zip(&codes) {
                error = error + p * search.error(new_scale * q + new_min - w);
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
            cost: sum_p.0,
            code_step: flat.select(zero, code_step).0,
            code_offset: code_offset.0,
        }
    }

    /// The `GROUPS` groups from `first` on: those of one block.
    #[inline(always)]
    pub(super) fn of_block<const GROUPS: usize>(&self, first: usize) -> Fits<GROUPS> {
        Fits {
            scale: each(|g| self.scale[first + g]),
            min: each(|g| self.min[first + g]),
            cost: each(|g| self.cost[first + g]),
            code_step: each(|g| self.code_step[first + g]),
            code_offset: each(|g| self.code_offset[first + g]),
        }
    }

    /// The codes at the end of the search.
    #[inline(always)]
    pub(super) fn searched_codes(&self, group: usize, x: &[f32], search: Search, codes: &mut [u8]) {
        let (step, offset) = (self.code_step[group], self.code_offset[group]);
        if step == 0.0 {
            codes.fill(0);
            return;
        }
        for (code, &w) in codes.iter_mut().zip(x) {
            *code = search.round(Lanes([step * (w - offset)])).0[0] as u8;
        }
    }

    /// The codes of a block's groups for the stored pairs of scale and minimum. A group whose scale
    /// was rounded to zero keeps the codes of the search, as in ggml.
    #[inline(always)]
    pub(super) fn codes(
        &self,
        x: &[f32; 256],
        steps: &[(f32, f32); N],
        search: Search,
    ) -> [u8; 256] {
        let mut codes = [0; 256];
        let group_len = 256 / N;
        for (group, codes) in codes.chunks_exact_mut(group_len).enumerate() {
            let weights = &x[group * group_len..][..group_len];
            let (step, min) = steps[group];
            if step == 0.0 {
                self.searched_codes(group, weights, search, codes);
                continue;
            }
            for (code, &w) in codes.iter_mut().zip(weights) {
                *code = nearest_int((w + min) / step).clamp(0, search.max_code) as u8;
            }
        }
        codes
    }
}
