//! The header of blocks of Q4_K and Q5_K: scale and minimum of 8 groups, 6 bits each.

use bytemuck::{Pod, Zeroable};

use super::affine::Fits;
use super::each::map;
use super::half::Half;
use super::rounding::nearest_int;

/// Groups of a block.
pub(crate) const GROUPS: usize = 8;
/// Weights in a group.
pub(crate) const GROUP_LEN: usize = 32;
const MAX_SCALE: f32 = 63.0;

/// The scales and minima of a block, 16 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct SixBits {
    /// The unit of the groups' scales.
    pub(crate) scale: Half,
    /// The unit of the groups' minima.
    pub(crate) min_scale: Half,
    /// See [`pack_six_bits`].
    pub(crate) packed: [u8; 12],
}

impl SixBits {
    /// Rounds relative to the largest of the block.
    #[inline(always)]
    pub(super) fn of_largest(fits: &Fits<GROUPS>) -> Self {
        let max_scale = largest_positive(&fits.scale);
        let max_min = largest_positive(&fits.min);
        let scales = fractions(&fits.scale, max_scale);
        let mins = fractions(&fits.min, max_min);
        SixBits {
            scale: Half::new(max_scale / MAX_SCALE),
            min_scale: Half::new(max_min / MAX_SCALE),
            packed: pack_six_bits(&scales, &mins),
        }
    }

    /// Scale and minimum of each group, as they are stored.
    #[inline(always)]
    pub(crate) fn steps(&self) -> [(f32, f32); GROUPS] {
        let (scale, min) = (self.scale.get(), self.min_scale.get());
        let stored = unpack_six_bits(&self.packed);
        map(&stored, |(s, m)| (scale * f32::from(s), min * f32::from(m)))
    }

    /// False if the weights were too large for F16 scales.
    #[inline(always)]
    pub(super) fn is_finite(&self) -> bool {
        self.scale.is_finite() && self.min_scale.is_finite()
    }
}

/// The largest of the positive ones, 0 if there is none.
#[inline(always)]
pub(super) fn largest_positive<const N: usize>(values: &[f32; N]) -> f32 {
    values.iter().fold(0.0, |largest, &v| if v > largest { v } else { largest })
}

/// The values as fractions of the largest, in units of 1/63.
#[inline(always)]
fn fractions(values: &[f32; GROUPS], largest: f32) -> [u8; GROUPS] {
    let inverse = if largest > 0.0 { MAX_SCALE / largest } else { 0.0 };
    map(values, |v| (nearest_int(inverse * v) as u8).min(63))
}

/// Eight pairs of 6 bits in 12 bytes.
///
/// Bytes 0..4 are the scales of groups 0..4, bytes 4..8 their minima, bytes 8..12 the low four bits
/// of scale and minimum of groups 4..8, whose upper two bits are in the upper two bits of bytes
/// 0..4 and 4..8.
#[inline(always)]
pub(crate) fn pack_six_bits(scales: &[u8; GROUPS], mins: &[u8; GROUPS]) -> [u8; 12] {
    let mut packed = [0; 12];
    for g in 0..4 {
        packed[g] = scales[g] | scales[g + 4] >> 4 << 6;
        packed[g + 4] = mins[g] | mins[g + 4] >> 4 << 6;
        packed[g + 8] = scales[g + 4] & 0x0f | mins[g + 4] << 4;
    }
    packed
}

/// The inverse of [`pack_six_bits`]: scale and minimum of each group.
#[inline(always)]
pub(crate) fn unpack_six_bits(packed: &[u8; 12]) -> [(u8, u8); GROUPS] {
    let mut pairs = [(0, 0); GROUPS];
    for g in 0..4 {
        let (scale, min, rest) = (packed[g], packed[g + 4], packed[g + 8]);
        pairs[g] = (scale & 63, min & 63);
        pairs[g + 4] = (rest & 0x0f | scale >> 6 << 4, rest >> 4 | min >> 6 << 4);
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_bit_pairs_survive_packing() {
        let scales = [0, 1, 62, 63, 16, 47, 48, 33];
        let mins = [63, 0, 31, 32, 15, 17, 63, 1];
        let pairs = unpack_six_bits(&pack_six_bits(&scales, &mins));
        assert_eq!(pairs.map(|(s, _)| s), scales);
        assert_eq!(pairs.map(|(_, m)| m), mins);
    }
}
