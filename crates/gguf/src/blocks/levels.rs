//! The loops over blocks, compiled once for each level of vector instructions.
//!
//! The kernels are plain Rust; a wider level only lets the compiler use wider registers. It never
//! reorders or fuses what they compute, so all levels give the same bytes.

use super::Block;

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
            use super::Block;

            /// Whether this processor has the features. The answer is kept, so asking is cheap.
            pub(super) fn is_present() -> bool {
                $(is_x86_feature_detected!($feature))&&+
            }

            $(#[target_feature(enable = $feature)])+
            pub(super) fn quantize<B: Block>(x: &[B::Weights], out: &mut [B]) {
                B::quantize_all(x, out);
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
    use crate::blocks::{q4, q4_k, q5, q6_k, q8_0};

    /// Weights of many magnitudes, from a 32-bit generator.
    fn weights() -> Vec<f32> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let unit = |bits: u32| bits as f32 / (1 << 23) as f32 - 1.0;
        (0..256 * 65).map(|i| unit(next()) * 10.0_f32.powi(i / 256 % 13 - 6)).collect()
    }

    fn run<B: Block>(x: &[B::Weights], quantize: impl Fn(&[B::Weights], &mut [B])) -> Vec<u8> {
        let mut blocks = vec![B::zeroed(); x.len()];
        quantize(x, &mut blocks);
        bytemuck::cast_slice(&blocks).to_vec()
    }

    fn assert_equal_at_every_level<B: Block>() {
        let weights = weights();
        let x: &[B::Weights] = bytemuck::cast_slice(&weights);
        let plain = run::<B>(x, B::quantize_all);
        if avx2::is_present() {
            // SAFETY: the processor has AVX2.
            let wider = run::<B>(x, |x, out| unsafe { avx2::quantize(x, out) });
            assert!(plain == wider, "{}", B::TYPE);
        }
        if avx512::is_present() {
            // SAFETY: the processor has the features.
            let wider = run::<B>(x, |x, out| unsafe { avx512::quantize(x, out) });
            assert!(plain == wider, "{}", B::TYPE);
        }
    }

    #[test]
    fn every_level_of_vector_instructions_gives_the_same_bytes() {
        assert_equal_at_every_level::<q4::BlockQ4_0>();
        assert_equal_at_every_level::<q4::BlockQ4_1>();
        assert_equal_at_every_level::<q5::BlockQ5_0>();
        assert_equal_at_every_level::<q5::BlockQ5_1>();
        assert_equal_at_every_level::<q8_0::BlockQ8_0>();
        assert_equal_at_every_level::<q4_k::BlockQ4K>();
        assert_equal_at_every_level::<q6_k::BlockQ6K>();
    }
}
