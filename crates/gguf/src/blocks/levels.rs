//! The loops over blocks, compiled once for each level of vector instructions.
//!
//! The kernels are plain Rust; a wider level only lets the compiler use wider registers. It never
//! reorders or fuses what they compute, so all levels give the same bytes.

use super::Block;
use super::weighted::Rows;

/// Quantizes one block after another with the widest vectors that this processor has.
pub(super) fn quantize<B: Block>(x: &[B::Weights], out: &mut [B]) {
    #[cfg(target_arch = "x86_64")]
    {
        if avx512::is_present() {
            // SAFETY: the processor has the features that the function was compiled for.
            return unsafe { avx512::quantize(x, out) };
        }
        if avx2::is_present() {
            // SAFETY: as above.
            return unsafe { avx2::quantize(x, out) };
        }
    }
    B::quantize_all(x, out);
}

/// Quantizes whole rows with the importance of their columns, likewise.
pub(super) fn quantize_weighted<B: Block>(rows: Rows<B::Weights>, out: &mut [B]) {
    #[cfg(target_arch = "x86_64")]
    {
        if avx512::is_present() {
            // SAFETY: the processor has the features that the function was compiled for.
            return unsafe { avx512::quantize_weighted(rows, out) };
        }
        if avx2::is_present() {
            // SAFETY: as above.
            return unsafe { avx2::quantize_weighted(rows, out) };
        }
    }
    B::quantize_weighted(rows, out);
}

/// Whether no weight is NaN or infinite, likewise.
pub(super) fn all_finite(x: &[f32]) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        if avx512::is_present() {
            // SAFETY: the processor has the features that the function was compiled for.
            return unsafe { avx512::all_finite(x) };
        }
        if avx2::is_present() {
            // SAFETY: as above.
            return unsafe { avx2::all_finite(x) };
        }
    }
    largest_magnitude(x).is_finite()
}

/// Where NaN counts as larger than anything.
#[inline(always)]
fn largest_magnitude(x: &[f32]) -> f32 {
    let largest = x.iter().fold(0, |most: i32, v| most.max((v.to_bits() & 0x7fff_ffff) as i32));
    f32::from_bits(largest as u32)
}

/// Dequantizes one block after another, likewise.
pub(super) fn dequantize<B: Block>(blocks: &[B], out: &mut [B::Weights]) {
    #[cfg(target_arch = "x86_64")]
    {
        if avx512::is_present() {
            // SAFETY: the processor has the features that the function was compiled for.
            return unsafe { avx512::dequantize(blocks, out) };
        }
        if avx2::is_present() {
            // SAFETY: as above.
            return unsafe { avx2::dequantize(blocks, out) };
        }
    }
    B::dequantize_all(blocks, out);
}

macro_rules! level {
    ($name:ident, $($feature:tt),+) => {
        #[cfg(target_arch = "x86_64")]
        mod $name {
            use super::{Block, Rows};

            /// Whether this processor has the features. The answer is kept, so asking is cheap.
            pub(super) fn is_present() -> bool {
                $(is_x86_feature_detected!($feature))&&+
            }

            $(#[target_feature(enable = $feature)])+
            pub(super) fn quantize<B: Block>(x: &[B::Weights], out: &mut [B]) {
                B::quantize_all(x, out);
            }

            $(#[target_feature(enable = $feature)])+
            pub(super) fn quantize_weighted<B: Block>(rows: Rows<B::Weights>, out: &mut [B]) {
                B::quantize_weighted(rows, out);
            }

            $(#[target_feature(enable = $feature)])+
            pub(super) fn all_finite(x: &[f32]) -> bool {
                super::largest_magnitude(x).is_finite()
            }

            $(#[target_feature(enable = $feature)])+
            pub(super) fn dequantize<B: Block>(blocks: &[B], out: &mut [B::Weights]) {
                B::dequantize_all(blocks, out);
            }
        }
    };
}

level!(avx2, "avx2");
level!(avx512, "avx512f", "avx512bw", "avx512dq", "avx512vl");

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::blocks::{iq4, q2_k, q3_k, q4, q4_k, q5, q5_k, q6_k, q8_0};

    /// Numbers from -1 to 1 of a 32-bit generator.
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
        // Many magnitudes, and more blocks than any kernel takes side by side.
        let scaled = |(i, w): (usize, f32)| w * 10.0_f32.powi((i / 256 % 13) as i32 - 6);
        let weights: Vec<f32> = random(256 * 65).into_iter().enumerate().map(scaled).collect();
        let importance: Vec<f32> = random(256 * 5).into_iter().map(|p| p * p).collect();
        let x: &[B::Weights] = bytemuck::cast_slice(&weights);
        let rows = Rows { x, importance: bytemuck::cast_slice(&importance) };
        let plain = run::<B>(x.len(), |out| B::quantize_all(x, out));
        let weighted = run::<B>(x.len(), |out| B::quantize_weighted(rows, out));
        if avx2::is_present() {
            // SAFETY: the processor has AVX2.
            assert!(plain == run::<B>(x.len(), |out| unsafe { avx2::quantize(x, out) }));
            // SAFETY: as above.
            let wider = run::<B>(x.len(), |out| unsafe { avx2::quantize_weighted(rows, out) });
            assert!(weighted == wider, "{} with importance", B::TYPE);
        }
        if avx512::is_present() {
            // SAFETY: the processor has the features.
            assert!(plain == run::<B>(x.len(), |out| unsafe { avx512::quantize(x, out) }));
            // SAFETY: as above.
            let wider = run::<B>(x.len(), |out| unsafe { avx512::quantize_weighted(rows, out) });
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
