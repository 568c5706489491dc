//! The inner loop in plain Rust: for processors without bf16 products, and to test the others by.

use super::pack::{TILE, TILE_DEPTH, Tile, widen};
use super::{Operands, SQUARE, Square, pairs_of_parts};

/// Computes one square.
///
/// # Safety
/// `corner` must be the start of a writable square whose rows are `stride` numbers apart.
#[inline(always)]
pub(super) unsafe fn square<const P: usize>(
    operands: Operands<'_, P>,
    corner: *mut f32,
    stride: usize,
    add: bool,
) {
    let mut sums: Square = [[0.0; SQUARE]; SQUARE];
    for (i, a) in operands.a.iter().enumerate() {
        for (j, b) in operands.b.iter().enumerate() {
            for (a, b) in a.iter().zip(*b) {
                for (p, q) in pairs_of_parts::<P>() {
                    add_tile(&a[p], &b[q], &mut sums[i * TILE..][..TILE], j * TILE);
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (column, &sum) in sums.iter().enumerate() {
            // SAFETY: the caller promises 32 rows of 32 numbers, `stride` apart, which may be
            // read where they are added to.
            unsafe {
                let out = corner.add(row * stride + column);
                out.write(if add { out.read() + sum } else { sum });
            }
        }
    }
}

/// Adds the product of two tiles to 16 columns of 16 rows of sums.
#[inline(always)]
fn add_tile(a: &Tile, b: &Tile, sums: &mut [[f32; SQUARE]], column: usize) {
    for (row, sums) in sums.iter_mut().enumerate() {
        let mut line: [f32; TILE] = std::array::from_fn(|c| sums[column + c]);
        for pair in 0..TILE_DEPTH / 2 {
            let x = [0, 1].map(|i| widen(a.0[row * TILE_DEPTH + 2 * pair + i]));
            let y = &b.0[pair * 2 * TILE..][..2 * TILE];
            for c in 0..TILE {
                line[c] += x[0] * widen(y[2 * c]) + x[1] * widen(y[2 * c + 1]);
            }
        }
        sums[column..column + TILE].copy_from_slice(&line);
    }
}
