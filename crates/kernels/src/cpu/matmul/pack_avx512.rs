//! Packing of whole tiles on 512-bit registers: rounding takes one instruction, transposing a
//! square of 16 x 16 lanes takes 64 shuffles.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::pack::{Kind, TILE, TILE_DEPTH, Tile};

/// Rounds and packs a whole tile whose lines in memory are `stride` numbers apart; returns the bits
/// of the largest absolute value, if there is more than one part.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn tile<const P: usize>(
    kind: Kind,
    data: &[f32],
    stride: usize,
    out: &mut MaybeUninit<[Tile; P]>,
) -> u32 {
    let ahead = match kind {
        Kind::LeftAlongDepth | Kind::RightAlongDepth => 2 * TILE_DEPTH,
        Kind::LeftAcross | Kind::RightAcross => TILE_DEPTH * stride,
    };
    let (lines, line) = match kind {
        Kind::LeftAlongDepth | Kind::RightAlongDepth => (TILE, TILE_DEPTH),
        Kind::LeftAcross | Kind::RightAcross => (TILE_DEPTH, TILE),
    };
    assert!(data.len() >= (lines - 1) * stride + line, "a whole tile");
    // SAFETY: the assertion above covers every 16 numbers read at `line * stride + {0, 16}`.
    let load = |line: usize, half: usize| unsafe {
        let from = data.as_ptr().wrapping_add(line * stride + half * TILE);
        // There are too many lines, too far apart, for the processor's own prefetcher.
        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(ahead).cast());
        _mm512_loadu_ps(from)
    };
    // Two registers for each line of the tile. Loops over indices, because `map` and `from_fn` copy
    // arrays of registers through memory.
    let mut rest = [[_mm512_setzero_ps(); 2]; TILE];
    match kind {
        Kind::LeftAlongDepth | Kind::RightAlongDepth => {
            for (w, halves) in rest.iter_mut().enumerate() {
                *halves = [load(w, 0), load(w, 1)];
            }
        }
        Kind::RightAcross => {
            for (pair, halves) in rest.iter_mut().enumerate() {
                *halves = [load(2 * pair, 0), load(2 * pair + 1, 0)];
            }
        }
        Kind::LeftAcross => {
            for half in 0..2 {
                let mut square = [_mm512_setzero_si512(); TILE];
                for (d, line) in square.iter_mut().enumerate() {
                    *line = _mm512_castps_si512(load(half * TILE + d, 0));
                }
                for (halves, line) in rest.iter_mut().zip(&turn(square)) {
                    halves[half] = _mm512_castsi512_ps(*line);
                }
            }
        }
    }
    let mut largest = _mm512_setzero_si512();
    if P > 1 {
        for half in rest.as_flattened() {
            largest = _mm512_max_epi32(largest, _mm512_castps_si512(_mm512_abs_ps(*half)));
        }
    }
    for part in 0..P {
        let mut lines = [_mm512_setzero_si512(); TILE];
        for (line, rest) in lines.iter_mut().zip(&mut rest) {
            *line = round(*rest);
            if part + 1 < P {
                *rest = without(*rest, *line);
            }
            if kind == Kind::RightAcross {
                *line = _mm512_permutexvar_epi16(interleave_halves(), *line);
            }
        }
        if kind == Kind::RightAlongDepth {
            lines = turn(lines);
        }
        // SAFETY: a part is 16 lines of 64 bytes.
        let to = unsafe { out.as_mut_ptr().cast::<Tile>().add(part).cast::<__m512i>() };
        for (i, line) in lines.iter().enumerate() {
            // SAFETY: as above.
            unsafe { _mm512_store_si512(to.add(i), *line) };
        }
    }
    _mm512_reduce_max_epi32(largest) as u32
}

/// 32 floats to bf16, the first 16 in the lower half.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn round([low, high]: [__m512; 2]) -> __m512i {
    let rounded = _mm512_cvtne2ps_pbh(high, low);
    // SAFETY: both types are 512 bits of which every pattern is valid.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(rounded) }
}

/// The rounding error of each number: exact, because the difference has fewer digits.
#[inline]
#[target_feature(enable = "avx512f")]
fn without([low, high]: [__m512; 2], rounded: __m512i) -> [__m512; 2] {
    let widen = |half| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)));
    let lower = widen(_mm512_castsi512_si256(rounded));
    let upper = widen(_mm512_extracti64x4_epi64::<1>(rounded));
    [_mm512_sub_ps(low, lower), _mm512_sub_ps(high, upper)]
}

/// The permutation `0, 16, 1, 17, ...` of 32 16-bit lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn interleave_halves() -> __m512i {
    let lanes: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
    // SAFETY: the array is 64 bytes.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

/// Transposes a square of 16 x 16 32-bit lanes: first within groups of two and four lanes, then
/// between the four 128-bit parts.
#[inline]
#[target_feature(enable = "avx512f")]
fn turn(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = rows;
    for i in (0..16).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    let mut fours = pairs;
    for i in (0..16).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    let mut out = fours;
    for i in 0..4 {
        let [a, b, c, d] = [fours[i], fours[4 + i], fours[8 + i], fours[12 + i]];
        let even_low = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
        let odd_low = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
        let even_high = _mm512_shuffle_i32x4::<0b10_00_10_00>(c, d);
        let odd_high = _mm512_shuffle_i32x4::<0b11_01_11_01>(c, d);
        out[i] = _mm512_shuffle_i32x4::<0b10_00_10_00>(even_low, even_high);
        out[8 + i] = _mm512_shuffle_i32x4::<0b11_01_11_01>(even_low, even_high);
        out[4 + i] = _mm512_shuffle_i32x4::<0b10_00_10_00>(odd_low, odd_high);
        out[12 + i] = _mm512_shuffle_i32x4::<0b11_01_11_01>(odd_low, odd_high);
    }
    out
}
