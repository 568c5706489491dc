//! The inner loop on 256-bit registers (AVX2 and FMA), for processors without products of bf16.
//!
//! A bf16 is the upper half of an f32, so a product of two of them is one of f32. [`CHUNK`] tiles of
//! depth are widened at a time, 16 KiB for both operands, which stay in the first-level cache; each
//! number is widened once for 32 products. Then the sums of six rows (or five: a tile has 16) by 16
//! columns are in twelve registers, and two registers of B are multiplied with each broadcast number
//! of A.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::pack::{TILE, TILE_DEPTH, Tile};
use super::{Operands, SQUARE};

/// Tiles of depth that are widened together.
const CHUNK: usize = 2;
const DEPTH: usize = CHUNK * TILE_DEPTH;
/// Numbers in a register.
const LANES: usize = 8;

/// Both operands of a square in f32, for one chunk of depth.
#[repr(C, align(64))]
struct Wide {
    /// `[32 rows][64 depths]`
    a: [[MaybeUninit<f32>; DEPTH]; SQUARE],
    /// `[64 depths][32 columns]`
    b: [[MaybeUninit<f32>; SQUARE]; DEPTH],
}

/// Computes one square.
///
/// # Safety
/// `corner` must be the start of a writable square whose rows are `stride` numbers apart, and the
/// processor must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn square<const P: usize>(
    operands: Operands<'_, P>,
    corner: *mut f32,
    stride: usize,
    add: bool,
) {
    let none = MaybeUninit::uninit();
    let mut wide = Wide { a: [[none; DEPTH]; SQUARE], b: [[none; SQUARE]; DEPTH] };
    let mut add = add;
    let deep = operands.a[0].len();
    for first in (0..deep).step_by(CHUNK) {
        let tiles = first..deep.min(first + CHUNK);
        for (p, q) in super::pairs_of_parts::<P>() {
            for strip in 0..2 {
                for (at, tile) in tiles.clone().enumerate() {
                    widen_left(&operands.a[strip][tile][p], &mut wide.a[strip * TILE..], at);
                    let lines = &mut wide.b[at * TILE_DEPTH..][..TILE_DEPTH];
                    widen_right(&operands.b[strip][tile][q], lines, strip * TILE);
                }
            }
            let depth = tiles.len() * TILE_DEPTH;
            for strip in 0..2 {
                let top = strip * TILE;
                for column in [0, TILE] {
                    // SAFETY: the rows lie inside the square, and 6 + 5 + 5 are those of a strip;
                    // `depth` numbers of each row and column were written above.
                    unsafe {
                        let out = corner.add(top * stride + column);
                        rows::<6>(&wide, [top, column], depth, out, stride, add);
                        let out = out.add(6 * stride);
                        rows::<5>(&wide, [top + 6, column], depth, out, stride, add);
                        let out = out.add(5 * stride);
                        rows::<5>(&wide, [top + 11, column], depth, out, stride, add);
                    }
                }
            }
            add = true;
        }
    }
}

/// Writes the 16 rows of a tile of A to the `at`-th tile of depth of `rows`.
#[inline]
#[target_feature(enable = "avx2")]
fn widen_left(tile: &Tile, rows: &mut [[MaybeUninit<f32>; DEPTH]], at: usize) {
    for (row, line) in rows.iter_mut().zip(tile.0.as_chunks::<TILE_DEPTH>().0) {
        let row = row[at * TILE_DEPTH..][..TILE_DEPTH].as_chunks_mut::<LANES>().0;
        for (to, from) in row.iter_mut().zip(line.as_chunks::<LANES>().0) {
            // SAFETY: both are eight numbers, of 32 and of 16 bits.
            unsafe {
                let numbers = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().cast()));
                let wide = _mm256_slli_epi32::<16>(numbers);
                _mm256_storeu_si256(to.as_mut_ptr().cast(), wide);
            }
        }
    }
}

/// Writes the 16 columns of a tile of B to `lines`, one for each depth, from `column` on.
#[inline]
#[target_feature(enable = "avx2")]
fn widen_right(tile: &Tile, lines: &mut [[MaybeUninit<f32>; SQUARE]], column: usize) {
    let upper = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
    let pairs = tile.0.as_chunks::<{ 2 * TILE }>().0;
    for ([even, odd], pair) in lines.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
        for half in [0, LANES] {
            let (even, odd) = (&mut even[column + half..], &mut odd[column + half..]);
            let (even, odd) = (&mut even[..LANES], &mut odd[..LANES]);
            // SAFETY: eight columns are 16 numbers of the pair and eight of each line.
            unsafe {
                let two = _mm256_load_si256(pair[2 * half..][..2 * LANES].as_ptr().cast());
                _mm256_storeu_si256(even.as_mut_ptr().cast(), _mm256_slli_epi32::<16>(two));
                _mm256_storeu_si256(odd.as_mut_ptr().cast(), _mm256_and_si256(two, upper));
            }
        }
    }
}

/// The sums of `R` rows by 16 columns, from the row and the column `from` of the square on.
///
/// # Safety
/// `out` must be the start of `R` writable rows of 16 numbers, `stride` apart; the first `depth`
/// numbers of these rows and columns of `wide` must have been written.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn rows<const R: usize>(
    wide: &Wide,
    from: [usize; 2],
    depth: usize,
    out: *mut f32,
    stride: usize,
    add: bool,
) {
    let a = &wide.a[from[0]..][..R];
    let column = from[1];
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    if add {
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller guarantees the row.
            unsafe {
                let start = out.add(row * stride);
                *sums = [_mm256_loadu_ps(start), _mm256_loadu_ps(start.add(LANES))];
            }
        }
    }
    for (d, line) in wide.b[..depth.min(DEPTH)].iter().enumerate() {
        // SAFETY: the slice has 16 columns, which the caller has written.
        let b = unsafe {
            let start = line[column..][..TILE].as_ptr().cast::<f32>();
            [_mm256_loadu_ps(start), _mm256_loadu_ps(start.add(LANES))]
        };
        for (row, sums) in a.iter().zip(&mut sums) {
            // SAFETY: the caller has written the number.
            let x = _mm256_set1_ps(unsafe { row[d].assume_init() });
            sums[0] = _mm256_fmadd_ps(x, b[0], sums[0]);
            sums[1] = _mm256_fmadd_ps(x, b[1], sums[1]);
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: as above.
        unsafe {
            let start = out.add(row * stride);
            _mm256_storeu_ps(start, sums[0]);
            _mm256_storeu_ps(start.add(LANES), sums[1]);
        }
    }
}
