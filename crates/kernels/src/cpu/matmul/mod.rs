//! `C[M, N] = A[M, K] B[K, N]` with operands rounded to bf16 and sums in f32; and products in f32
//! with the same instructions ([`split`]).
//!
//! PyTorch's autocast computes the same: each product of two bf16 numbers is exact in f32, and the
//! sums are f32, so the only loss is the rounding of the operands (relative 2^-9 each).
//!
//! The output is cut into squares of 32 x 32 ([`pack::TILE`] twice in each direction). The tile
//! registers hold the sums of one square and use each operand tile that they read for two tiles of
//! outputs; vector registers hold a quarter of a square. The depth is cut into blocks, so that A's
//! block stays in the second-level cache while B is read.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod pack;
#[cfg(target_arch = "x86_64")]
mod pack_avx512;
mod plain;
mod right;
pub mod split;

use std::ops::Range;

use rayon::prelude::*;

use isa::{Isa, Level};
use pack::{Matrix, Packed, TILE, Tile};
use right::Right;

/// Side of the square of outputs that one call of an inner loop computes.
const SQUARE: usize = 2 * TILE;
/// Tiles along the depth before the sums are written back to memory: with 512 rows, A's block takes
/// three quarters of a second-level cache of 1 MiB. With three parts it takes a little more than
/// 1 MiB; these are used on processors with 2 MiB.
const fn depth_block<const P: usize>() -> usize {
    if P == 1 { 24 } else { 12 }
}

/// Neighbouring squares whose columns of B are packed together: 512 bytes of each row.
const PANEL: usize = 4;

/// Squares times tiles of depth up to which one thread is faster than several.
const WORTH_SHARING: usize = 512;

/// A square of outputs, row by row.
type Square = [[f32; SQUARE]; SQUARE];

/// The tiles of one square: two strips of A, two of B, equally deep.
#[derive(Clone, Copy)]
struct Operands<'a, const P: usize> {
    a: [&'a [[Tile; P]]; 2],
    b: [&'a [[Tile; P]]; 2],
}

/// The parts of A and of B whose products are summed, smallest first: all whose weight is not below
/// that of the last part alone.
#[inline(always)]
fn pairs_of_parts<const P: usize>() -> impl Iterator<Item = (usize, usize)> {
    (0..P).rev().flat_map(|sum| (0..=sum).map(move |p| (p, sum - p)))
}

/// Whether a product replaces what is in the output, or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputMode {
    /// `C = A B`
    Replace,
    /// `C = C + A B`
    Add,
}

/// `A B`, `[M, N]` row by row, on all threads, with a right operand that is used once: each thread
/// packs the block that it needs next, so that the packed operand never exists as a whole.
///
/// Also returns the right operand's `Packed::largest`.
pub fn product_once<const P: usize>(isa: Isa, a: &Packed<P>, b: Matrix<'_>) -> (Vec<f32>, f32) {
    let len = outputs(a.width, b.columns());
    let mut out = Vec::with_capacity(len);
    // SAFETY: the capacity is [M, N], and every number is written and not read.
    let largest = unsafe {
        let largest = multiply_raw(isa, a, Right::Matrix(b), out.as_mut_ptr(), OutputMode::Replace);
        out.set_len(len);
        largest
    };
    (out, largest)
}

/// Multiplies packed operands into `out`, `[M, N]` row by row, on all threads.
pub fn multiply<const P: usize>(
    isa: Isa,
    a: &Packed<P>,
    b: &Packed<P>,
    out: &mut [f32],
    into: OutputMode,
) {
    assert_eq!(out.len(), outputs(a.width, b.width), "an output of [{}, {}]", a.width, b.width);
    // SAFETY: the slice is [M, N].
    unsafe { multiply_raw(isa, a, Right::Packed(b), out.as_mut_ptr(), into) };
}

/// Numbers of `[M, N]`.
pub(super) fn outputs(m: usize, n: usize) -> usize {
    match m.checked_mul(n) {
        Some(len) => len,
        None => panic!("an output of [{m}, {n}]"),
    }
}

/// Returns the largest absolute value of those numbers of B that it packed itself.
///
/// # Safety
/// `out` must be the start of `[M, N]` numbers that may be written, and read too if `into` adds.
unsafe fn multiply_raw<const P: usize>(
    isa: Isa,
    a: &Packed<P>,
    b: Right<'_, P>,
    out: *mut f32,
    into: OutputMode,
) -> f32 {
    let (m, (depth, n)) = (a.width, b.shape());
    assert_eq!(a.depth, depth, "the operands' inner lengths");
    if m == 0 || n == 0 {
        return 0.0;
    }
    let output = Output { start: out, rows: m, columns: n };
    let (row_squares, column_squares) = (m.div_ceil(SQUARE), n.div_ceil(SQUARE));
    if row_squares * column_squares * a.tiles_deep() * P * P <= WORTH_SHARING {
        // SAFETY: a single thread computes all squares.
        return unsafe { output.update_all(isa, a, b, 0..row_squares, 0..column_squares, into) };
    }
    // Each thread gets some columns, so that B is read once, and A by all threads. With few
    // columns, the rows are divided too.
    let parts = 4 * rayon::current_num_threads();
    let column_parts = column_squares.min(parts);
    let row_parts = parts.div_ceil(column_parts).min(row_squares);
    let parts = (0..column_parts * row_parts).into_par_iter().with_max_len(1).map(|part| {
        let columns = share(column_squares, column_parts, part / row_parts);
        let rows = share(row_squares, row_parts, part % row_parts);
        // SAFETY: the parts' squares are disjoint.
        unsafe { output.update_all(isa, a, b, rows, columns, into) }
    });
    parts.reduce(|| 0.0, larger)
}

/// The larger of two absolute values; NaN counts as the largest.
fn larger(x: f32, y: f32) -> f32 {
    f32::from_bits(x.to_bits().max(y.to_bits()))
}

/// The `index`-th of `parts` nearly equal shares of `0..total`.
fn share(total: usize, parts: usize, index: usize) -> Range<usize> {
    total * index / parts..total * (index + 1) / parts
}

/// The output; threads write disjoint squares of it.
struct Output {
    start: *mut f32,
    rows: usize,
    columns: usize,
}

// SAFETY: `multiply_raw` gives every square to exactly one thread and waits for all of them.
unsafe impl Sync for Output {}

impl Output {
    /// Computes the squares of some rows and columns, one block of depths after the other; returns
    /// the largest absolute value of what it packed.
    ///
    /// # Safety
    /// As for [`Output::update`], for all these squares.
    unsafe fn update_all<const P: usize>(
        &self,
        isa: Isa,
        a: &Packed<P>,
        b: Right<'_, P>,
        rows: Range<usize>,
        columns: Range<usize>,
        into: OutputMode,
    ) -> f32 {
        let (deep, depth_block) = (a.tiles_deep(), depth_block::<P>());
        let mut largest = 0.0;
        for k in (0..deep).step_by(depth_block) {
            let depth = k..deep.min(k + depth_block);
            let add = k > 0 || into == OutputMode::Add;
            for first in columns.clone().step_by(PANEL) {
                let squares = first..columns.end.min(first + PANEL);
                let panel = b.panel(isa, depth.clone(), squares.clone());
                largest = larger(largest, panel.largest());
                for j in squares {
                    for i in rows.clone() {
                        let operands = Operands {
                            a: [2 * i, 2 * i + 1].map(|s| &a.strip(s)[depth.clone()]),
                            b: panel.strips(j),
                        };
                        // SAFETY: guaranteed by the caller.
                        unsafe { self.update(isa, operands, i * SQUARE, j * SQUARE, add) };
                    }
                }
            }
        }
        largest
    }

    /// Computes the square at (`row`, `column`).
    ///
    /// # Safety
    /// No other thread may be at the same square.
    unsafe fn update<const P: usize>(
        &self,
        isa: Isa,
        operands: Operands<'_, P>,
        row: usize,
        column: usize,
        add: bool,
    ) {
        let rows = (self.rows - row).min(SQUARE);
        let columns = (self.columns - column).min(SQUARE);
        // SAFETY: row < rows and column < columns, so the corner is inside the output.
        let corner = unsafe { self.start.add(row * self.columns + column) };
        if rows == SQUARE && columns == SQUARE {
            // SAFETY: the whole square lies inside the output, whose rows are `columns` apart.
            unsafe { square(isa, operands, corner, self.columns, add) };
            return;
        }
        let mut whole: Square = [[0.0; SQUARE]; SQUARE];
        // SAFETY: the buffer is a whole square with rows SQUARE apart.
        unsafe { square(isa, operands, whole.as_mut_ptr().cast(), SQUARE, false) };
        for (r, line) in whole.iter().enumerate().take(rows) {
            for (c, &sum) in line.iter().enumerate().take(columns) {
                // SAFETY: rows and columns were clipped to the output's edges; a number that is
                // added to was written before, as the caller guarantees, or by an earlier block of
                // depths.
                unsafe {
                    let out = corner.add(r * self.columns + c);
                    out.write(if add { out.read() + sum } else { sum });
                }
            }
        }
    }
}

/// Computes one square into memory whose rows are `stride` numbers apart.
///
/// # Safety
/// The square must lie in memory that this thread may write, and read if it is added to.
unsafe fn square<const P: usize>(
    isa: Isa,
    operands: Operands<'_, P>,
    corner: *mut f32,
    stride: usize,
    add: bool,
) {
    match isa.level() {
        // SAFETY: the caller guarantees what each function requires.
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Level::Amx => unsafe { amx::square(operands, corner, stride, add) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Bf16 => unsafe { avx512::square(operands, corner, stride, add) },
        // SAFETY: as above; processors with AVX-512 have AVX2 and FMA.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx2 => unsafe { avx2::square(operands, corner, stride, add) },
        // SAFETY: as above.
        _ => unsafe { plain::square(isa, operands, corner, stride, add) },
    }
}

#[cfg(test)]
mod tests {
    use super::pack::round_to_bf16;
    use super::*;
    use crate::cpu::testing::noise;

    fn rounded(x: f32) -> f64 {
        f64::from(f32::from_bits(u32::from(round_to_bf16(x)) << 16))
    }

    /// The definition, computed in f64 from rounded operands.
    fn expected(a: &[f32], b: &[f32], m: usize, n: usize, k: usize) -> Vec<f64> {
        let mut out = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                out[i * n + j] =
                    (0..k).map(|d| rounded(a[i * k + d]) * rounded(b[d * n + j])).sum();
            }
        }
        out
    }

    fn transposed(data: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        let mut out = vec![0.0; data.len()];
        for r in 0..rows {
            for c in 0..columns {
                out[c * rows + r] = data[r * columns + c];
            }
        }
        out
    }

    /// Shapes `M, K, N`: odd ones, whole tiles, several blocks of depth, several panels.
    const SHAPES: [(usize, usize, usize); 9] = [
        (1, 1, 1),
        (3, 17, 33),
        (17, 1, 3),
        (16, 32, 16),
        (33, 33, 31),
        (32, 64, 96),
        (70, 1100, 45),
        (33, 1057, 300),
        (200, 70, 513),
    ];

    /// Largest error for a sum of `K` products of numbers below 1.
    fn assert_product(found: &[f32], exact: &[f64], scale: f64, k: usize, what: &str) {
        for (at, (&x, &y)) in found.iter().zip(exact).enumerate() {
            let error = (f64::from(x) - scale * y).abs();
            assert!(error < 1e-6 * (k + 1) as f64, "{what} at {at}: {x}, {}", scale * y);
        }
    }

    #[test]
    fn every_instruction_set_gives_the_product_on_odd_shapes() {
        for (m, k, n) in SHAPES {
            let (a, b) = (noise(m * k, 1), noise(k * n, 2));
            let exact = expected(&a, &b, m, n, k);
            let (at, bt) = (transposed(&a, m, k), transposed(&b, k, n));
            let lefts = [Matrix::new(&a, m, k), Matrix::new(&at, k, m).transpose()];
            let rights = [Matrix::new(&b, k, n), Matrix::new(&bt, n, k).transpose()];
            for &isa in Isa::available() {
                for (left, right) in lefts.into_iter().zip(rights) {
                    let what = format!("{isa:?} [{m}, {k}, {n}]");
                    let (a, b) = (Packed::<1>::left(isa, left), Packed::<1>::right(isa, right));
                    let mut out = vec![f32::NAN; m * n];
                    multiply(isa, &a, &b, &mut out, OutputMode::Replace);
                    assert_product(&out, &exact, 1.0, k, &what);
                    let (once, _) = product_once(isa, &a, right);
                    assert_eq!(once, out, "{what}, packed block by block");
                    multiply(isa, &a, &b, &mut out, OutputMode::Add);
                    assert_product(&out, &exact, 2.0, k, &what);
                }
            }
        }
    }
}
