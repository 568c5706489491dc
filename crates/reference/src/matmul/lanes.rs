//! Vector registers, with the operations of a dot product.

/// `WIDTH` floats that are multiplied and added together.
///
/// All functions are `unsafe` for one reason: the processor must have the instructions that the
/// implementation uses. They are inlined into a function with the matching `#[target_feature]`,
/// where each becomes one instruction.
pub(super) trait Lanes: Copy {
    /// Number of floats.
    const WIDTH: usize;

    /// All zero.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn zero() -> Self;

    /// The `WIDTH` floats from `at` on.
    ///
    /// # Safety
    /// The processor has the instructions, and all `WIDTH` floats may be read.
    unsafe fn load(at: *const f32) -> Self;

    /// Fewer than `WIDTH` floats, then zeros.
    ///
    /// # Safety
    /// The processor has the instructions.
    #[inline(always)]
    unsafe fn load_part(floats: &[f32]) -> Self {
        let mut padded = [0.0; 16];
        padded[..floats.len()].copy_from_slice(floats);
        // SAFETY: no register is wider than 16 floats.
        unsafe { Self::load(padded.as_ptr()) }
    }

    /// `a · b + sum`, lane by lane.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn multiply_add(a: Self, b: Self, sum: Self) -> Self;

    /// The lanes added up pairwise.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn sum(self) -> f32;
}

/// Eight lanes; the compiler chooses the registers.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 8]);

impl Lanes for Portable {
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Portable([0.0; 8])
    }

    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: the caller guarantees `WIDTH` floats; an array of floats needs only the alignment
        // of a float.
        Portable(unsafe { *at.cast::<[f32; 8]>() })
    }

    #[inline(always)]
    unsafe fn multiply_add(a: Self, b: Self, sum: Self) -> Self {
        Portable(std::array::from_fn(|i| a.0[i] * b.0[i] + sum.0[i]))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehdup_ps, _mm_movehl_ps,
        _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_setzero_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_reduce_add_ps,
        _mm512_setzero_ps,
    };

    use super::Lanes;

    /// Needs AVX-512F.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    impl Lanes for Avx512 {
        const WIDTH: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the caller guarantees AVX-512F.
            Avx512(unsafe { _mm512_setzero_ps() })
        }

        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            // SAFETY: the caller guarantees AVX-512F and 16 floats.
            Avx512(unsafe { _mm512_loadu_ps(at) })
        }

        #[inline(always)]
        unsafe fn multiply_add(a: Self, b: Self, sum: Self) -> Self {
            // SAFETY: the caller guarantees AVX-512F.
            Avx512(unsafe { _mm512_fmadd_ps(a.0, b.0, sum.0) })
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: the caller guarantees AVX-512F.
            unsafe { _mm512_reduce_add_ps(self.0) }
        }
    }

    /// Needs AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256);

    impl Lanes for Avx2 {
        const WIDTH: usize = 8;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the caller guarantees AVX2.
            Avx2(unsafe { _mm256_setzero_ps() })
        }

        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            // SAFETY: the caller guarantees AVX2 and 8 floats.
            Avx2(unsafe { _mm256_loadu_ps(at) })
        }

        #[inline(always)]
        unsafe fn multiply_add(a: Self, b: Self, sum: Self) -> Self {
            // SAFETY: the caller guarantees FMA.
            Avx2(unsafe { _mm256_fmadd_ps(a.0, b.0, sum.0) })
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: the caller guarantees AVX2.
            unsafe {
                // a b c d + e f g h, in the order of the portable lanes.
                let four =
                    _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }
    }
}
