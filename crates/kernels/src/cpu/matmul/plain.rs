//! The inner loop in plain Rust: for processors without bf16 products, and to test the others by.

use super::pack::{TILE, TILE_DEPTH};
use super::{Operands, SQUARE, Square};

fn widen(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// Computes one square.
///
/// # Safety
/// `corner` must be the start of a writable square whose rows are `stride` numbers apart.
#[inline(always)]
pub(super) unsafe fn square(operands: Operands<'_>, corner: *mut f32, stride: usize, add: bool) {
    let mut sums: Square = [[0.0; SQUARE]; SQUARE];
    for (i, a) in operands.a.iter().enumerate() {
        for (j, b) in operands.b.iter().enumerate() {
            for (a, b) in a.iter().zip(*b) {
                for row in 0..TILE {
                    let sums = &mut sums[i * TILE + row][j * TILE..(j + 1) * TILE];
                    for depth in 0..TILE_DEPTH {
                        let x = widen(a.0[row * TILE_DEPTH + depth]);
                        let pairs = &b.0[depth / 2 * 2 * TILE..][..2 * TILE];
                        for (sum, pair) in sums.iter_mut().zip(pairs.chunks_exact(2)) {
                            *sum += x * widen(pair[depth % 2]);
                        }
                    }
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
