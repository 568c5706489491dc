//! The loops over blocks, compiled once for each vector width.
//!
//! The kernels are plain Rust; the only difference is the width of the registers that the compiler
//! uses. It never reorders or fuses operations, so all versions give the same bytes.

use isa::vectorised;

use super::Block;
use super::weighted::Rows;

vectorised! {
    /// Quantizes one block after another.
    pub(super) fn quantize<type B: Block>(x: &[B::Weights], out: &mut [B]) {
        B::quantize_all(x, out);
    }

    /// Quantizes whole rows with the importance of their columns.
    pub(super) fn quantize_weighted<type B: Block>(rows: Rows<B::Weights>, out: &mut [B]) {
        B::quantize_weighted(rows, out);
    }

    /// Whether no weight is NaN or infinite.
    pub(super) fn all_finite(x: &[f32]) -> bool {
        largest_magnitude(x).is_finite()
    }

    /// Dequantizes one block after another.
    pub(super) fn dequantize<type B: Block>(blocks: &[B], out: &mut [B::Weights]) {
        B::dequantize_all(blocks, out);
    }
}

/// The largest magnitude; NaN counts as the largest.
#[inline(always)]
fn largest_magnitude(x: &[f32]) -> f32 {
    let largest = x.iter().fold(0, |most: i32, v| most.max((v.to_bits() & 0x7fff_ffff) as i32));
    f32::from_bits(largest as u32)
}

#[cfg(test)]
mod tests {
    use isa::Isa;

    use super::*;
    use crate::blocks::{iq4, q2_k, q3_k, q4, q4_k, q5, q5_k, q6_k, q8_0};

    /// Numbers from -1 to 1 from a 32-bit generator.
    fn random(count: usize) -> Vec<f32> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn run<B: Block>(blocks: usize, quantize: impl Fn(&mut [B])) -> Vec<u8> {
        let mut out = vec![B::zeroed(); blocks];
        quantize(&mut out);
        bytemuck::cast_slice(&out).to_vec()
    }

    fn assert_equal_at_every_level<B: Block>() {
        // Many magnitudes, and more blocks than any kernel computes in parallel.
        let scaled = |(i, w): (usize, f32)| w * 10.0_f32.powi((i / 256 % 13) as i32 - 6);
        let weights: Vec<f32> = random(256 * 65).into_iter().enumerate().map(scaled).collect();
        let importance: Vec<f32> = random(256 * 5).into_iter().map(|p| p * p).collect();
        let x: &[B::Weights] = bytemuck::cast_slice(&weights);
        let rows = Rows { x, importance: bytemuck::cast_slice(&importance) };
        let plain = run::<B>(x.len(), |out| B::quantize_all(x, out));
        let weighted = run::<B>(x.len(), |out| B::quantize_weighted(rows, out));
        for &isa in Isa::with_vectors() {
            assert!(plain == run::<B>(x.len(), |out| quantize(isa, x, out)), "{}", B::TYPE);
            let wider = run::<B>(x.len(), |out| quantize_weighted(isa, rows, out));
            assert!(weighted == wider, "{} with importance", B::TYPE);
        }
    }

    #[test]
    fn every_level_of_vector_instructions_gives_the_same_bytes() {
        assert_equal_at_every_level::<q4::BlockQ4_0>();
        assert_equal_at_every_level::<q4::BlockQ4_1>();
        assert_equal_at_every_level::<q5::BlockQ5_0>();
        assert_equal_at_every_level::<q5::BlockQ5_1>();
        assert_equal_at_every_level::<q8_0::BlockQ8_0>();
        assert_equal_at_every_level::<q2_k::BlockQ2K>();
        assert_equal_at_every_level::<q3_k::BlockQ3K>();
        assert_equal_at_every_level::<q4_k::BlockQ4K>();
        assert_equal_at_every_level::<q5_k::BlockQ5K>();
        assert_equal_at_every_level::<q6_k::BlockQ6K>();
        assert_equal_at_every_level::<iq4::BlockIQ4NL>();
        assert_equal_at_every_level::<iq4::BlockIQ4XS>();
    }
}
