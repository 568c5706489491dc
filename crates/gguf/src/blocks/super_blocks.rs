//! Shared by the formats with 256 weights per block: searches several blocks in parallel, first for
//! the scales of their groups, and with importance also for the blocks' own scales.

use super::affine::{Fits, Search};
use super::each::each;
use super::lanes::{Lanes, transpose};
use super::qp_quants;
use super::weighted::{Rows, costs, sums_of_squares};

/// Groups in parallel: those of two blocks with 8 groups, or of one block with 16.
pub(super) const LANES: usize = 16;
/// Blocks whose own scales are searched in parallel.
pub(super) const BATCH: usize = 16;

/// The groups of two blocks with 8 groups of 32 each; a single block is repeated.
#[inline(always)]
pub(super) fn pair(x: &[[f32; 256]]) -> [Lanes<LANES>; 32] {
    transpose([x[0], x[x.len() - 1]].as_flattened())
}

/// [`BATCH`] blocks, their importance, and the typical square of their weights.
pub(super) struct Batch<'a> {
    pub(super) x: [&'a [f32; 256]; BATCH],
    importance: [&'a [f32; 256]; BATCH],
    mean_squares: [f32; BATCH],
}

impl<'a> Batch<'a> {
    /// The blocks from `first` on; the last is repeated if there are too few. `mean` computes the
    /// typical square from the sum of a block's squares.
    #[inline(always)]
    pub(super) fn new(
        rows: &Rows<'a, [f32; 256]>,
        first: usize,
        mean: impl Fn(f32) -> f32,
    ) -> Self {
        let (x, importance) = rows.blocks::<BATCH>(first);
        let sums = sums_of_squares(&x, 256);
        Batch { x, importance, mean_squares: each(|i| mean(sums[i])) }
    }

    /// The groups of one block, or of two if `LEN` is 32, from `block` on: weights, and the costs
    /// of their errors.
    #[inline(always)]
    pub(super) fn groups<const LEN: usize>(
        &self,
        block: usize,
    ) -> ([Lanes<LANES>; LEN], [Lanes<LANES>; LEN]) {
        let of = |from: &[&[f32; 256]; BATCH]| match LEN {
            16 => transpose(from[block]),
            _ => transpose([*from[block], *from[block + 1]].as_flattened()),
        };
        let x = of(&self.x);
        let mean = Lanes(each(|lane| self.mean_squares[block + lane * LEN / 256]));
        let costs = costs(&x, &of(&self.importance), mean);
        (x, costs)
    }

    /// Scale and minimum of every group of every block.
    #[inline(always)]
    pub(super) fn affine_fits<const GROUPS: usize, const LEN: usize>(
        &self,
        search: Search,
    ) -> [Fits<GROUPS>; BATCH] {
        let mut fits = [Fits::EMPTY; BATCH];
        let together = LANES / GROUPS;
        for (i, fits) in fits.chunks_exact_mut(together).enumerate() {
            let (x, costs) = self.groups::<LEN>(i * together);
            let found = Fits::<LANES>::search(&x, &costs, search);
            for (j, fit) in fits.iter_mut().enumerate() {
                *fit = found.of_block(j * GROUPS);
            }
        }
        fits
    }
}

/// The scale of each block's group scales, their codes, and the same of the minima.
pub(super) struct Stored<const GROUPS: usize> {
    pub(super) scale: [f32; BATCH],
    pub(super) scales: [[u8; GROUPS]; BATCH],
    pub(super) min_scale: [f32; BATCH],
    pub(super) mins: [[u8; GROUPS]; BATCH],
}

impl<const GROUPS: usize> Stored<GROUPS> {
    /// Searches with the sum of the costs of a group's weights.
    #[inline(always)]
    pub(super) fn search(fits: &[Fits<GROUPS>; BATCH], highest: i32) -> Self {
        let costs: [_; GROUPS] = std::array::from_fn(|g| Lanes(each(|b| fits[b].cost[g])));
        let x: [_; GROUPS] = std::array::from_fn(|g| Lanes(each(|b| fits[b].scale[g])));
        let (scale, scales) = qp_quants::search(&x, &costs, highest);
        let x: [_; GROUPS] = std::array::from_fn(|g| Lanes(each(|b| fits[b].min[g])));
        let (min_scale, mins) = qp_quants::search(&x, &costs, highest);
        Stored { scale, scales, min_scale, mins }
    }
}
