//! The statistics of a matrix's inputs from calibration: second moments, means, and the missing
//! part of its outputs.
//!
//! Tokens have different weights. In a trained model the first token of a window has inputs and a
//! residual stream up to a hundred times as large as all others (Sun et al., "Massive Activations
//! in Large Language Models", 2024), and would dominate a plain sum. The layer after a block
//! normalises the stream, so a token's error is weighted relative to its size ([`token_weights`]).

use rayon::prelude::*;
use reference::matmul::{Rows, add_product_to};

use super::dense::Dense;

/// Rows of a product of moments that one task computes.
const TASK_ROWS: usize = 48;

/// The known missing difference, `d`, `[M]` for each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drift {
    /// `x₀ - x`, `x₀` the input in the original model: `M = N`.
    OfInputs,
    /// The difference that the matrix would have to add to its outputs `W x`: `M = R`.
    OfOutputs,
}

/// Weighted sums over all calibration tokens, `x` an input `[N]` of one matrix in the current
/// model.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    width: usize,
    /// The meaning of `d`.
    drift_of: Drift,
    /// `Σ p`, `p` the weight of a token.
    total: f64,
    /// `Σ p x xᵀ`, `[N, N]`, row-major; only elements on or below the diagonal are maintained.
    squares: Vec<f32>,
    /// `Σ p x`
    sum: Vec<f64>,
    /// `Σ p d xᵀ`, `[M, N]`; empty while there is no drift.
    drift: Vec<f32>,
    /// `Σ p d`
    drift_sum: Vec<f64>,
}

impl Moments {
    /// Empty sums, without tokens; inputs are `width` wide.
    pub fn new(width: usize, drift_of: Drift) -> Self {
        Moments {
            width,
            drift_of,
            total: 0.0,
            squares: vec![0.0; width * width],
            sum: vec![0.0; width],
            drift: Vec::new(),
            drift_sum: Vec::new(),
        }
    }

    /// Adds the inputs `x`, `[T, N]`, with a weight for each token, on all threads.
    pub fn add(&mut self, x: &[f32], weights: &[f32]) {
        let (n, t) = (self.width, weights.len());
        if t == 0 {
            return;
        }
        let scaled = scaled_columns(x, weights);
        let columns = |from: usize, to: usize| Rows::new(&scaled[from * t..to * t], t);
        // The product is symmetric, so what is right of the diagonal's tiles is left out.
        self.squares.par_chunks_mut(TASK_ROWS * n).enumerate().for_each(|(task, squares)| {
            let (from, to) = (task * TASK_ROWS, n.min((task + 1) * TASK_ROWS));
            add_product_to(columns(from, to), columns(0, to), squares, n);
        });
        add_rows(&mut self.sum, x, weights);
        self.total += weights.iter().map(|&weight| f64::from(weight)).sum::<f64>();
    }

    /// Adds the difference that the inputs `x`, `[T, N]`, are missing: `[T, M]`, by input or by
    /// output.
    pub fn add_drift(&mut self, drift: &[f32], x: &[f32], weights: &[f32]) {
        let (n, t) = (self.width, weights.len());
        if t == 0 {
            return;
        }
        let m = drift.len() / t;
        self.drift.resize(m * n, 0.0);
        self.drift_sum.resize(m, 0.0);
        let (scaled_drift, scaled_x) = (scaled_columns(drift, weights), scaled_columns(x, weights));
        let tasks = self.drift.par_chunks_mut(TASK_ROWS * n);
        tasks.zip(scaled_drift.par_chunks(TASK_ROWS * t)).for_each(|(sums, drift)| {
            add_product_to(Rows::new(drift, t), Rows::new(&scaled_x, t), sums, n);
        });
        add_rows(&mut self.drift_sum, drift, weights);
    }

    /// `μ`, the mean of `x`; zeros without tokens.
    pub fn mean(&self) -> Vec<f64> {
        self.over_tokens(&self.sum)
    }

    /// The meaning of `d`.
    pub fn drift_of(&self) -> Drift {
        self.drift_of
    }

    /// `δ`, the mean of `d`; empty while there is no drift.
    pub fn mean_drift(&self) -> Vec<f64> {
        self.over_tokens(&self.drift_sum)
    }

    /// `H`, `[N, N]`: the mean of `x xᵀ`, or of `(x - μ)(x - μ)ᵀ` if a bias compensates the mean.
    pub fn matrix(&self, centered: bool) -> Dense {
        let n = self.width;
        let (count, mean) = (self.count(), self.about(centered));
        Dense::from_fn(n, n, |i, j| {
            let (row, column) = (i.max(j), i.min(j));
            f64::from(self.squares[row * n + column]) / count - mean[i] * mean[j]
        })
    }

    /// `A`, `[M, N]`: the mean of `d xᵀ`, or of `(d - δ)(x - μ)ᵀ`; none without drift.
    pub fn drift(&self, centered: bool) -> Option<Dense> {
        let n = self.width;
        let (count, mean, drift) = (self.count(), self.about(centered), self.mean_drift());
        (!self.drift.is_empty()).then(|| {
            Dense::from_fn(drift.len(), n, |i, j| {
                f64::from(self.drift[i * n + j]) / count - drift[i] * mean[j]
            })
        })
    }

    fn count(&self) -> f64 {
        if self.total > 0.0 { self.total } else { 1.0 }
    }

    fn over_tokens(&self, sum: &[f64]) -> Vec<f64> {
        sum.iter().map(|sum| sum / self.count()).collect()
    }

    fn about(&self, centered: bool) -> Vec<f64> {
        if centered { self.mean() } else { vec![0.0; self.width] }
    }
}

/// The weight of each of some tokens, from the vectors `[T, N]` that its error is relative to.
pub(super) fn token_weights(x: &[f32], width: usize) -> Vec<f32> {
    let squares = x.chunks_exact(width).map(|row| row.iter().map(|x| x * x).sum::<f32>());
    // A relative error is not defined for a vector of zeros.
    squares.map(|square| if square > 0.0 { width as f32 / square } else { 0.0 }).collect()
}

/// The columns of `x`, `[T, N]`, one after the other, each number times the root of its row's
/// weight: products of two such columns are weighted sums. There is at least one row.
fn scaled_columns(x: &[f32], weights: &[f32]) -> Vec<f32> {
    let (t, n) = (weights.len(), x.len() / weights.len());
    let roots: Vec<f32> = weights.iter().map(|weight| weight.sqrt()).collect();
    let mut columns = vec![0.0; x.len()];
    columns.par_chunks_mut(t).enumerate().for_each(|(j, column)| {
        let numbers = x[j..].iter().step_by(n).zip(&roots);
        column.iter_mut().zip(numbers).for_each(|(out, (x, root))| *out = x * root);
    });
    columns
}

/// Adds all rows of `x`, times their weights, to `sum`.
fn add_rows(sum: &mut [f64], x: &[f32], weights: &[f32]) {
    for (row, &weight) in x.chunks_exact(sum.len()).zip(weights) {
        let weight = f64::from(weight);
        sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += weight * f64::from(x));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_definition() {
        let x = [1.0_f32, 2.0, -1.0, 0.5, 3.0, 4.0, 0.0, -2.0, 1.0];
        let drift = [0.5_f32, 0.0, -0.5, 0.25, 0.0, 1.0];
        let weights = [1.0_f32, 0.5, 2.0];
        let mut moments = Moments::new(3, Drift::OfOutputs);
        assert!(moments.drift(false).is_none());
        moments.add(&x[..6], &weights[..2]);
        moments.add(&x[6..], &weights[2..]);
        moments.add_drift(&drift, &x, &weights);
        let (mean, mean_drift) = (moments.mean(), moments.mean_drift());
        let average = |f: &dyn Fn(usize) -> f32| {
            f64::from((0..3).map(|t| weights[t] * f(t)).sum::<f32>() / weights.iter().sum::<f32>())
        };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        for j in 0..3 {
            close(mean[j], average(&|t| x[3 * t + j]));
            for i in 0..3 {
                let square = average(&|t| x[3 * t + i] * x[3 * t + j]);
                close(moments.matrix(false)[(i, j)], square);
                close(moments.matrix(true)[(i, j)], square - mean[i] * mean[j]);
            }
            for i in 0..2 {
                close(mean_drift[i], average(&|t| drift[2 * t + i]));
                let cross = average(&|t| drift[2 * t + i] * x[3 * t + j]);
                close(moments.drift(false).unwrap()[(i, j)], cross);
                close(moments.drift(true).unwrap()[(i, j)], cross - mean_drift[i] * mean[j]);
            }
        }
    }

    #[test]
    fn errors_count_relative_to_the_size_of_a_token() {
        assert_eq!(token_weights(&[1.0, 1.0, 100.0, 0.0], 2), [1.0, 2e-4]);
        assert_eq!(token_weights(&[0.0, 0.0], 2), [0.0]);
    }
}
