//! Factors the second moments of a matrix's inputs into the form that rounding column by column
//! needs.
//!
//! `H = M Mᵀ` with `M` upper triangular, stored as `U_ij = M_ij / M_jj` and `D_j = M_jj²` (see
//! `group.rs`). It is factored once for the whole matrix, so that columns take all errors before
//! them into account, and once for each group, to improve a group while everything else is fixed.

use anyhow::{Result, anyhow};
use rayon::prelude::*;

use super::dense::{Cholesky, Dense};
use super::group::Metric;

/// Added to the diagonal of `H`, as a share of each of its elements: an error in a direction that
/// hardly occurred in calibration must still have a cost. GPTQ adds a share of the diagonal's mean.
/// In a trained model a few columns dominate this mean, and the differences among the others are
/// lost.
const DAMPING: f64 = 0.1;

/// `H` and its factors, for groups of `L` columns.
pub(super) struct Factors<const L: usize> {
    /// Columns of the matrix, `N`.
    pub width: usize,
    /// `H` with damping, `[N, N]`.
    pub h: Vec<f32>,
    /// `Uᵀ`, `[N, N]`: row `j` holds `U_ij` for `i < j`, then zeros.
    pub unit: Vec<f32>,
    /// Diagonal blocks of the factors of the whole matrix.
    pub whole: Vec<Metric<L>>,
    /// Factors of the diagonal blocks of `H`.
    pub alone: Vec<Metric<L>>,
}

impl<const L: usize> Factors<L> {
    /// Factors `H`, `[N, N]`, after adding to its diagonal; `N` is a multiple of `L`.
    ///
    /// # Errors
    /// When `H` is not a matrix of second moments of finite numbers.
    pub fn new(mut h: Dense) -> Result<Self> {
        let n = h.rows;
        damp(&mut h, DAMPING);

        // Cholesky starts at the first column; on the reversed matrix it gives the upper factor.
        let reversed = Dense::from_fn(n, n, |i, j| h[(n - 1 - i, n - 1 - j)]);
        let factor = Cholesky::new(reversed)
            .ok_or_else(|| anyhow!("the inputs seen in calibration are no finite numbers"))?;
        let upper = |i: usize, j: usize| factor.lower(n - 1 - i, n - 1 - j);
        let mut unit = vec![0.0_f32; n * n];
        unit.par_chunks_mut(n).enumerate().for_each(|(j, row)| {
            for (i, u) in row.iter_mut().enumerate().take(j) {
                *u = (upper(i, j) / upper(j, j)) as f32;
            }
        });
        let groups: Vec<usize> = (0..n).step_by(L).collect();
        let whole = groups
            .par_iter()
            .map(|&start| Metric::new(|i, j| upper(start + i, start + j)))
            .collect();
        let alone = groups.par_iter().map(|&start| alone(&h, start)).collect();
        let h = h.data.par_iter().map(|&x| x as f32).collect();
        Ok(Factors { width: n, h, unit, whole, alone })
    }
}

/// Adds to the diagonal of `H` a share of each of its own elements, and a small share of its mean
/// where a column's inputs were all zero. If all inputs are zero, every weight has the same weight
/// in the error.
pub(super) fn damp(h: &mut Dense, share: f64) {
    let n = h.rows;
    let mean = (0..n).map(|i| h[(i, i)]).sum::<f64>() / n as f64;
    if mean <= 0.0 {
        (0..n).for_each(|i| h[(i, i)] = 1.0);
        return;
    }
    (0..n).for_each(|i| h[(i, i)] += share * h[(i, i)] + 1e-6 * mean);
}

/// The factors of one group's own moments.
fn alone<const L: usize>(h: &Dense, start: usize) -> Metric<L> {
    let mut m = [[0.0_f64; L]; L];
    for j in (0..L).rev() {
        for i in (0..=j).rev() {
            let later: f64 = (j + 1..L).map(|k| m[i][k] * m[j][k]).sum();
            let rest = h[(start + i, start + j)] - later;
            // Thanks to the damped diagonal this is positive, except for rounding errors.
            m[i][j] = if i == j { rest.max(f64::MIN_POSITIVE).sqrt() } else { rest / m[j][j] };
        }
    }
    Metric::new(|i, j| m[i][j])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Second moments of 40 pseudo-random inputs of width 32.
    fn moments() -> Dense {
        let x = |i: usize, j: usize| ((i * 37 + j * 101 + i * j * 7) % 61) as f64 / 30.0 - 1.0;
        Dense::from_fn(32, 32, |i, j| (0..40).map(|t| x(t, i) * x(t, j)).sum())
    }

    fn assert_close(a: f64, b: f64, scale: f64) {
        assert!((a - b).abs() <= 1e-5 * scale, "{a} {b}");
    }

    #[test]
    fn the_factors_multiply_to_the_moments() {
        let factors = Factors::<16>::new(moments()).unwrap();
        let n = factors.width;
        let d = |j: usize| f64::from(factors.whole[j / 16].weight[j % 16]);
        let u = |i: usize, j: usize| if i == j { 1.0 } else { f64::from(factors.unit[j * n + i]) };
        let scale = f64::from(factors.h[0]);
        for i in 0..n {
            for j in 0..n {
                let product: f64 = (i.max(j)..n).map(|k| u(i, k) * d(k) * u(j, k)).sum();
                assert_close(product, f64::from(factors.h[i * n + j]), scale);
            }
        }
    }

    #[test]
    fn a_group_alone_multiplies_to_its_block() {
        let factors = Factors::<16>::new(moments()).unwrap();
        for (g, metric) in factors.alone.iter().enumerate() {
            let u = |i: usize, j: usize| if i == j { 1.0 } else { f64::from(metric.unit[i][j]) };
            for i in 0..16 {
                for j in 0..16 {
                    let product: f64 = (i.max(j)..16)
                        .map(|k| u(i, k) * f64::from(metric.weight[k]) * u(j, k))
                        .sum();
                    let h = factors.h[(16 * g + i) * factors.width + 16 * g + j];
                    assert_close(product, f64::from(h), f64::from(factors.h[0]));
                }
            }
        }
    }

    #[test]
    fn moments_that_are_no_numbers_are_refused() {
        let mut h = moments();
        h[(3, 3)] = f64::NAN;
        assert!(Factors::<16>::new(h).is_err());
        assert!(Factors::<16>::new(Dense::from_fn(32, 32, |_, _| 0.0)).is_ok());
    }
}
