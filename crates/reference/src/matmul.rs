//! The one hot loop: `y = x Wᵀ`, with both operands as rows.
//!
//! GGUF stores a matrix as rows of `[out, in]`, so every output is the dot product of two
//! contiguous rows. A tile of `M × N` outputs is summed in `M · N` vector registers at once, which
//! reads `M + N` vectors for every `M · N` multiplications. Each output is
//!
//! ```text
//! y[i, j] = Σ_blocks Σ_lanes Σ_steps  x[i, k] · w[j, k],   k = block · 1024 + step · 16 + lane
//! ```
//!
//! Steps are summed with fused multiply-adds (one rounding each), lanes in the tree of
//! `lanes::Lanes::sum`. Every instruction set computes exactly this, whatever the width of its
//! registers (`lanes`), so a result has the same bits on every machine; nor does it depend on the
//! tile of an output, the number of rows or the number of threads. Summing in lanes and blocks also
//! keeps the rounding error close to that of pairwise summation.
//!
//! Blocking after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication"
//! (2008), without packing, since rows of weights are contiguous already.

use isa::Isa;
use rayon::prelude::*;

use crate::matmul::lanes::{LANES, Lanes};

mod lanes;

/// Numbers of a row that are summed before the next block starts: a tile of rows of this length
/// stays in the first-level cache.
pub const BLOCK: usize = 1024;

/// Rows of `x` that one task multiplies with all of `w`.
const TASK_ROWS: usize = 96;

/// Rows of `w` that one task multiplies with all of `x`, if `x` has few rows.
const TASK_COLUMNS: usize = 64;

/// A matrix whose rows are contiguous, possibly with gaps between them.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `columns` numbers, one directly after the other.
    ///
    /// # Panics
    /// When `data` is not a whole number of rows.
    pub fn new(data: &'a [f32], columns: usize) -> Self {
        assert!(columns > 0 && data.len().is_multiple_of(columns), "ragged matrix");
        Rows { data, rows: data.len() / columns, columns, stride: columns }
    }

    /// `rows` rows of `columns` numbers whose starts are `stride` numbers apart.
    ///
    /// # Panics
    /// When `data` ends before the last row does.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * stride + columns <= data.len(), "matrix beyond its data");
        Rows { data, rows, columns, stride }
    }

    /// The rows from `first` on, at most `count` of them.
    fn part(self, first: usize, count: usize) -> Self {
        let count = count.min(self.rows - first);
        Rows { data: &self.data[first * self.stride..], rows: count, ..self }
    }

    fn row(&self, i: usize, from: usize, len: usize) -> &'a [f32] {
        let start = i * self.stride + from;
        &self.data[start..start + len]
    }
}

/// Where products are added: element `(i, j)` is at `i · down + j · across`.
struct Sums<'a> {
    data: &'a mut [f32],
    down: usize,
    across: usize,
}

impl Sums<'_> {
    #[inline(always)]
    fn add<const M: usize, const N: usize>(&mut self, i: usize, j: usize, tile: [[f32; N]; M]) {
        for (m, row) in tile.iter().enumerate() {
            for (n, value) in row.iter().enumerate() {
                self.data[(i + m) * self.down + (j + n) * self.across] += value;
            }
        }
    }
}

/// `x Wᵀ + b` over all threads: `x` is `[T, in]`, `w` is `[out, in]`, the result `[T, out]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn linear(x: Rows<'_>, w: Rows<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    assert_eq!(x.columns, w.columns, "x and w: number of columns");
    assert!(bias.is_none_or(|b| b.len() == w.rows), "bias: one for each row of w");
    let (rows, out) = (x.rows, w.rows);
    if rows == 0 || out == 0 {
        return Vec::new();
    }
    if rows > 4 * rayon::current_num_threads() {
        let mut y = vec![0.0; rows * out];
        let task_rows = rows.div_ceil(rayon::current_num_threads()).min(TASK_ROWS);
        y.par_chunks_mut(task_rows * out).enumerate().for_each(|(task, y)| {
            if let Some(bias) = bias {
                y.chunks_exact_mut(out).for_each(|row| row.copy_from_slice(bias));
            }
            let x = x.part(task * task_rows, task_rows);
            add_product(x, w, Sums { data: y, down: out, across: 1 });
        });
        y
    } else {
        // Too few rows for parallel tasks: divide the weights, and transpose the result at the end.
        let mut transposed = vec![0.0; out * rows];
        transposed.par_chunks_mut(TASK_COLUMNS * rows).enumerate().for_each(|(task, y)| {
            if let Some(bias) = bias {
                let bias = &bias[task * TASK_COLUMNS..];
                y.chunks_exact_mut(rows).zip(bias).for_each(|(column, &b)| column.fill(b));
            }
            let w = w.part(task * TASK_COLUMNS, TASK_COLUMNS);
            add_product(x, w, Sums { data: y, down: 1, across: rows });
        });
        if rows == 1 { transposed } else { transpose(&transposed, rows) }
    }
}

/// `x Wᵀ` on this thread: `x` is `[M, in]`, `w` is `[N, in]`, the result `[M, N]`.
///
/// # Panics
/// When the numbers of columns differ.
pub fn product(x: Rows<'_>, w: Rows<'_>) -> Vec<f32> {
    assert_eq!(x.columns, w.columns, "x and w: number of columns");
    let mut y = vec![0.0; x.rows * w.rows];
    add_product(x, w, Sums { data: &mut y, down: w.rows, across: 1 });
    y
}

/// Adds `x Wᵀ`, `[M, N]`, to `y` on this thread; the rows of `y` are `stride` numbers apart.
///
/// # Panics
/// When the numbers of columns differ, or `y` has fewer rows or shorter ones.
pub fn add_product_to(x: Rows<'_>, w: Rows<'_>, y: &mut [f32], stride: usize) {
    assert_eq!(x.columns, w.columns, "x and w: number of columns");
    assert!(w.rows <= stride, "rows of {} sums every {stride} numbers", w.rows);
    add_product(x, w, Sums { data: y, down: stride, across: 1 });
}

/// Transposes rows of `columns` numbers.
fn transpose(data: &[f32], columns: usize) -> Vec<f32> {
    let rows = data.len() / columns;
    let mut transposed = Vec::with_capacity(data.len());
    for column in 0..columns {
        transposed.extend((0..rows).map(|row| data[row * columns + column]));
    }
    transposed
}

/// Adds `x Wᵀ` to `y` with the widest registers that this processor has.
fn add_product(x: Rows<'_>, w: Rows<'_>, y: Sums<'_>) {
    add_product_with(Isa::vectors(), x, w, y);
}

fn add_product_with(isa: Isa, x: Rows<'_>, w: Rows<'_>, y: Sums<'_>) {
    match isa.level() {
        // SAFETY: an `Isa` exists only for detected instructions, and this level has AVX-512F, DQ
        // and VL, which are all that the function requires.
        #[cfg(target_arch = "x86_64")]
        level if level >= isa::Level::Avx512 => unsafe { add_product_avx512(x, w, y) },
        // SAFETY: likewise, with AVX2 and FMA.
        #[cfg(target_arch = "x86_64")]
        isa::Level::Avx2 => unsafe { add_product_avx2(x, w, y) },
        _ => add_product_in::<lanes::Portable, 2, 4>(x, w, y),
    }
}

/// 24 sums in 32 registers of 16 lanes. The compiler uses the upper 16 registers only if VL is
/// enabled too; without them this is half as fast.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn add_product_avx512(x: Rows<'_>, w: Rows<'_>, y: Sums<'_>) {
    add_product_in::<lanes::Avx512, 6, 4>(x, w, y);
}

/// 12 sums of 8 lanes in 16 registers, twice.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn add_product_avx2(x: Rows<'_>, w: Rows<'_>, y: Sums<'_>) {
    add_product_in::<lanes::Avx2, 3, 4>(x, w, y);
}

/// Adds `x Wᵀ` to `y` in tiles of `M × N`; the edges are computed one row at a time.
///
/// The processor must have the instructions of `L`; callers check this.
#[inline(always)]
fn add_product_in<L: Lanes, const M: usize, const N: usize>(
    x: Rows<'_>,
    w: Rows<'_>,
    mut y: Sums<'_>,
) {
    let (whole_rows, whole_columns) = (x.rows - x.rows % M, w.rows - w.rows % N);
    for from in (0..x.columns).step_by(BLOCK) {
        let len = BLOCK.min(x.columns - from);
        for j in (0..whole_columns).step_by(N) {
            let wj: [&[f32]; N] = std::array::from_fn(|n| w.row(j + n, from, len));
            for i in (0..whole_rows).step_by(M) {
                let xi: [&[f32]; M] = std::array::from_fn(|m| x.row(i + m, from, len));
                y.add(i, j, tile::<L, M, N>(xi, wj, len));
            }
            for i in whole_rows..x.rows {
                y.add(i, j, tile::<L, 1, N>([x.row(i, from, len)], wj, len));
            }
        }
        for j in whole_columns..w.rows {
            for i in 0..x.rows {
                y.add(i, j, tile::<L, 1, 1>([x.row(i, from, len)], [w.row(j, from, len)], len));
            }
        }
    }
}

/// The dot products of `M` rows with `N` rows, each `len` long.
#[inline(always)]
fn tile<L: Lanes, const M: usize, const N: usize>(
    x: [&[f32]; M],
    w: [&[f32]; N],
    len: usize,
) -> [[f32; N]; M] {
    let first = part_of_tile::<L, M, N>(x, w, len, 0);
    let mut products = [[0.0; N]; M];
    if L::WIDTH == LANES {
        for m in 0..M {
            for n in 0..N {
                // SAFETY: callers checked that the processor has the instructions of `L`.
                products[m][n] = unsafe { L::sum(first[m][n]) };
            }
        }
        return products;
    }
    // A register has half of the lanes, and the sums of both halves do not fit into the registers.
    let second = part_of_tile::<L, M, N>(x, w, len, L::WIDTH);
    for m in 0..M {
        for n in 0..N {
            // SAFETY: as above.
            products[m][n] = unsafe { L::sum(L::add(first[m][n], second[m][n])) };
        }
    }
    products
}

/// The sums of the lanes from `first` on, `L::WIDTH` of them.
#[inline(always)]
fn part_of_tile<L: Lanes, const M: usize, const N: usize>(
    x: [&[f32]; M],
    w: [&[f32]; N],
    len: usize,
    first: usize,
) -> [[L; N]; M] {
    debug_assert!(x.iter().chain(&w).all(|row| row.len() == len) && first + L::WIDTH <= LANES);
    // SAFETY: callers checked that the processor has the instructions of `L`. All rows are `len`
    // long, so the `WIDTH` numbers from `k + first` on lie within them while `k + LANES <= len`.
    //
    // Loops instead of closures: a closure is not compiled for the instructions of `L`, and a call
    // to a closure that captures `sums` keeps all of it in memory.
    unsafe {
        let mut sums = [[L::zero(); N]; M];
        let whole = len - len % LANES;
        let mut k = 0;
        while k < whole {
            let mut xk = [L::zero(); M];
            for m in 0..M {
                xk[m] = L::load(x[m].as_ptr().add(k + first));
            }
            for n in 0..N {
                let wk = L::load(w[n].as_ptr().add(k + first));
                for m in 0..M {
                    sums[m][n] = L::multiply_add(xk[m], wk, sums[m][n]);
                }
            }
            k += LANES;
        }
        if whole + first < len {
            for n in 0..N {
                let wk = L::load_part(&w[n][whole + first..]);
                for m in 0..M {
                    let xk = L::load_part(&x[m][whole + first..]);
                    sums[m][n] = L::multiply_add(xk, wk, sums[m][n]);
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pseudo-random numbers between -1 and 1 (the generator is Knuth's MMIX).
    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn in_f64(x: &[f32], w: &[f32], columns: usize, bias: &[f32]) -> Vec<f64> {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        x.chunks(columns)
            .flat_map(|x| w.chunks(columns).zip(bias).map(move |(w, &b)| dot(x, w) + f64::from(b)))
            .collect()
    }

    #[test]
    fn every_shape_agrees_with_a_sum_in_f64() {
        for (rows, columns, out) in
            [(1, 1, 1), (1, 16, 5), (2, 17, 3), (7, 48, 144), (13, 1024, 9), (97, 1500, 66)]
        {
            let (x, w) = (numbers(rows * columns, 1), numbers(out * columns, 2));
            let bias = numbers(out, 3);
            let y = linear(Rows::new(&x, columns), Rows::new(&w, columns), Some(&bias));
            for (y, expected) in y.iter().zip(in_f64(&x, &w, columns, &bias)) {
                // Sums of 1500 products sometimes have an error of 1e-5.
                assert!((f64::from(*y) - expected).abs() < 3e-5, "{rows} {columns} {out}");
            }
        }
    }

    /// The definition at the top of this module, one output at a time.
    fn by_definition(x: &[f32], w: &[f32]) -> f32 {
        let mut y = 0.0;
        for (x, w) in x.chunks(BLOCK).zip(w.chunks(BLOCK)) {
            let mut lanes = [0.0_f32; 16];
            for (k, (&x, &w)) in x.iter().zip(w).enumerate() {
                lanes[k % 16] = x.mul_add(w, lanes[k % 16]);
            }
            for half in [8, 4, 2, 1] {
                (0..half).for_each(|lane| lanes[lane] += lanes[lane + half]);
            }
            y += lanes[0];
        }
        y
    }

    #[test]
    fn every_instruction_set_gives_the_bits_of_the_definition() {
        for columns in [1, 15, 16, 17, 1024, 1111, 2500] {
            let (mut x, w) = (numbers(11 * columns, 4), numbers(10 * columns, 5));
            // Sizes that differ: each rounding shows.
            x.iter_mut().enumerate().for_each(|(i, x)| *x *= [1e-4, 1.0, 300.0][i % 3]);
            let expected: Vec<u32> = x
                .chunks(columns)
                .flat_map(|x| w.chunks(columns).map(|w| by_definition(x, w).to_bits()))
                .collect();
            for &isa in Isa::with_vectors() {
                let mut y = vec![0.0; 110];
                let sums = Sums { data: &mut y, down: 10, across: 1 };
                add_product_with(isa, Rows::new(&x, columns), Rows::new(&w, columns), sums);
                let found: Vec<u32> = y.iter().map(|y| y.to_bits()).collect();
                assert_eq!(found, expected, "{isa:?}, {columns} columns");
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let (x, w) = (numbers(100 * 70, 6), numbers(33 * 70, 7));
        let all = linear(Rows::new(&x, 70), Rows::new(&w, 70), None);
        for (i, row) in x.chunks(70).enumerate() {
            let alone = linear(Rows::new(row, 70), Rows::new(&w, 70), None);
            assert_eq!(alone, all[i * 33..(i + 1) * 33]);
        }
    }

    #[test]
    fn zeros_after_the_end_change_nothing() {
        // A cached pass relies on this: weights of future positions are zero, not absent.
        let (mut x, w) = (numbers(40, 8), numbers(40, 9));
        x[19..].fill(0.0);
        let short = product(Rows::new(&x[..19], 19), Rows::new(&w[..19], 19));
        let long = product(Rows::new(&x, 40), Rows::new(&w, 40));
        assert_eq!(short, long);
    }

    #[test]
    #[should_panic(expected = "matrix beyond its data")]
    fn a_view_cannot_leave_its_data() {
        Rows::strided(&[0.0; 10], 3, 4, 4);
    }
}
