//! Packing of whole tiles on 512-bit registers: rounding is one instruction, turning a square of
//! 16 x 16 lanes on its side takes 64 shuffles.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::pack::{Kind, TILE, TILE_DEPTH, Tile};

/// Rounds and packs a whole tile whose lines in memory are `stride` numbers apart.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn tile(kind: Kind, data: &[f32], stride: usize, out: &mut MaybeUninit<Tile>) {
    let (lines, line) = match kind {
        Kind::LeftAlongDepth | Kind::RightAlongDepth => (TILE, TILE_DEPTH),
        Kind::LeftAcross | Kind::RightAcross => (TILE_DEPTH, TILE),
    };
    assert!(data.len() >= (lines - 1) * stride + line, "a whole tile");
    // SAFETY: the assertion above covers every 16 numbers read at `line * stride + {0, 16}`.
    let load = |line: usize, half: usize| unsafe {
        _mm512_loadu_ps(data.as_ptr().add(line * stride + half * TILE))
    };
    let rows: [__m512i; TILE] = match kind {
        Kind::LeftAlongDepth => std::array::from_fn(|w| round(load(w, 0), load(w, 1))),
        Kind::RightAlongDepth => turn(std::array::from_fn(|w| round(load(w, 0), load(w, 1)))),
        Kind::LeftAcross => {
            let low = turn(std::array::from_fn(|d| _mm512_castps_si512(load(d, 0))));
            let high = turn(std::array::from_fn(|d| _mm512_castps_si512(load(TILE + d, 0))));
            std::array::from_fn(|w| {
                round(_mm512_castsi512_ps(low[w]), _mm512_castsi512_ps(high[w]))
            })
        }
        Kind::RightAcross => {
            let pairs = interleave_halves();
            std::array::from_fn(|p| {
                _mm512_permutexvar_epi16(pairs, round(load(2 * p, 0), load(2 * p + 1, 0)))
            })
        }
    };
    for (line, row) in rows.into_iter().enumerate() {
        // SAFETY: a tile is 16 lines of 64 bytes.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast::<__m512i>().add(line), row) };
    }
}

/// 32 floats to bf16, `first` in the lower half.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn round(first: __m512, second: __m512) -> __m512i {
    let rounded = _mm512_cvtne2ps_pbh(second, first);
    // SAFETY: both types are 512 bits of which every pattern is valid.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(rounded) }
}

/// The permutation `0, 16, 1, 17, ...` of 32 16-bit lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn interleave_halves() -> __m512i {
    let lanes: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
    // SAFETY: the array is 64 bytes.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

/// Turns a square of 16 x 16 32-bit lanes on its side: first inside pairs and fours of lanes, then
/// among the four 128-bit parts.
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
