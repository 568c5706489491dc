//! Encodes a whole matrix: first column by column, then group by group until few codes change.
//!
//! The first pass is LDLQ over blocks: the target of a block already compensates the errors of all
//! columns before it. Each later pass improves one group at a time with everything else fixed, in
//! both directions of the row, so that early groups can compensate late ones. A group changes only
//! if that makes the row's error smaller. Rows are independent, so tiles of rows run in parallel
//! and the result does not depend on the number of threads.

use gguf::grid::{Grid, MAX_BLOCK, Parts, ScaleGrid};
use isa::{Isa, vectorised};
use rayon::prelude::*;
use reference::matmul::{Rows, product};

use super::block::{BlockMetric, BlockTarget, best_free, best_steps, encode};
use super::factor::Factors;
use super::group::{Metric, Target};

/// Rows that one task works on: enough for the products, few enough to stay in the cache.
const TILE: usize = 32;

/// Passes over all groups after the first one.
const PASSES: usize = 3;

/// An encoded matrix.
pub(super) struct Encoded {
    /// The blocks' bytes.
    pub bytes: Vec<u8>,
    /// The weights that the bytes represent, `[R, N]`.
    pub stored: Vec<f32>,
}

/// Encodes `weights`, `[R, N]`, so that `Σ e H eᵀ` is small.
pub(super) fn encode_matrix<const L: usize>(
    grid: &Grid,
    factors: &Factors<L>,
    weights: &[f32],
) -> Encoded {
    encode_with(Isa::vectors(), grid, factors, weights)
}

fn encode_with<const L: usize>(
    isa: Isa,
    grid: &Grid,
    factors: &Factors<L>,
    weights: &[f32],
) -> Encoded {
    let n = factors.width;
    let row_bytes = n / grid.block_len() * grid.tensor_type.block_bytes();
    let mut bytes = vec![0; weights.len() / n * row_bytes];
    let mut errors = vec![0.0; weights.len()];
    weights
        .par_chunks(TILE * n)
        .zip(errors.par_chunks_mut(TILE * n))
        .zip(bytes.par_chunks_mut(TILE * row_bytes))
        .for_each(|((weights, errors), bytes)| {
            let mut tile = Tile::new(grid, factors, weights, errors);
            search(isa, &mut tile);
            tile.pack(bytes);
        });
    let mut stored = errors;
    stored.iter_mut().zip(weights).for_each(|(error, w)| *error += w);
    Encoded { bytes, stored }
}

vectorised! {
    /// All passes over some rows.
    fn search<const L: usize>(tile: &mut Tile<'_, L>) {
        tile.first_pass();
        for _ in 0..PASSES {
            tile.improve();
        }
    }
}

/// Some rows of the matrix.
struct Tile<'a, const L: usize> {
    grid: &'a Grid,
    factors: &'a Factors<L>,
    rows: usize,
    /// `[rows, N]`
    weights: &'a [f32],
    /// `[rows, N]`
    errors: &'a mut [f32],
    /// `[rows, N / block]`
    parts: Vec<Parts>,
}

impl<'a, const L: usize> Tile<'a, L> {
    fn new(
        grid: &'a Grid,
        factors: &'a Factors<L>,
        weights: &'a [f32],
        errors: &'a mut [f32],
    ) -> Self {
        let rows = weights.len() / factors.width;
        let parts = vec![Parts::default(); weights.len() / grid.block_len()];
        Tile { grid, factors, rows, weights, errors, parts }
    }

    /// LDLQ, block after block.
    #[inline(always)]
    fn first_pass(&mut self) {
        let (n, block) = (self.factors.width, self.grid.block_len());
        for start in (0..n).step_by(block) {
            let feedback = self.feedback(start); // [rows, block]
            for row in 0..self.rows {
                let at = row * n + start;
                let metric = BlockMetric {
                    groups: &self.factors.whole[start / L..(start + block) / L],
                    across: &self.factors.unit,
                    stride: n,
                    first: start,
                };
                let target = BlockTarget {
                    weights: &self.weights[at..at + block],
                    feedback: &feedback[row * block..][..block],
                };
                let result = encode(self.grid, &metric, &target);
                self.errors[at..at + block].copy_from_slice(&result.errors[..block]);
                self.parts[at / block] = result.parts;
            }
        }
    }

    /// `ζ_j = Σ_{i<start} e_i U_ij` of the block's columns, `[rows, block]`.
    #[inline(always)]
    fn feedback(&self, start: usize) -> Vec<f32> {
        let (n, block) = (self.factors.width, self.grid.block_len());
        if start == 0 {
            return vec![0.0; self.rows * block];
        }
        let errors = Rows::strided(self.errors, self.rows, start, n);
        product(errors, Rows::strided(&self.factors.unit[start * n..], block, start, n))
    }

    /// One pass over all groups.
    #[inline(always)]
    fn improve(&mut self) {
        let n = self.factors.width;
        for start in (0..n).step_by(L) {
            let h = Rows::strided(&self.factors.h[start * n..], L, n, n);
            let slopes = product(Rows::new(self.errors, n), h); // [rows, L]
            for row in 0..self.rows {
                self.improve_group(row, start, &slopes[row * L..][..L]);
            }
        }
    }

    /// `slope` is `(e H)_j` for the group's columns.
    #[inline(always)]
    fn improve_group(&mut self, row: usize, start: usize, slope: &[f32]) {
        let (n, block) = (self.factors.width, self.grid.block_len());
        let metric = &self.factors.alone[start / L];
        let at = row * n + start;
        let group = start % block / L;
        let mut errors = [0.0; L];
        errors.copy_from_slice(&self.errors[at..at + L]);
        let mut weights = [0.0; L];
        weights.copy_from_slice(&self.weights[at..at + L]);
        let target =
            Target { weights, feedback: self.asked_by_others(start, slope, &errors, metric) };
        let before = metric.cost(&target, &errors);

        let old = &self.parts[at / block];
        let mut new = Parts { codes: [0; MAX_BLOCK], ..*old };
        let codes = start % block..start % block + L;
        let rounded = match self.grid.scale {
            ScaleGrid::Steps { .. } => best_steps(self.grid, metric, &target, &mut new, group),
            ScaleGrid::Free => {
                let mut values = [0.0; L];
                for (value, &code) in values.iter_mut().zip(&old.codes[codes.clone()]) {
                    *value = self.grid.codebook.value(code);
                }
                let pair = (old.scale, old.min);
                let (pair, rounded) = best_free(self.grid, metric, &target, pair, &values);
                (new.scale, new.min) = pair;
                rounded
            }
        };
        if rounded.cost < before * (1.0 - 1e-6) {
            self.errors[at..at + L].copy_from_slice(&rounded.errors);
            let parts = &mut self.parts[at / block];
            let mut all = parts.codes;
            all[codes].copy_from_slice(&rounded.codes);
            *parts = Parts { codes: all, ..new };
        }
    }

    /// `ζ` of a group, from all other columns of its row.
    #[inline(always)]
    fn asked_by_others(
        &self,
        start: usize,
        slope: &[f32],
        errors: &[f32; L],
        metric: &Metric<L>,
    ) -> [f32; L] {
        let n = self.factors.width;
        let mut others = [0.0; L];
        others.copy_from_slice(slope);
        for (i, error) in errors.iter().enumerate() {
            let own = &self.factors.h[(start + i) * n + start..][..L];
            for j in 0..L {
                others[j] -= error * own[j];
            }
        }
        metric.feedback(&others)
    }

    fn pack(&self, bytes: &mut [u8]) {
        let size = self.grid.tensor_type.block_bytes();
        for (parts, out) in self.parts.iter().zip(bytes.chunks_exact_mut(size)) {
            self.grid.pack(parts, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use gguf::{TensorType, blocks};

    use super::*;
    use crate::search::dense::Dense;

    const WIDTH: usize = 512;
    const ROWS: usize = 40;

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        // The sum of four is close enough to a normal distribution.
        (0..n).map(|_| next() + next() + next() + next()).collect()
    }

    /// Moments of correlated inputs: a few directions have most of their energy.
    fn moments() -> Dense {
        let (directions, noise) = (numbers(24 * WIDTH, 3), numbers(300 * WIDTH, 4));
        let mix = numbers(300 * 24, 5);
        // By input, so that the sums below read neighbours.
        let x = Dense::from_fn(WIDTH, 300, |j, t| {
            let common: f32 = (0..24).map(|d| mix[24 * t + d] * directions[WIDTH * d + j]).sum();
            f64::from(common + noise[WIDTH * t + j])
        });
        let row = |j: usize| &x.data[300 * j..][..300];
        Dense::from_fn(WIDTH, WIDTH, |i, j| row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum())
    }

    fn searched(tensor_type: TensorType, weights: &[f32]) -> Encoded {
        let grid = Grid::of(tensor_type).unwrap();
        match grid.group_len {
            16 => encode_matrix(&grid, &Factors::<16>::new(moments()).unwrap(), weights),
            _ => encode_matrix(&grid, &Factors::<32>::new(moments()).unwrap(), weights),
        }
    }

    /// `Σ e H eᵀ` with the damping of the factors.
    fn cost(stored: &[f32], weights: &[f32]) -> f64 {
        let errors: Vec<f32> = stored.iter().zip(weights).map(|(s, w)| s - w).collect();
        let h = Factors::<32>::new(moments()).unwrap().h;
        let slopes = product(Rows::new(&errors, WIDTH), Rows::new(&h, WIDTH));
        slopes.iter().zip(&errors).map(|(&s, &e)| f64::from(s) * f64::from(e)).sum()
    }

    fn quantized() -> impl Iterator<Item = TensorType> {
        TensorType::ALL.into_iter().filter(|t| t.is_quantized())
    }

    #[test]
    fn what_is_stored_is_what_was_searched_for() {
        let weights = numbers(ROWS * WIDTH, 1);
        for tensor_type in quantized() {
            let encoded = searched(tensor_type, &weights);
            let mut read = vec![0.0; weights.len()];
            blocks::dequantize(tensor_type, &encoded.bytes, &mut read).unwrap();
            for (r, s) in read.iter().zip(&encoded.stored) {
                assert!((r - s).abs() < 1e-5, "{tensor_type}: {r} {s}");
            }
        }
    }

    /// The purpose of the search: outputs change less than when each block is rounded separately,
    /// even if ggml has the weights of the columns.
    #[test]
    fn outputs_change_less_than_with_rounding_alone() {
        let weights = numbers(ROWS * WIDTH, 2);
        let h = moments();
        let importance: Vec<f32> = (0..WIDTH).map(|j| h[(j, j)] as f32).collect();
        for tensor_type in quantized() {
            let mut bytes =
                vec![0; weights.len() / tensor_type.block_len() * tensor_type.block_bytes()];
            blocks::quantize(tensor_type, &weights, WIDTH, Some(&importance), &mut bytes).unwrap();
            let mut read = vec![0.0; weights.len()];
            blocks::dequantize(tensor_type, &bytes, &mut read).unwrap();
            let ours = cost(&searched(tensor_type, &weights).stored, &weights);
            let alone = cost(&read, &weights);
            assert!(ours < 0.5 * alone, "{tensor_type}: {ours} against {alone}");
        }
    }

    /// Numbers of the tile's passes are compared, so a difference in one bit would show in many
    /// codes.
    #[test]
    fn instruction_sets_change_nothing() {
        let weights = numbers(ROWS * WIDTH, 7);
        for tensor_type in quantized() {
            let grid = Grid::of(tensor_type).unwrap();
            let run = |isa| match grid.group_len {
                16 => encode_with(isa, &grid, &Factors::<16>::new(moments()).unwrap(), &weights),
                _ => encode_with(isa, &grid, &Factors::<32>::new(moments()).unwrap(), &weights),
            };
            let expected = run(Isa::with_vectors()[0]);
            for &isa in Isa::with_vectors() {
                assert!(run(isa).bytes == expected.bytes, "{tensor_type}, {isa:?}");
            }
        }
    }

    #[test]
    fn threads_change_nothing() {
        let weights = numbers(3 * TILE * WIDTH, 6);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| searched(TensorType::Q3_K, &weights).bytes)
        };
        assert!(on(1) == on(3));
    }

    #[test]
    fn zeros_stay_zeros_and_huge_weights_do_not_panic() {
        for tensor_type in quantized() {
            let encoded = searched(tensor_type, &[0.0; 2 * WIDTH]);
            let mut read = vec![1.0; 2 * WIDTH];
            blocks::dequantize(tensor_type, &encoded.bytes, &mut read).unwrap();
            assert!(read.iter().all(|&w| w == 0.0), "{tensor_type}");
            // Scales that are not 16-bit floats are rejected when the file is written.
            searched(tensor_type, &[3e38; WIDTH]);
            searched(tensor_type, &[1e-40; WIDTH]);
        }
    }
}
