//! Q4_K: 256 weights in 8 groups of 32, 4 bits each, 6-bit scales and minima; 4.5 bits per weight.
//!
//! ```text
//! w' = (d s_g) q - (dmin m_g)        g: group, q in 0..=15, s and m in 0..=63
//! ```
//!
//! A group's scale and minimum are found by a search (`affine.rs`) with the cost
//! `p = sqrt(mean w²) + |w|`. They are rounded to 6 bits relative to the largest of the block, and
//! the codes are computed again with the rounded values. With importance `p` is that of
//! `weighted.rs` with twice the block's mean square, and the 6 bits are found by a search too
//! (`qp_quants.rs`).
//!
//! Layout: `block_q4_K` in ggml's
//! [`ggml-common.h`](https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).

use bytemuck::{Pod, Zeroable};

use super::affine::{Fits, Search};
use super::each::each;
use super::half::Half;
use super::lanes::{Lanes, sum};
use super::six_bits::{GROUP_LEN, GROUPS, SixBits, pack_six_bits};
use super::super_blocks::{BATCH, Batch, LANES, Stored, pair};
use super::symmetric::squares;
use super::weighted::Rows;
use super::{Block, assert_block_size};
use crate::TensorType;

const SEARCH: Search = Search {
    max_code: 15,
    first: -1.0,
    increment: 0.1,
    last: 20,
    by_magnitude: false,
    clamp_first: false,
};
const WEIGHTED: Search = Search::weighted(15);

/// 256 weights in 144 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ4K {
    pub(crate) head: SixBits,
    /// See [`pack_four_bits`].
    pub(crate) quants: [u8; 128],
}

assert_block_size!(BlockQ4K, TensorType::Q4_K);

impl Block for BlockQ4K {
    const TYPE: TensorType = TensorType::Q4_K;
    type Weights = [f32; 256];

    /// Two blocks in parallel: their 16 groups fill the widest registers.
    #[inline(always)]
    fn quantize_all(x: &[[f32; 256]], out: &mut [Self]) {
        for (x, out) in x.chunks(2).zip(out.chunks_mut(2)) {
            let groups = pair(x);
            let fits = Fits::<LANES>::search(&groups, &typical_costs(&groups), SEARCH);
            for (i, (x, block)) in x.iter().zip(out).enumerate() {
                let fits = fits.of_block(i * GROUPS);
                *block = BlockQ4K::new(SixBits::of_largest(&fits), x, &fits, SEARCH);
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
                let head = SixBits {
                    scale: Half::new(stored.scale[b]),
                    min_scale: Half::new(stored.min_scale[b]),
                    packed: pack_six_bits(&stored.scales[b], &stored.mins[b]),
                };
                *block = BlockQ4K::new(head, batch.x[b], &fits[b], WEIGHTED);
            }
        }
    }

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let steps = self.head.steps();
        for (group, out) in out.chunks_exact_mut(GROUP_LEN).enumerate() {
            let (step, min) = steps[group];
            let bytes = &self.quants[group / 2 * GROUP_LEN..][..GROUP_LEN];
            let shift = group % 2 * 4;
            for (w, byte) in out.iter_mut().zip(bytes) {
                *w = step * f32::from(byte >> shift & 0x0f) - min;
            }
        }
    }

    #[inline(always)]
    fn is_finite(&self) -> bool {
        self.head.is_finite()
    }
}

impl BlockQ4K {
    #[inline(always)]
    fn new(head: SixBits, x: &[f32; 256], fits: &Fits<GROUPS>, search: Search) -> Self {
        BlockQ4K { head, quants: pack_four_bits(&fits.codes(x, &head.steps(), search)) }
    }
}

/// `p` without importance.
#[inline(always)]
pub(super) fn typical_costs<const N: usize>(x: &[Lanes<N>; GROUP_LEN]) -> [Lanes<N>; GROUP_LEN] {
    let typical = (sum(&squares(x)) / Lanes::splat(GROUP_LEN as f32)).sqrt();
    let mut costs = [typical; GROUP_LEN];
    for (p, &w) in costs.iter_mut().zip(x) {
        *p = typical + w.abs();
    }
    costs
}

/// Two codes in a byte: those of an even group low, those of the next group high.
#[inline(always)]
pub(crate) fn pack_four_bits(codes: &[u8; 256]) -> [u8; 128] {
    each(|byte| {
        let first = byte / GROUP_LEN * 2 * GROUP_LEN + byte % GROUP_LEN;
        codes[first] | codes[first + GROUP_LEN] << 4
    })
}

/// The inverse of [`pack_four_bits`].
#[inline(always)]
pub(crate) fn unpack_four_bits(bytes: &[u8; 128]) -> [u8; 256] {
    let mut codes = [0; 256];
    for (group, codes) in codes.chunks_exact_mut(GROUP_LEN).enumerate() {
        let bytes = &bytes[group / 2 * GROUP_LEN..][..GROUP_LEN];
        for (code, byte) in codes.iter_mut().zip(bytes) {
            *code = byte >> (group % 2 * 4) & 0x0f;
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bits_survive_packing() {
        let codes: [u8; 256] = std::array::from_fn(|i| (i * 37 / 5 % 16) as u8);
        assert_eq!(unpack_four_bits(&pack_four_bits(&codes)), codes);
    }
}
