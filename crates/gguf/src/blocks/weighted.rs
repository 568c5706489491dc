//! Rows of weights with the importance of their columns.
//!
//! ```text
//! p = importance * sqrt(mean w² + w²)        the cost of an error of a weight
//! ```
//!
//! The mean is that of a row, a block or a group, or twice that; this depends on the format.

use bytemuck::Pod;

use super::each::each;
use super::lanes::{Lanes, transpose};

/// Whole rows, cut into blocks of `W`, and the importance of each column.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, W> {
    /// The blocks of all rows.
    pub(super) x: &'a [W],
    /// The importance of one row's columns, in blocks.
    pub(super) importance: &'a [W],
}

impl<'a, W: Pod + AsRef<[f32]>> Rows<'a, W> {
    /// The importance of a block's columns.
    #[inline(always)]
    pub(super) fn importance_of(&self, block: usize) -> &'a W {
        &self.importance[block % self.importance.len()]
    }

    /// `N` blocks and their importance; if there are fewer, the last one is repeated.
    #[inline(always)]
    pub(super) fn blocks<const N: usize>(&self, first: usize) -> ([&'a W; N], [&'a W; N]) {
        let block = |i: usize| (first + i).min(self.x.len() - 1);
        (
            std::array::from_fn(|i| &self.x[block(i)]),
            std::array::from_fn(|i| self.importance_of(block(i))),
        )
    }

    /// Mean square of each row.
    pub(super) fn mean_squares(&self) -> Vec<f32> {
        let row_len = size_of_val(self.importance) / size_of::<f32>();
        let x: &[f32] = bytemuck::cast_slice(self.x);
        let mut means = Vec::with_capacity(x.len() / row_len);
        for rows in x.chunks(8 * row_len) {
            let count = rows.len() / row_len;
            let rows: [&[f32]; 8] =
                std::array::from_fn(|i| &rows[i.min(count - 1) * row_len..][..row_len]);
            let sums = sums_of_squares(&rows, row_len);
            means.extend_from_slice(&sums.map(|sum| sum / row_len as f32)[..count]);
        }
        means
    }
}

impl Rows<'_, [f32; 32]> {
    /// `N` blocks and their importance in lanes.
    #[inline(always)]
    pub(super) fn side_by_side<const N: usize>(
        &self,
        first: usize,
    ) -> ([Lanes<N>; 32], [Lanes<N>; 32]) {
        let (x, importance) = self.blocks::<N>(first);
        let transposed = |blocks: &[&[f32; 32]; N]| {
            let copied: [[f32; 32]; N] = std::array::from_fn(|i| *blocks[i]);
            transpose(copied.as_flattened())
        };
        (transposed(&x), transposed(&importance))
    }

    /// [`Rows::side_by_side`] with the costs of errors instead of the importance; `mean_squares`
    /// are those of the rows.
    #[inline(always)]
    pub(super) fn with_costs<const N: usize>(
        &self,
        first: usize,
        mean_squares: &[f32],
    ) -> ([Lanes<N>; 32], [Lanes<N>; 32]) {
        let (x, importance) = self.side_by_side(first);
        let row = |i: usize| (first + i).min(self.x.len() - 1) / self.importance.len();
        let costs = costs(&x, &importance, Lanes(each(|i| mean_squares[row(i)])));
        (x, costs)
    }
}

/// Σ w² of each of `N` sequences of weights, computed in parallel; each is summed in its own order.
#[inline(always)]
pub(super) fn sums_of_squares<const N: usize, W: AsRef<[f32]>>(x: &[W; N], len: usize) -> [f32; N] {
    let mut sums = [0.0; N];
    for i in 0..len {
        for (sum, x) in sums.iter_mut().zip(x) {
            let w = x.as_ref()[i];
            *sum += w * w;
        }
    }
    sums
}

/// The cost `p` of an error, see above.
#[inline(always)]
pub(super) fn costs<const N: usize, const LEN: usize>(
    x: &[Lanes<N>; LEN],
    importance: &[Lanes<N>; LEN],
    mean_square: Lanes<N>,
) -> [Lanes<N>; LEN] {
    let mut costs = *importance;
    for (p, &w) in costs.iter_mut().zip(x) {
        *p = *p * (mean_square + w * w).sqrt();
    }
    costs
}
