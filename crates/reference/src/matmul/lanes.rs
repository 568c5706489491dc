//! Numbers that are multiplied and added together, in the registers of each instruction set.
//!
//! The number of lanes of a sum is part of what [`super`] computes and the same everywhere, 16. A
//! register of AVX-512 has all of them; elsewhere [`super`] computes one half after the other.

/// Lanes of each sum.
pub(super) const LANES: usize = 16;

/// `WIDTH` lanes, all of [`LANES`] or half of them, with the operations of a dot product.
///
/// All functions are `unsafe` for one reason: the processor must have the instructions that the
/// implementation uses. They are inlined into a function with the matching `#[target_feature]`,
/// where each becomes one instruction.
pub(super) trait Lanes: Copy {
    /// Number of floats: 8 or 16.
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

    /// The first `WIDTH` floats of fewer than [`LANES`], and zeros in place of those that are missing.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn load_part(floats: &[f32]) -> Self;

    /// `a · b + sum`, lane by lane, rounded once.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn multiply_add(a: Self, b: Self, sum: Self) -> Self;

    /// `a + b`, lane by lane: the halves of a sum, where a register has half of its lanes.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn add(a: Self, b: Self) -> Self;

    /// The lanes added up: of 16 lane `i` and lane `i + 8`, of the eight that are left lane `i` and
    /// lane `i + 4`, and so on.
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
    unsafe fn load_part(floats: &[f32]) -> Self {
        Portable(std::array::from_fn(|i| floats.get(i).copied().unwrap_or(0.0)))
    }

    #[inline(always)]
    unsafe fn multiply_add(a: Self, b: Self, sum: Self) -> Self {
        Portable(std::array::from_fn(|i| fused(a.0[i], b.0[i], sum.0[i])))
    }

    #[inline(always)]
    unsafe fn add(a: Self, b: Self) -> Self {
        Portable(std::array::from_fn(|i| a.0[i] + b.0[i]))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

/// `a · b + sum`, rounded once, also where the target's baseline has no instruction for it.
#[inline(always)]
fn fused(a: f32, b: f32, sum: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
        a.mul_add(b, sum)
    } else {
        fused_in_f64(a, b, sum)
    }
}

/// The same from operations in f64: what the standard library calls instead is a function of its
/// own for each number, many times slower.
///
/// The product of two f32 is exact in f64. Its sum with the third is rounded to odd, that is, to
/// the neighbour whose last bit is 1 unless it is exact; then rounding to f32 gives what rounding
/// once would (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
#[inline(always)]
fn fused_in_f64(a: f32, b: f32, sum: f32) -> f32 {
    let (product, addend) = (f64::from(a) * f64::from(b), f64::from(sum));
    let rounded = product + addend;
    // What the rounding lost (Knuth's TwoSum).
    let part = rounded - product;
    let lost = (product - (rounded - part)) + (addend - part);
    let bits = rounded.to_bits();
    let is_even = bits & 1 == 0;
    // The bits of a number nearer to zero are smaller by one.
    let away = (lost > 0.0) == (rounded > 0.0);
    let odd = if away { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    // An infinity has lost NaN, and stays.
    let is_inexact = lost.abs() > 0.0;
    f64::from_bits(if is_inexact && is_even { odd } else { bits }) as f32
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehdup_ps, _mm_movehl_ps,
        _mm256_add_ps, _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_fmadd_ps,
        _mm256_loadu_ps, _mm256_loadu_si256, _mm256_maskload_ps, _mm256_setzero_ps, _mm512_add_ps,
        _mm512_castps512_ps256, _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_maskz_loadu_ps, _mm512_setzero_ps,
    };

    use super::Lanes;

    /// Needs AVX-512F and DQ.
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
        unsafe fn load_part(floats: &[f32]) -> Self {
            debug_assert!(floats.len() < 16);
            let mask = (1_u16 << floats.len()) - 1;
            // SAFETY: the caller guarantees AVX-512F, and only as many floats are read as there are.
            Avx512(unsafe { _mm512_maskz_loadu_ps(mask, floats.as_ptr()) })
        }

        #[inline(always)]
        unsafe fn multiply_add(a: Self, b: Self, sum: Self) -> Self {
            // SAFETY: the caller guarantees AVX-512F.
            Avx512(unsafe { _mm512_fmadd_ps(a.0, b.0, sum.0) })
        }

        #[inline(always)]
        unsafe fn add(a: Self, b: Self) -> Self {
            // SAFETY: the caller guarantees AVX-512F.
            Avx512(unsafe { _mm512_add_ps(a.0, b.0) })
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: the caller guarantees AVX-512F and DQ, which AVX2 is part of.
            unsafe {
                let low = _mm512_castps512_ps256(self.0);
                sum_of_8(_mm256_add_ps(low, _mm512_extractf32x8_ps::<1>(self.0)))
            }
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
        unsafe fn load_part(floats: &[f32]) -> Self {
            /// All bits of the lanes that are read, then none.
            const MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
            let missing = 8 - floats.len().min(8);
            // SAFETY: the caller guarantees AVX2. Eight masks from `missing` on are in the table, and
            // only as many floats are read as there are.
            unsafe {
                let mask = _mm256_loadu_si256(MASKS.as_ptr().add(missing).cast());
                Avx2(_mm256_maskload_ps(floats.as_ptr(), mask))
            }
        }

        #[inline(always)]
        unsafe fn multiply_add(a: Self, b: Self, sum: Self) -> Self {
            // SAFETY: the caller guarantees FMA.
            Avx2(unsafe { _mm256_fmadd_ps(a.0, b.0, sum.0) })
        }

        #[inline(always)]
        unsafe fn add(a: Self, b: Self) -> Self {
            // SAFETY: the caller guarantees AVX2.
            Avx2(unsafe { _mm256_add_ps(a.0, b.0) })
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: the caller guarantees AVX2.
            unsafe { sum_of_8(self.0) }
        }
    }

    /// In the order of the portable lanes.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn sum_of_8(eight: __m256) -> f32 {
        // SAFETY: the caller guarantees AVX2.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard library's function is the definition, whatever it is computed with.
    #[test]
    fn a_fused_multiply_add_from_f64_has_the_bits_of_one_rounding() {
        let mut state = 1_u64;
        let mut bits = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 32) as u32
        };
        let special = [0, 1, 0x007f_ffff, 0x0080_0000, 0x3f80_0001, 0x7f7f_ffff, 0x7f80_0000];
        let special = special.into_iter().flat_map(|x| [x, x | 1 << 31]).chain([0x7fc0_0000]);
        let special: Vec<f32> = special.map(f32::from_bits).collect();
        let check = |a: f32, b: f32, c: f32| {
            let (found, expected) = (fused_in_f64(a, b, c), a.mul_add(b, c));
            let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
            assert!(same, "{a:e} {b:e} {c:e}: {found:e}, {expected:e}");
        };
        for &a in &special {
            for &b in &special {
                special.iter().for_each(|&c| check(a, b, c));
            }
        }
        for _ in 0..200_000 {
            let [a, b, c] = [bits(), bits(), bits()];
            check(f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
            // Terms of similar size, and a sum that lies close to halfway between two floats.
            let near = |x: u32, exponent: u32| f32::from_bits(x & 0x807f_ffff | exponent << 23);
            check(near(a, 127), near(b, 127), near(c, 127 + c % 3));
            check(near(a & !0xfff, 127), near(b & !0xfff, 127), near(c, 100 + c % 30));
        }
    }
}
