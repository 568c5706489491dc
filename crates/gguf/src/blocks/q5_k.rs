//! Q5_K: 256 weights in 8 groups of 32, 5 bits each, 6-bit scales and minima; 5.5 bits per weight.
//!
//! ```text
//! w' = (d s_g) q - (dmin m_g)        g: group, q in 0..=31, s and m in 0..=63
//! ```
//!
//! As in Q4_K, with fewer and finer steps tried.
//!
//! Layout: `block_q5_K` in ggml's
//! [`ggml-common.h`](https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).
//! The low four bits are stored as in Q4_K; bit `g` of `high_bits[i]` is the fifth bit of weight
//! `i` of group `g`.

use bytemuck::{Pod, Zeroable};

use super::affine::{Fits, Search};
use super::each::map;
use super::half::Half;
use super::q4_k::{pack_four_bits, typical_costs, unpack_four_bits};
use super::six_bits::{GROUP_LEN, GROUPS, SixBits, pack_six_bits};
use super::super_blocks::{BATCH, Batch, LANES, Stored, pair};
use super::weighted::Rows;
use super::{Block, assert_block_size};
use crate::TensorType;

const SEARCH: Search = Search {
    max_code: 31,
    first: -0.5,
    increment: 0.1,
    last: 15,
    by_magnitude: false,
    clamp_first: false,
};
const WEIGHTED: Search = Search::weighted(31);

/// 256 weights in 176 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ5K {
    pub(crate) head: SixBits,
    /// See [`pack_five_bits`].
    pub(crate) high_bits: [u8; 32],
    /// See [`pack_four_bits`].
    pub(crate) quants: [u8; 128],
}

assert_block_size!(BlockQ5K, TensorType::Q5_K);

impl Block for BlockQ5K {
    const TYPE: TensorType = TensorType::Q5_K;
    type Weights = [f32; 256];

    /// Two blocks in parallel: their 16 groups fill the widest registers.
    #[inline(always)]
    fn quantize_all(x: &[[f32; 256]], out: &mut [Self]) {
        for (x, out) in x.chunks(2).zip(out.chunks_mut(2)) {
            let groups = pair(x);
            let fits = Fits::<LANES>::search(&groups, &typical_costs(&groups), SEARCH);
            for (i, (x, block)) in x.iter().zip(out).enumerate() {
                let fits = fits.of_block(i * GROUPS);
                *block = BlockQ5K::new(SixBits::of_largest(&fits), x, &fits, SEARCH);
            }
        }
    }

    #[inline(always)]
    fn quantize_weighted(rows: Rows<[f32; 256]>, out: &mut [Self]) {
        for (i, out) in out.chunks_mut(BATCH).enumerate() {
            let batch = Batch::new(&rows, i * BATCH, |sum| 2.0 * sum / 256.0);
            let fits = batch.affine_fits::<GROUPS, GROUP_LEN>(WEIGHTED);
            let stored = Stored::search(&fits, 63);
            for (b, block) in out.iter_mut().enumerate() {
                let at_most_63 = |codes: &[u8; GROUPS]| map(codes, |code| code.min(63));
                let (scales, mins) = (at_most_63(&stored.scales[b]), at_most_63(&stored.mins[b]));
                let head = SixBits {
                    scale: Half::new(stored.scale[b]),
                    min_scale: Half::new(stored.min_scale[b]),
                    packed: pack_six_bits(&scales, &mins),
                };
                *block = BlockQ5K::new(head, batch.x[b], &fits[b], WEIGHTED);
            }
        }
    }

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let steps = self.head.steps();
        let codes = unpack_five_bits(&self.quants, &self.high_bits);
        for (group, out) in out.chunks_exact_mut(GROUP_LEN).enumerate() {
            let (step, min) = steps[group];
            for (w, &q) in out.iter_mut().zip(&codes[group * GROUP_LEN..]) {
                *w = step * f32::from(q) - min;
            }
        }
    }

    #[inline(always)]
    fn is_finite(&self) -> bool {
        self.head.is_finite()
    }
}

impl BlockQ5K {
    #[inline(always)]
    fn new(head: SixBits, x: &[f32; 256], fits: &Fits<GROUPS>, search: Search) -> Self {
        let (quants, high_bits) = pack_five_bits(&fits.codes(x, &head.steps(), search));
        BlockQ5K { head, high_bits, quants }
    }
}

/// Low four bits and fifth bit of codes from 0 to 31.
#[inline(always)]
pub(crate) fn pack_five_bits(codes: &[u8; 256]) -> ([u8; 128], [u8; 32]) {
    let mut high_bits = [0; 32];
    for (group, codes) in codes.chunks_exact(GROUP_LEN).enumerate() {
        for (byte, code) in high_bits.iter_mut().zip(codes) {
            *byte |= code >> 4 << group;
        }
    }
    (pack_four_bits(&map(codes, |code| code & 0x0f)), high_bits)
}

/// The inverse of [`pack_five_bits`].
#[inline(always)]
pub(crate) fn unpack_five_bits(quants: &[u8; 128], high_bits: &[u8; 32]) -> [u8; 256] {
    let mut codes = unpack_four_bits(quants);
    for (group, codes) in codes.chunks_exact_mut(GROUP_LEN).enumerate() {
        for (code, byte) in codes.iter_mut().zip(high_bits) {
            *code |= (byte >> group & 1) << 4;
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_bits_survive_packing() {
        let codes: [u8; 256] = std::array::from_fn(|i| (i * 37 / 5 % 32) as u8);
        let (quants, high_bits) = pack_five_bits(&codes);
        assert_eq!(unpack_five_bits(&quants, &high_bits), codes);
    }
}
