//! The search for the scale of a block's own scales and minima, which are not negative: Q2_K, Q4_K
//! and Q5_K with importance.
//!
//! Nine steps around `max / highest` are tried for the smallest `Σ p (x - a q)²`; then single codes
//! `q` are changed as long as `(Σ p x q)² / Σ p q²` increases, in at most five passes.

use super::lanes::{Lanes, Mask};
use super::symmetric::NEGLIGIBLE;

/// The scale of each of `N` blocks, and the codes of its `LEN` numbers.
///
/// `make_qp_quants` in ggml's `ggml-quants.c`, for all blocks in parallel. Codes are unsigned
/// bytes: a negative number wraps around, and later steps compute with the wrapped number.
#[inline(always)]
pub(super) fn search<const N: usize, const LEN: usize>(
    x: &[Lanes<N>; LEN],
    p: &[Lanes<N>; LEN],
    highest: i32,
) -> ([f32; N], [[u8; LEN]; N]) {
    let zero = Lanes::splat(0.0);
    let mut max = zero;
    for &x in x {
        max = x.less_than(max).select(max, x);
    }
    let negligible = max.less_than(Lanes::splat(NEGLIGIBLE));
    let mut step = Lanes::splat(highest as f32) / max;
    let mut scale = Lanes::splat(1.0) / step;
    let mut least_error = zero;
    for (&x, &p) in x.iter().zip(p) {
        let q = (step * x).round_within(i32::MIN, i32::MAX).wrap_to_byte();
        let difference = x - scale * q;
        least_error = least_error + p * difference * difference;
    }
    for attempt in (-4..=4).filter(|&attempt| attempt != 0) {
        let new_step = Lanes::splat(0.1 * attempt as f32 + highest as f32) / max;
        scale = Lanes::splat(1.0) / new_step;
        let mut error = zero;
        for (&x, &p) in x.iter().zip(p) {
            let q = (new_step * x).round_within(i32::MIN, highest);
            let difference = x - scale * q;
            error = error + p * difference * difference;
        }
        let better = error.less_than(least_error);
        least_error = better.select(error, least_error);
        step = better.select(new_step, step);
    }

    let mut codes = [zero; LEN];
    let (mut sum_pxq, mut sum_pq2) = (zero, zero);
    for ((&x, &p), code) in x.iter().zip(p).zip(&mut codes) {
        let q = (step * x).round_within(i32::MIN, highest);
        *code = q.wrap_to_byte();
        sum_pxq = sum_pxq + p * x * q;
        sum_pq2 = sum_pq2 + p * q * q;
    }
    for _ in 0..5 {
        let mut any_changed = Mask::NONE;
        for ((&x, &p), code) in x.iter().zip(p).zip(&mut codes) {
            let old = *code;
            let rest_pxq = sum_pxq - p * x * old;
            let rest_pq2 = sum_pq2 - p * old * old;
            let q = (x * rest_pq2 / rest_pxq).round_within(i32::MIN, highest);
            let new_pxq = rest_pxq + p * x * q;
            let new_pq2 = rest_pq2 + p * q * q;
            let better = (sum_pxq * sum_pxq * new_pq2).less_than(new_pxq * new_pxq * sum_pq2);
            let possible = zero.less_than(rest_pxq).and(zero.less_than(rest_pq2));
            let changed = possible.and(q.equals(old).not()).and(better);
            *code = changed.select(q.wrap_to_byte(), old);
            sum_pxq = changed.select(new_pxq, sum_pxq);
            sum_pq2 = changed.select(new_pq2, sum_pq2);
            any_changed = any_changed.or(changed);
        }
        if !any_changed.any() {
            break;
        }
    }
    let scale = zero.less_than(sum_pq2).select(sum_pxq / sum_pq2, zero);
    let scale = negligible.select(zero, scale).0;
    let mut bytes = [[0; LEN]; N];
    for (block, bytes) in bytes.iter_mut().enumerate() {
        if !negligible.lane(block) {
            for (byte, code) in bytes.iter_mut().zip(&codes) {
                *byte = code.0[block] as u8;
            }
        }
    }
    (scale, bytes)
}
