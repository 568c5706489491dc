//! The inner loop in plain Rust: for processors without AVX2, and to test the other inner loops.

use super::pack::{TILE, TILE_DEPTH, Tile, widen};
use super::{Operands, SQUARE, Square, pairs_of_parts};
use isa::{Isa, vectorised};

/// Computes one square.
///
/// # Safety
/// `corner` must be the start of a writable square whose rows are `stride` numbers apart.
pub(super) unsafe fn square<const P: usize>(
    isa: Isa,
    operands: Operands<'_, P>,
    corner: *mut f32,
    stride: usize,
    add: bool,
) {
    let mut sums: Square = [[0.0; SQUARE]; SQUARE];
    add_square(isa, operands, &mut sums);
    for (row, sums) in sums.iter().enumerate() {
        for (column, &sum) in sums.iter().enumerate() {
            // SAFETY: the caller guarantees 32 rows of 32 numbers, `stride` apart, which may be
            // read if they are added to.
            unsafe {
                let out = corner.add(row * stride + column);
                out.write(if add { out.read() + sum } else { sum });
            }
        }
    }
}

vectorised! {
    fn add_square<const P: usize>(operands: Operands<'_, P>, sums: &mut Square) {
        for (i, a) in operands.a.iter().enumerate() {
            for (j, b) in operands.b.iter().enumerate() {
                for (a, b) in a.iter().zip(*b) {
                    for (p, q) in pairs_of_parts::<P>() {
                        add_tile(&a[p], &b[q], &mut sums[i * TILE..][..TILE], j * TILE);
                    }
                }
            }
        }
    }
}

/// Adds the product of two tiles to 16 columns of 16 rows of sums.
#[inline(always)]
fn add_tile(a: &Tile, b: &Tile, sums: &mut [[f32; SQUARE]], column: usize) {
    for (row, sums) in sums.iter_mut().enumerate() {
        let mut line = [0.0; TILE];
        line.copy_from_slice(&sums[column..column + TILE]);
        for pair in 0..TILE_DEPTH / 2 {
            let at = row * TILE_DEPTH + 2 * pair;
            let x = [widen(a.0[at]), widen(a.0[at + 1])];
            let y = &b.0[pair * 2 * TILE..][..2 * TILE];
            for c in 0..TILE {
                line[c] += x[0] * widen(y[2 * c]) + x[1] * widen(y[2 * c + 1]);
            }
        }
        sums[column..column + TILE].copy_from_slice(&line);
    }
}
