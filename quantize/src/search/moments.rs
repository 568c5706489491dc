//! What calibration leaves of a matrix's inputs: second moments, means, and how they have drifted.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatMut, MatRef, Par};

/// Sums over all calibration tokens, `x` an input `[N]` of one matrix in the model as it is so far,
/// `x₀` the same input in the model before anything was quantized.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    width: usize,
    tokens: usize,
    /// `Σ x xᵀ`, `[N, N]`, row-major; only what is on or below the diagonal is kept up.
    squares: Vec<f32>,
    /// `Σ x`
    sum: Vec<f64>,
    /// `Σ (x₀ - x) xᵀ`, `[N, N]`; empty as long as nothing has drifted.
    drift: Vec<f32>,
    /// `Σ x₀ - x`
    drift_sum: Vec<f64>,
}

impl Moments {
    /// No tokens yet; inputs are `width` wide.
    pub fn new(width: usize) -> Self {
        Moments {
            width,
            tokens: 0,
            squares: vec![0.0; width * width],
            sum: vec![0.0; width],
            drift: Vec::new(),
            drift_sum: vec![0.0; width],
        }
    }

    /// Takes in the inputs `x`, `[T, N]`, on all threads.
    pub fn add(&mut self, x: &[f32]) {
        let (n, t) = (self.width, x.len() / self.width);
        let x = MatRef::from_row_major_slice(x, t, n);
        // Half of a symmetric product is all that has to be computed.
        triangular::matmul(
            MatMut::from_row_major_slice_mut(&mut self.squares, n, n),
            BlockStructure::TriangularLower,
            Accum::Add,
            x.transpose(),
            BlockStructure::Rectangular,
            x,
            BlockStructure::Rectangular,
            1.0,
            Par::rayon(0),
        );
        add_rows(&mut self.sum, x);
        self.tokens += t;
    }

    /// Takes in what the inputs `x` would be in the model as it was, both `[T, N]`.
    pub fn add_drift(&mut self, original: &[f32], x: &[f32]) {
        let (n, t) = (self.width, x.len() / self.width);
        let drift: Vec<f32> = original.iter().zip(x).map(|(original, x)| original - x).collect();
        self.drift.resize(n * n, 0.0);
        let drift = MatRef::from_row_major_slice(&drift, t, n);
        matmul(
            MatMut::from_row_major_slice_mut(&mut self.drift, n, n),
            Accum::Add,
            drift.transpose(),
            MatRef::from_row_major_slice(x, t, n),
            1.0,
            Par::rayon(0),
        );
        add_rows(&mut self.drift_sum, drift);
    }

    /// `μ`, the mean of `x`; zeros where nothing was taken in.
    pub fn mean(&self) -> Vec<f64> {
        self.over_tokens(&self.sum)
    }

    /// `δ`, the mean of `x₀ - x`.
    pub fn mean_drift(&self) -> Vec<f64> {
        self.over_tokens(&self.drift_sum)
    }

    /// `H`, `[N, N]`: the mean of `x xᵀ`, or of `(x - μ)(x - μ)ᵀ` where a bias takes up the mean.
    pub fn matrix(&self, centered: bool) -> Mat<f64> {
        let n = self.width;
        let (count, mean) = (self.count(), self.about(centered));
        Mat::from_fn(n, n, |i, j| {
            let (row, column) = (i.max(j), i.min(j));
            f64::from(self.squares[row * n + column]) / count - mean[i] * mean[j]
        })
    }

    /// `A`, `[N, N]`: the mean of `(x₀ - x) xᵀ`, or of `(x₀ - x - δ)(x - μ)ᵀ`; none where nothing
    /// has drifted.
    pub fn drift(&self, centered: bool) -> Option<Mat<f64>> {
        let n = self.width;
        let (count, mean, drift) = (self.count(), self.about(centered), self.mean_drift());
        (!self.drift.is_empty()).then(|| {
            Mat::from_fn(n, n, |i, j| f64::from(self.drift[i * n + j]) / count - drift[i] * mean[j])
        })
    }

    fn count(&self) -> f64 {
        self.tokens.max(1) as f64
    }

    fn over_tokens(&self, sum: &[f64]) -> Vec<f64> {
        sum.iter().map(|sum| sum / self.count()).collect()
    }

    fn about(&self, centered: bool) -> Vec<f64> {
        if centered { self.mean() } else { vec![0.0; self.width] }
    }
}

/// Adds all rows of `x` to `sum`.
fn add_rows(sum: &mut [f64], x: MatRef<'_, f32>) {
    for row in x.row_iter() {
        sum.iter_mut().zip(row.iter()).for_each(|(sum, &x)| *sum += f64::from(x));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_definition() {
        let x = [1.0_f32, 2.0, -1.0, 0.5, 3.0, 4.0, 0.0, -2.0, 1.0];
        let original = [1.5_f32, 2.0, -1.0, 0.0, 3.5, 4.0, 0.25, -2.0, 1.0];
        let mut moments = Moments::new(3);
        assert!(moments.drift(false).is_none());
        moments.add(&x[..6]);
        moments.add(&x[6..]);
        moments.add_drift(&original, &x);
        let (mean, drift) = (moments.mean(), moments.mean_drift());
        let average = |f: &dyn Fn(usize) -> f32| f64::from((0..3).map(f).sum::<f32>()) / 3.0;
        for i in 0..3 {
            assert!((mean[i] - average(&|t| x[3 * t + i])).abs() < 1e-6);
            for j in 0..3 {
                let square = average(&|t| x[3 * t + i] * x[3 * t + j]);
                let cross = average(&|t| (original[3 * t + i] - x[3 * t + i]) * x[3 * t + j]);
                let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{i} {j}: {a} {b}");
                close(moments.matrix(false)[(i, j)], square);
                close(moments.matrix(true)[(i, j)], square - mean[i] * mean[j]);
                close(moments.drift(false).unwrap()[(i, j)], cross);
                close(moments.drift(true).unwrap()[(i, j)], cross - drift[i] * mean[j]);
            }
        }
    }
}
