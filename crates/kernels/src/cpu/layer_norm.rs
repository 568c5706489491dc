//! Layer normalisation (Ba, Kiros and Hinton, 2016) over rows, with the biased variance.
//!
//! ```text
//! h = (x - mean(x)) r        r = 1 / sqrt(var(x) + eps)
//! y = h gamma + beta
//! dgamma = sum over rows of dy h       dbeta = sum over rows of dy
//! g = dy gamma      dx = r (g - mean(g) - h mean(g h))
//! ```

use rayon::prelude::*;

use super::simd::{dot, sum};
use isa::{Isa, vectorised};

/// Rows that one task normalises.
const ROWS: usize = 16;

/// Mean and `r` of one row: what the gradient needs besides `x`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RowStatistics {
    mean: f32,
    inverse_deviation: f32,
}

/// Normalises `x [N, C]` into `y [N, C]`; returns the statistics of each row.
pub fn layer_norm(
    isa: Isa,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
    y: &mut [f32],
) -> Vec<RowStatistics> {
    let columns = gamma.len();
    assert!(
        beta.len() == columns && x.len() == y.len(),
        "x and y of [N, C], gamma and beta of [C]"
    );
    let mut statistics = vec![RowStatistics::default(); x.len() / columns];
    y.par_chunks_mut(ROWS * columns)
        .zip(x.par_chunks(ROWS * columns))
        .zip(statistics.par_chunks_mut(ROWS))
        .for_each(|((y, x), statistics)| {
            normalise_rows(isa, x, [gamma, beta], epsilon, y, statistics);
        });
    statistics
}

vectorised! {
    fn normalise_rows(
        x: &[f32],
        parameters: [&[f32]; 2],
        epsilon: f32,
        y: &mut [f32],
        statistics: &mut [RowStatistics],
    ) {
        let [gamma, beta] = parameters;
        let rows = y.chunks_exact_mut(gamma.len()).zip(x.chunks_exact(gamma.len()));
        for ((y, x), statistics) in rows.zip(statistics) {
            *statistics = row_statistics(x, epsilon);
            let RowStatistics { mean, inverse_deviation } = *statistics;
            for (((y, &x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                *y = (x - mean) * inverse_deviation * gamma + beta;
            }
        }
    }
}

#[inline(always)]
fn row_statistics(x: &[f32], epsilon: f32) -> RowStatistics {
    let n = x.len() as f32;
    let mean = sum(x) / n;
    // Computed from differences to the mean: `mean(x^2) - mean(x)^2` loses digits by cancellation.
    let mut squares = [0.0_f32; 16];
    let (blocks, rest) = x.as_chunks::<16>();
    for block in blocks {
        for i in 0..16 {
            let d = block[i] - mean;
            squares[i] += d * d;
        }
    }
    let rest: f32 = rest.iter().map(|x| (x - mean) * (x - mean)).sum();
    let variance = (squares.iter().sum::<f32>() + rest) / n;
    RowStatistics { mean, inverse_deviation: 1.0 / (variance + epsilon).sqrt() }
}

/// The gradients of `x`, `gamma` and `beta`.
pub fn layer_norm_backward(
    isa: Isa,
    x: &[f32],
    gamma: &[f32],
    statistics: &[RowStatistics],
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let columns = gamma.len();
    let mut dx = vec![0.0; x.len()];
    // Parts of a fixed size, so that the order of additions does not depend on the number of
    // threads.
    let partial: Vec<(Vec<f32>, Vec<f32>)> = dx
        .par_chunks_mut(ROWS * columns)
        .zip(x.par_chunks(ROWS * columns))
        .zip(dy.par_chunks(ROWS * columns))
        .zip(statistics.par_chunks(ROWS))
        .map(|(((dx, x), dy), statistics)| backward_rows(isa, x, gamma, statistics, dy, dx))
        .collect();
    let (mut dgamma, mut dbeta) = (vec![0.0; columns], vec![0.0; columns]);
    for (gamma_part, beta_part) in &partial {
        dgamma.iter_mut().zip(gamma_part).for_each(|(sum, x)| *sum += x);
        dbeta.iter_mut().zip(beta_part).for_each(|(sum, x)| *sum += x);
    }
    (dx, dgamma, dbeta)
}

vectorised! {
    /// Returns the contributions of these rows to `dgamma` and `dbeta`.
    fn backward_rows(
        x: &[f32],
        gamma: &[f32],
        statistics: &[RowStatistics],
        dy: &[f32],
        dx: &mut [f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let columns = gamma.len();
        let (mut dgamma, mut dbeta) = (vec![0.0; columns], vec![0.0; columns]);
        let (mut h, mut g) = (vec![0.0; columns], vec![0.0; columns]);
        let lines = x.chunks_exact(columns).zip(dy.chunks_exact(columns)).zip(statistics);
        for (dx, ((x, dy), statistics)) in dx.chunks_exact_mut(columns).zip(lines) {
            let RowStatistics { mean, inverse_deviation } = *statistics;
            for (h, &x) in h.iter_mut().zip(x) {
                *h = (x - mean) * inverse_deviation;
            }
            for ((g, &dy), gamma) in g.iter_mut().zip(dy).zip(gamma) {
                *g = dy * gamma;
            }
            for (((dgamma, dbeta), &dy), h) in dgamma.iter_mut().zip(&mut dbeta).zip(dy).zip(&h) {
                *dgamma += dy * h;
                *dbeta += dy;
            }
            let mean_g = sum(&g) / columns as f32;
            let mean_gh = dot(&g, &h) / columns as f32;
            for ((dx, g), h) in dx.iter_mut().zip(&g).zip(&h) {
                *dx = inverse_deviation * (g - mean_g - h * mean_gh);
            }
        }
        (dgamma, dbeta)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, gradient, noise};
    use super::*;

    fn by_definition(x: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
        let n = gamma.len();
        let mut y = Vec::new();
        for row in x.chunks_exact(n) {
            let mean = row.iter().sum::<f64>() / n as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            let normal = row.iter().map(|x| (x - mean) / (variance + 1e-5).sqrt());
            y.extend(normal.zip(gamma).zip(beta).map(|((h, g), b)| h * g + b));
        }
        y
    }

    #[test]
    fn values_and_gradients_on_odd_shapes() {
        for (rows, columns) in [(1, 2), (3, 17), (17, 33), (40, 5)] {
            let (x, dy) = (noise(rows * columns, 1), noise(rows * columns, 2));
            let (gamma, beta) = (noise(columns, 3), noise(columns, 4));
            for &isa in Isa::available() {
                let mut y = vec![0.0; x.len()];
                let statistics = layer_norm(isa, &x, &gamma, &beta, 1e-5, &mut y);
                let [x64, g64, b64] = [&x, &gamma, &beta]
                    .map(|v| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
                assert_close(&y, &by_definition(&x64, &g64, &b64), 1e-5);
                let (dx, dgamma, dbeta) = layer_norm_backward(isa, &x, &gamma, &statistics, &dy);
                assert_close(&dx, &gradient(&x64, &dy, |x| by_definition(x, &g64, &b64)), 1e-4);
                assert_close(&dgamma, &gradient(&g64, &dy, |g| by_definition(&x64, g, &b64)), 1e-5);
                assert_close(&dbeta, &gradient(&b64, &dy, |b| by_definition(&x64, &g64, b)), 1e-5);
            }
        }
    }
}
