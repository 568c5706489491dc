//! The target of a matrix and its bias, so that the outputs stay those of the original model.
//!
//! The blocks before a matrix are quantized already, and its inputs `x` differ from the original
//! ones. Of all matrices, the one whose outputs for `x` are nearest to `W x + d` is
//!
//! ```text
//! W* = W + A H⁻¹       A = mean d xᵀ,  H = mean x xᵀ
//! ```
//!
//! and that is the matrix to round. For a matrix within a block, `d = W (x₀ - x)`, `x₀` the input
//! in the original model: Li et al., "GPTAQ" (2025). A matrix that adds to the residual stream `h`
//! can do more: with `d = h₀ - h`, the stream after it is restored to the original, whatever the
//! cause of the difference.
//!
//! `H` and `A` are estimated from a few thousand tokens, and a regression with as many unknowns as
//! columns fits their noise: with little damping `W*` was twice as far off as `W` on other text, in
//! every block. A damping as large as each column's inputs ([`RIDGE`]) was best on held-out text.
//!
//! A bias keeps the mean of the outputs. Moments are then about the means:
//!
//! ```text
//! b' = b + W μ + δ - W' μ      μ = mean x,  δ = mean d,  W': what is stored
//! ```

use anyhow::{Result, anyhow};
use reference::matmul::{Rows, linear};

use super::dense::Cholesky;
use super::factor::damp;
use super::moments::{Drift, Moments};

/// Added to the diagonal of `H`, as a share of each of its elements.
const RIDGE: f64 = 1.0;

/// `W*`, `[R, N]`; `W` itself without drift.
///
/// # Errors
/// When the moments are not finite numbers.
pub(super) fn target(weights: &[f32], moments: &Moments, centered: bool) -> Result<Vec<f32>> {
    let mut target = weights.to_vec();
    let Some(drift) = moments.drift(centered) else { return Ok(target) };
    let mut h = moments.matrix(centered);
    damp(&mut h, RIDGE);
    let (m, n) = (drift.rows, h.rows);
    let cholesky = Cholesky::new(h)
        .ok_or_else(|| anyhow!("the inputs seen in calibration are no finite numbers"))?;
    // The rows of A H⁻¹ are those of A, each times H⁻¹, since H is symmetric.
    let mut correction = drift;
    cholesky.solve_rows(&mut correction);
    let correction = match moments.drift_of() {
        Drift::OfInputs => {
            let columns = (0..n).flat_map(|j| (0..m).map(move |i| (i, j)));
            let columns: Vec<f32> = columns.map(|at| correction[at] as f32).collect();
            linear(Rows::new(weights, n), Rows::new(&columns, m), None)
        }
        Drift::OfOutputs => correction.data.iter().map(|&x| x as f32).collect(),
    };
    target.iter_mut().zip(&correction).for_each(|(w, c)| *w += c);
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
    let dot =
        |row: &[f32], x: &[f64]| -> f64 { row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum() };
    let rows = weights.chunks_exact(n).zip(stored.chunks_exact(n)).zip(bias);
    rows.enumerate()
        .map(|(row, ((weights, stored), &bias))| {
            let lacking = match moments.drift_of() {
                Drift::OfInputs => dot(weights, &drift),
                Drift::OfOutputs => drift.get(row).copied().unwrap_or(0.0),
            };
            (f64::from(bias) + dot(weights, &mean) + lacking - dot(stored, &mean)) as f32
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

    /// Inputs that have lost a fixed share in some directions: the target compensates it as far as
    /// the ridge allows.
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
        let mut moments = Moments::new(n, Drift::OfInputs);
        moments.add(&x, &vec![1.0; t]);
        assert_eq!(target(&weights, &moments, false).unwrap(), weights);
        let drift: Vec<f32> = original.iter().zip(&x).map(|(o, x)| o - x).collect();
        moments.add_drift(&drift, &x, &vec![1.0; t]);
        let wanted = product(&weights, &original, n);
        let before = distance(&product(&weights, &x, n), &wanted);
        let after = distance(&product(&target(&weights, &moments, false).unwrap(), &x, n), &wanted);
        assert!(after < 0.3 * before, "{before} -> {after}");
    }

    #[test]
    fn the_bias_keeps_the_mean_of_the_outputs() {
        let (n, t, rows) = (4, 50, 3);
        let original: Vec<f32> = numbers(n * t, 3).iter().map(|x| x + 0.5).collect();
        let x: Vec<f32> = original.iter().map(|x| 0.9 * x - 0.1).collect();
        let (weights, stored) = (numbers(rows * n, 4), numbers(rows * n, 5));
        let bias = [0.25, -1.0, 0.0];
        let mut moments = Moments::new(n, Drift::OfInputs);
        moments.add(&x, &[1.0; 50]);
        let drift: Vec<f32> = original.iter().zip(&x).map(|(o, x)| o - x).collect();
        moments.add_drift(&drift, &x, &[1.0; 50]);
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
