//! Normalisation of rows by the root of their mean square (Zhang and Sennrich, 2019).
//!
//! ```text
//! h = x r        r = 1 / sqrt(mean(x^2) + eps)
//! y = h gamma
//! dgamma = sum over rows of dy h
//! g = dy gamma      dx = r (g - h mean(g h))
//! ```

use rayon::prelude::*;

use super::simd::dot;
use isa::{Isa, vectorised};

/// Rows that one task normalises.
const ROWS: usize = 16;

/// Normalises `x [N, C]` into `y [N, C]`; returns `r` of each row.
pub fn rms_norm(isa: Isa, x: &[f32], gamma: &[f32], epsilon: f32, y: &mut [f32]) -> Vec<f32> {
    let columns = gamma.len();
    assert_eq!(x.len(), y.len(), "x and y of [N, C]");
    let mut scales = vec![0.0; x.len() / columns];
    y.par_chunks_mut(ROWS * columns)
        .zip(x.par_chunks(ROWS * columns))
        .zip(scales.par_chunks_mut(ROWS))
        .for_each(|((y, x), scales)| {
            normalise_rows(isa, x, gamma, epsilon, y, scales);
        });
    scales
}

vectorised! {
    fn normalise_rows(x: &[f32], gamma: &[f32], epsilon: f32, y: &mut [f32], scales: &mut [f32]) {
        let columns = gamma.len();
        let rows = y.chunks_exact_mut(columns).zip(x.chunks_exact(columns));
        for ((y, x), scale) in rows.zip(scales) {
            let r = 1.0 / (dot(x, x) / columns as f32 + epsilon).sqrt();
            for ((y, &x), gamma) in y.iter_mut().zip(x).zip(gamma) {
                *y = x * r * gamma;
            }
            *scale = r;
        }
    }
}

/// The gradients of `x` and `gamma`.
pub fn rms_norm_backward(
    isa: Isa,
    x: &[f32],
    gamma: &[f32],
    scales: &[f32],
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let columns = gamma.len();
    let mut dx = vec![0.0; x.len()];
    // Parts of a fixed size, so that the order of additions does not depend on the number of
    // threads.
    let partial: Vec<Vec<f32>> = dx
        .par_chunks_mut(ROWS * columns)
        .zip(x.par_chunks(ROWS * columns))
        .zip(dy.par_chunks(ROWS * columns))
        .zip(scales.par_chunks(ROWS))
        .map(|(((dx, x), dy), scales)| backward_rows(isa, x, gamma, scales, dy, dx))
        .collect();
    let mut dgamma = vec![0.0; columns];
    for part in &partial {
        dgamma.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    (dx, dgamma)
}

vectorised! {
    /// Returns the contribution of these rows to `dgamma`.
    fn backward_rows(
        x: &[f32],
        gamma: &[f32],
        scales: &[f32],
        dy: &[f32],
        dx: &mut [f32],
    ) -> Vec<f32> {
        let columns = gamma.len();
        let mut dgamma = vec![0.0; columns];
        let (mut h, mut g) = (vec![0.0; columns], vec![0.0; columns]);
        let lines = x.chunks_exact(columns).zip(dy.chunks_exact(columns)).zip(scales);
        for (dx, ((x, dy), r)) in dx.chunks_exact_mut(columns).zip(lines) {
            for (h, &x) in h.iter_mut().zip(x) {
                *h = x * r;
            }
            for ((g, &dy), gamma) in g.iter_mut().zip(dy).zip(gamma) {
                *g = dy * gamma;
            }
            for ((dgamma, &dy), h) in dgamma.iter_mut().zip(dy).zip(&h) {
                *dgamma += dy * h;
            }
            let mean_gh = dot(&g, &h) / columns as f32;
            for ((dx, g), h) in dx.iter_mut().zip(&g).zip(&h) {
                *dx = r * (g - h * mean_gh);
            }
        }
        dgamma
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, gradient, noise};
    use super::*;

    fn by_definition(x: &[f64], gamma: &[f64]) -> Vec<f64> {
        let n = gamma.len();
        let mut y = Vec::new();
        for row in x.chunks_exact(n) {
            let square = row.iter().map(|x| x * x).sum::<f64>() / n as f64;
            y.extend(row.iter().zip(gamma).map(|(x, g)| x / (square + 1e-5).sqrt() * g));
        }
        y
    }

    #[test]
    fn values_and_gradients_on_odd_shapes() {
        for (rows, columns) in [(1, 1), (3, 17), (17, 33), (40, 5)] {
            let (x, dy) = (noise(rows * columns, 1), noise(rows * columns, 2));
            let gamma = noise(columns, 3);
            for &isa in Isa::available() {
                let mut y = vec![0.0; x.len()];
                let scales = rms_norm(isa, &x, &gamma, 1e-5, &mut y);
                let [x64, g64] =
                    [&x, &gamma].map(|v| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
                assert_close(&y, &by_definition(&x64, &g64), 1e-5);
                let (dx, dgamma) = rms_norm_backward(isa, &x, &gamma, &scales, &dy);
                assert_close(&dx, &gradient(&x64, &dy, |x| by_definition(x, &g64)), 1e-4);
                assert_close(&dgamma, &gradient(&g64, &dy, |g| by_definition(&x64, g)), 1e-5);
            }
        }
    }
}
