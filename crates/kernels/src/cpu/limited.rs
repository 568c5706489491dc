//! Products in f32 with no more instructions than asked for.
//!
//! The `gemm` crate detects the processor's instructions by itself. Where `isa::VARIABLE` allows
//! fewer, this loop takes its place: it is several times slower, and there to measure and to check
//! what the faster kernels do.

use isa::{Isa, vectorised};
use rayon::prelude::*;

use super::matmul::pack::Matrix;

/// Adds `a b`, `[M, K] [K, N]`, to `out`, `[M, N]` row by row, on all threads.
pub(super) fn add_product(isa: Isa, a: &Matrix<'_>, b: &Matrix<'_>, out: &mut [f32]) {
    let columns = b.columns();
    if out.is_empty() {
        return;
    }
    let (a_row, a_column) = a.strides();
    let b = in_rows(b);
    out.par_chunks_mut(columns).enumerate().for_each(|(i, sums)| {
        for (k, b) in b.chunks_exact(columns).enumerate() {
            add_scaled(isa, sums, a.data()[i * a_row + k * a_column], b);
        }
    });
}

/// The numbers row by row, without gaps.
fn in_rows(matrix: &Matrix<'_>) -> Vec<f32> {
    let (row, column) = matrix.strides();
    let rows = (0..matrix.rows()).into_par_iter();
    rows.flat_map_iter(|i| (0..matrix.columns()).map(move |j| matrix.data()[i * row + j * column]))
        .collect()
}

vectorised! {
    /// `sums += factor · x`
    fn add_scaled(sums: &mut [f32], factor: f32, x: &[f32]) {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += factor * x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, noise};
    use super::*;

    #[test]
    fn the_product_is_that_of_the_definition_in_every_layout() {
        for (m, k, n) in [(1, 1, 1), (3, 17, 33), (33, 3, 17), (5, 40, 2), (2, 0, 3)] {
            let (a, b) = (noise(m * k, 1), noise(k * n, 2));
            let turned = |x: &[f32], rows: usize, columns: usize| -> Vec<f32> {
                (0..rows * columns).map(|at| x[at % rows * columns + at / rows]).collect()
            };
            let (at, bt) = (turned(&a, m, k), turned(&b, k, n));
            let exact: Vec<f64> = (0..m * n)
                .map(|o| {
                    let products = (0..k).map(|d| [a[o / n * k + d], b[d * n + o % n]]);
                    1.0 + products.map(|[x, y]| f64::from(x) * f64::from(y)).sum::<f64>()
                })
                .collect();
            let lefts = [Matrix::new(&a, m, k), Matrix::new(&at, k, m).transpose()];
            let rights = [Matrix::new(&b, k, n), Matrix::new(&bt, n, k).transpose()];
            for (left, right) in lefts.into_iter().zip(rights) {
                for &isa in Isa::with_vectors() {
                    let mut out = vec![1.0; m * n];
                    add_product(isa, &left, &right, &mut out);
                    assert_close(&out, &exact, 1e-5);
                }
            }
        }
    }
}
