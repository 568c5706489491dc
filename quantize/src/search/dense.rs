//! Linear algebra in f64 whose results have the same bits on every machine: Cholesky factors and
//! what is solved with them.
//!
//! Libraries for this choose their order of additions by the width of the processor's registers.
//! Here every number is `x - a₀ b₀ - a₁ b₁ - …` in the order of the indices, each product and each
//! difference rounded, and registers hold neighbouring numbers, never parts of one sum. So neither
//! the instruction set nor the number of threads makes a difference.

use std::ops::{Index, IndexMut};

use isa::{Isa, vectorised};
use rayon::prelude::*;

/// Columns that are factored, or solved for, before the others follow.
const BLOCK: usize = 32;
/// Rows that one task updates.
const TASK_ROWS: usize = 16;
/// Columns of a row that are updated while the block's rows of this length are in the cache.
const TASK_COLUMNS: usize = 256;
/// Right sides that one task solves for.
const RIGHT_SIDES: usize = 64;

/// A matrix of f64, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dense {
    pub rows: usize,
    pub columns: usize,
    /// `[rows, columns]`
    pub data: Vec<f64>,
}

impl Dense {
    /// The matrix of these elements, computed on all threads.
    pub fn from_fn(
        rows: usize,
        columns: usize,
        element: impl Fn(usize, usize) -> f64 + Sync,
    ) -> Self {
        let mut data = vec![0.0; rows * columns];
        data.par_chunks_mut(columns.max(1)).enumerate().for_each(|(i, row)| {
            row.iter_mut().enumerate().for_each(|(j, x)| *x = element(i, j));
        });
        Dense { rows, columns, data }
    }
}

impl Index<(usize, usize)> for Dense {
    type Output = f64;

    fn index(&self, (i, j): (usize, usize)) -> &f64 {
        &self.data[i * self.columns + j]
    }
}

impl IndexMut<(usize, usize)> for Dense {
    fn index_mut(&mut self, (i, j): (usize, usize)) -> &mut f64 {
        &mut self.data[i * self.columns + j]
    }
}

/// `L` with `H = L Lᵀ`, lower triangular with a positive diagonal.
#[derive(Debug)]
pub(super) struct Cholesky {
    isa: Isa,
    /// `[N, N]`; what is above the diagonal has no meaning.
    lower: Dense,
}

impl Cholesky {
    /// The factor of a symmetric matrix, of which the elements on and below the diagonal are read;
    /// `None` if it is not positive definite, or not of finite numbers.
    pub fn new(h: Dense) -> Option<Self> {
        Self::with(Isa::vectors(), h)
    }

    fn with(isa: Isa, mut h: Dense) -> Option<Self> {
        let n = h.rows;
        for first in (0..n).step_by(BLOCK) {
            let after = n.min(first + BLOCK);
            let (done, rest) = h.data.split_at_mut(after * n);
            let corner = factor_corner(&mut done[first * n..], n, first)?;
            rest.par_chunks_mut(n).for_each(|row| corner.eliminate(&mut row[first..after]));
            update_rest(isa, rest, n, first..after);
        }
        Some(Cholesky { isa, lower: h })
    }

    /// `L_ij`, `i >= j`.
    pub fn lower(&self, i: usize, j: usize) -> f64 {
        self.lower[(i, j)]
    }

    /// Replaces each row `a` of a matrix by `H⁻¹ a`.
    pub fn solve_rows(&self, right: &mut Dense) {
        let n = self.lower.rows;
        right.data.par_chunks_mut(RIGHT_SIDES * n.max(1)).for_each(|rows| {
            let count = rows.len() / n;
            let mut columns = vec![0.0; rows.len()]; // [N, count]
            for (side, row) in rows.chunks_exact(n).enumerate() {
                row.iter().enumerate().for_each(|(i, x)| columns[i * count + side] = *x);
            }
            self.forward(&mut columns, count);
            self.backward(&mut columns, count);
            for (side, row) in rows.chunks_exact_mut(n).enumerate() {
                row.iter_mut().enumerate().for_each(|(i, x)| *x = columns[i * count + side]);
            }
        });
    }

    /// `y` with `L y = b` in the place of `b`, `[N, count]`.
    fn forward(&self, b: &mut [f64], count: usize) {
        let n = self.lower.rows;
        for first in (0..n).step_by(BLOCK) {
            let after = n.min(first + BLOCK);
            for i in first..n {
                let end = i.min(after);
                let (known, rest) = b.split_at_mut(i.max(after) * count);
                // Within the block the row itself is among those split off.
                let (known, row) = match i < after {
                    true => known.split_at_mut(i * count),
                    false => (known, rest),
                };
                let row = &mut row[..count];
                let factors = &self.lower.data[i * n + first..i * n + end];
                subtract(self.isa, row, factors, &known[first * count..], count);
                if i < after {
                    divide(row, self.lower[(i, i)]);
                }
            }
        }
    }

    /// `z` with `Lᵀ z = y` in the place of `y`, `[N, count]`.
    fn backward(&self, y: &mut [f64], count: usize) {
        let n = self.lower.rows;
        let mut factors = [0.0; BLOCK];
        for first in (0..n).step_by(BLOCK).rev() {
            let after = n.min(first + BLOCK);
            for i in (0..after).rev() {
                let start = first.max(i + 1);
                let (rest, known) = y.split_at_mut(start * count);
                let row = &mut rest[i * count..][..count];
                let factors = &mut factors[..after - start];
                factors.iter_mut().zip(start..).for_each(|(x, k)| *x = self.lower[(k, i)]);
                subtract(self.isa, row, factors, known, count);
                if i >= first {
                    divide(row, self.lower[(i, i)]);
                }
            }
        }
    }
}

/// The factor of a block on the diagonal, `[BLOCK, BLOCK]`.
struct Corner([[f64; BLOCK]; BLOCK]);

impl Corner {
    /// A row of `L` below the block, or of it, in the place of a row of what is left of `H`.
    fn eliminate(&self, row: &mut [f64]) {
        for j in 0..row.len() {
            let (known, rest) = row.split_at_mut(j);
            let pairs = known.iter().zip(&self.0[j]);
            rest[0] = pairs.fold(rest[0], |x, (y, l)| x - y * l) / self.0[j][j];
        }
    }
}

/// Factors the block whose rows, `[up to BLOCK, N]`, and columns begin at `first`.
fn factor_corner(rows: &mut [f64], n: usize, first: usize) -> Option<Corner> {
    let mut corner = Corner([[0.0; BLOCK]; BLOCK]);
    for (i, row) in rows.chunks_exact_mut(n).enumerate() {
        let row = &mut row[first..=first + i];
        let (before, diagonal) = row.split_at_mut(i);
        corner.eliminate(before);
        let mut rest = diagonal[0];
        before.iter().for_each(|x| rest -= x * x);
        // False for NaN too.
        if !(rest > 0.0 && rest.is_finite()) {
            return None;
        }
        diagonal[0] = rest.sqrt();
        corner.0[i][..=i].copy_from_slice(row);
    }
    Some(corner)
}

/// Subtracts the products of some columns of `L` from the elements after them, on and below the
/// diagonal; `rest` are the rows after the block.
fn update_rest(isa: Isa, rest: &mut [f64], n: usize, block: std::ops::Range<usize>) {
    let (first, after) = (block.start, block.end);
    let width = n - after;
    // These columns as rows, `[block, width]`.
    let mut columns = vec![0.0; block.len() * width];
    for (j, row) in rest.chunks_exact(n).enumerate() {
        block.clone().enumerate().for_each(|(k, column)| columns[k * width + j] = row[column]);
    }
    rest.par_chunks_mut(TASK_ROWS * n).enumerate().for_each(|(task, rows)| {
        for start in (0..width).step_by(TASK_COLUMNS) {
            for (i, row) in (task * TASK_ROWS..).zip(rows.chunks_exact_mut(n)) {
                let end = (start + TASK_COLUMNS).min(i + 1);
                if start < end {
                    let (factors, row) = row.split_at_mut(after);
                    let (factors, row) = (&factors[first..], &mut row[start..end]);
                    subtract(isa, row, factors, &columns[start..], width);
                }
            }
        }
    });
}

fn divide(row: &mut [f64], by: f64) {
    row.iter_mut().for_each(|x| *x /= by);
}

/// Numbers of a row that are held in registers.
const HELD: usize = 16;

vectorised! {
    /// `row -= Σ_k factors[k] · others[k]`, `k` ascending; the others' starts are `stride` apart.
    fn subtract(row: &mut [f64], factors: &[f64], others: &[f64], stride: usize) {
        let whole = row.len() - row.len() % HELD;
        for start in (0..whole).step_by(HELD) {
            let mut held = [0.0; HELD];
            held.copy_from_slice(&row[start..start + HELD]);
            for (k, factor) in factors.iter().enumerate() {
                let other = &others[k * stride + start..][..HELD];
                for lane in 0..HELD {
                    held[lane] -= factor * other[lane];
                }
            }
            row[start..start + HELD].copy_from_slice(&held);
        }
        for (j, x) in row.iter_mut().enumerate().skip(whole) {
            for (k, factor) in factors.iter().enumerate() {
                *x -= factor * others[k * stride + j];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Second moments of pseudo-random inputs, with something on the diagonal.
    fn moments(n: usize) -> Dense {
        let x = |t: usize, j: usize| ((t * 37 + j * 101 + t * j * 7) % 61) as f64 / 30.0 - 1.0;
        Dense::from_fn(n, n, |i, j| {
            let sum: f64 = (0..n + 10).map(|t| x(t, i) * x(t, j)).sum();
            sum + if i == j { 0.5 + sum * 0.1 } else { 0.0 }
        })
    }

    fn right_sides(rows: usize, n: usize) -> Dense {
        Dense::from_fn(rows, n, |i, j| ((i * 13 + j * 29 + i * j) % 17) as f64 - 8.0)
    }

    const SIZES: [usize; 8] = [1, 2, 16, 31, 32, 33, 100, 301];

    /// `L` is lower triangular with a positive diagonal and `L Lᵀ = H`, which only the factor is; a
    /// solution multiplied by `H` is the right side.
    #[test]
    fn factors_and_solutions_multiply_to_what_they_are_of() {
        let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-9 * (1.0 + b.abs()), "{a} {b}");
        for n in SIZES {
            let (h, right) = (moments(n), right_sides(70, n));
            let factor = Cholesky::new(h.clone()).unwrap();
            let mut solved = right.clone();
            factor.solve_rows(&mut solved);
            for i in 0..n {
                assert!(factor.lower(i, i) > 0.0);
                for j in 0..=i {
                    let products = (0..=j).map(|k| factor.lower(i, k) * factor.lower(j, k));
                    close(products.sum(), h[(i, j)]);
                }
                for side in 0..70 {
                    close((0..n).map(|k| h[(i, k)] * solved[(side, k)]).sum(), right[(side, i)]);
                }
            }
        }
    }

    /// The first example of Wikipedia's article on the Cholesky decomposition.
    #[test]
    fn a_factor_by_hand() {
        let h = [[4.0, 12.0, -16.0], [12.0, 37.0, -43.0], [-16.0, -43.0, 98.0]];
        let factor = Cholesky::new(Dense::from_fn(3, 3, |i, j| h[i][j])).unwrap();
        let lower = [[2.0, 0.0, 0.0], [6.0, 1.0, 0.0], [-8.0, 5.0, 3.0]];
        for (i, row) in lower.iter().enumerate() {
            (0..=i).for_each(|j| assert_eq!(factor.lower(i, j), row[j]));
        }
    }

    #[test]
    fn instruction_sets_and_threads_give_the_same_bits() {
        for n in SIZES {
            let run = |isa| {
                let factor = Cholesky::with(isa, moments(n)).unwrap();
                let mut solved = right_sides(70, n);
                factor.solve_rows(&mut solved);
                let lower = (0..n).flat_map(|i| (0..=i).map(move |j| (i, j)));
                let lower = lower.map(|(i, j)| factor.lower(i, j));
                lower.chain(solved.data).map(f64::to_bits).collect::<Vec<u64>>()
            };
            let expected = run(Isa::with_vectors()[0]);
            for &isa in Isa::with_vectors() {
                for threads in [1, 3] {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                    assert!(pool.unwrap().install(|| run(isa)) == expected, "{isa:?}, {n}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_no_factor() {
        let with = |at: (usize, usize), x: f64| {
            let mut h = moments(40);
            h[at] = x;
            Cholesky::new(h)
        };
        assert!(with((0, 0), 100.0).is_some());
        for (at, x) in [((0, 0), 0.0), ((35, 35), -1.0), ((39, 2), f64::NAN), ((5, 5), 1.0 / 0.0)] {
            assert!(with(at, x).is_none(), "{at:?} {x}");
        }
    }
}
