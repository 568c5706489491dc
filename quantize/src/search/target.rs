//! What a matrix and its bias are to become, so that outputs stay those of the model as it was.
//!
//! The blocks before a matrix are quantized already, and its inputs `x` are not what they were,
//! `x₀`. Of all matrices, the one whose outputs for `x` are nearest to `W x₀` is
//!
//! ```text
//! W* = W + W A H⁻¹       A = mean (x₀ - x) xᵀ,  H = mean x xᵀ
//! ```
//!
//! and that is what is rounded: Li et al., "GPTAQ" (2025). A bias keeps the mean of the outputs,
//! and then moments are about the means:
//!
//! ```text
//! b' = b + W (μ + δ) - W' μ      μ = mean x,  δ = mean (x₀ - x),  W': what is stored
//! ```

use anyhow::{Result, anyhow};
use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, MatMut, MatRef, Par, Side};

use super::factor::DAMPING;
use super::moments::Moments;

/// `W*`, `[R, N]`; `W` itself where nothing has drifted.
///
/// # Errors
/// When the moments are no finite numbers.
pub(super) fn target(weights: &[f32], moments: &Moments, centered: bool) -> Result<Vec<f32>> {
    let mut target = weights.to_vec();
    let Some(drift) = moments.drift(centered) else { return Ok(target) };
    let mut h = moments.matrix(centered);
    let n = h.nrows();
    let mean = (0..n).map(|i| h[(i, i)]).sum::<f64>() / n as f64;
    if mean <= 0.0 {
        return Ok(target);
    }
    (0..n).for_each(|i| h[(i, i)] += DAMPING * mean);
    let cholesky = h
        .llt(Side::Lower)
        .map_err(|_| anyhow!("the inputs seen in calibration are no finite numbers"))?;
    // (A H⁻¹)ᵀ = H⁻¹ Aᵀ, since H is symmetric.
    let correction = cholesky.solve(drift.transpose());
    let correction = Mat::<f32>::from_fn(n, n, |i, j| correction[(j, i)] as f32);
    let rows = weights.len() / n;
    matmul(
        MatMut::from_row_major_slice_mut(&mut target, rows, n),
        Accum::Add,
        MatRef::from_row_major_slice(weights, rows, n),
        correction.as_ref(),
        1.0,
        Par::rayon(0),
    );
    Ok(target)
}

/// `b'`, `[R]`: the bias with which the stored weights, `[R, N]`, keep the mean of the outputs.
pub(super) fn corrected_bias(
    bias: &[f32],
    weights: &[f32],
    stored: &[f32],
    moments: &Moments,
) -> Vec<f32> {
    let (mean, drift) = (moments.mean(), moments.mean_drift());
    let n = mean.len();
    let rows = weights.chunks_exact(n).zip(stored.chunks_exact(n));
    bias.iter()
        .zip(rows)
        .map(|(&bias, (weights, stored))| {
            let shift: f64 = (0..n)
                .map(|j| {
                    let (was, is) = (f64::from(weights[j]), f64::from(stored[j]));
                    was * (mean[j] + drift[j]) - is * mean[j]
                })
                .sum();
            (f64::from(bias) + shift) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn product(w: &[f32], x: &[f32], n: usize) -> Vec<f32> {
        let dot = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum();
        x.chunks(n).flat_map(|x| w.chunks(n).map(move |w| dot(w, x))).collect()
    }

    fn distance(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
    }

    /// Inputs that have lost a fixed share in some directions: the target makes up for it.
    #[test]
    fn the_target_undoes_a_drift_that_a_matrix_can_undo() {
        let (n, t) = (8, 400);
        let original = numbers(n * t, 1);
        let x: Vec<f32> = original
            .iter()
            .enumerate()
            .map(|(i, &x)| if i % n < 3 { 0.8 * x } else { x })
            .collect();
        let weights = numbers(5 * n, 2);
        let mut moments = Moments::new(n);
        moments.add(&x);
        assert_eq!(target(&weights, &moments, false).unwrap(), weights);
        moments.add_drift(&original, &x);
        let wanted = product(&weights, &original, n);
        let before = distance(&product(&weights, &x, n), &wanted);
        let after = distance(&product(&target(&weights, &moments, false).unwrap(), &x, n), &wanted);
        assert!(after < 0.01 * before, "{before} -> {after}");
    }

    #[test]
    fn the_bias_keeps_the_mean_of_the_outputs() {
        let (n, t, rows) = (4, 50, 3);
        let original: Vec<f32> = numbers(n * t, 3).iter().map(|x| x + 0.5).collect();
        let x: Vec<f32> = original.iter().map(|x| 0.9 * x - 0.1).collect();
        let (weights, stored) = (numbers(rows * n, 4), numbers(rows * n, 5));
        let bias = [0.25, -1.0, 0.0];
        let mut moments = Moments::new(n);
        moments.add(&x);
        moments.add_drift(&original, &x);
        let corrected = corrected_bias(&bias, &weights, &stored, &moments);
        let mean = |w: &[f32], x: &[f32], bias: &[f32]| -> Vec<f32> {
            let y = product(w, x, n);
            (0..rows)
                .map(|r| bias[r] + y.iter().skip(r).step_by(rows).sum::<f32>() / t as f32)
                .collect()
        };
        let (wanted, found) = (mean(&weights, &original, &bias), mean(&stored, &x, &corrected));
        assert!(distance(&wanted, &found) < 1e-8, "{wanted:?} {found:?}");
    }
}
