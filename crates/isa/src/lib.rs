//! Detects the vector and matrix instructions of this processor.
//!
//! Every kernel takes the instruction set as a value, so that a test can run it on each one that
//! the machine has. An [`Isa`] exists only for instructions that were detected, so it is sound to
//! run code that was compiled for them. [`vectorised`] defines such functions.
//!
//! On processors other than x86-64 there is only [`Level::Plain`]: the compiler vectorises the
//! kernels' loops for the target's baseline, which contains NEON on AArch64.

use std::sync::LazyLock;

/// A set of instructions, each containing those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Instructions that every processor of the target has.
    Plain,
    /// 256-bit vectors: AVX2 and FMA, which every processor with AVX2 has.
    Avx2,
    /// 512-bit vectors: AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 with `vdpbf16ps`: 16 dot products of two pairs of bf16 in one instruction.
    Avx512Bf16,
    /// Tile registers with `tdpbf16ps`: 256 dot products of 16 pairs of bf16 in one instruction.
    Amx,
}

/// An instruction set that this processor and operating system offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Isa(Level);

impl Isa {
    /// All that were detected, slowest first. If the processor has tile registers, this requests
    /// them from Linux.
    pub fn available() -> &'static [Isa] {
        static AVAILABLE: LazyLock<Vec<Isa>> = LazyLock::new(|| {
            let mut found = Isa::with_vectors().to_vec();
            if Isa::vectors().has_bf16() && has_amx() {
                found.push(Isa(Level::Amx));
            }
            found
        });
        &AVAILABLE
    }

    /// The fastest of [`Isa::available`].
    pub fn best() -> Isa {
        Self::available().last().copied().unwrap_or(Isa(Level::Plain))
    }

    /// Those of [`Isa::available`] without tile registers, which are not requested here.
    pub fn with_vectors() -> &'static [Isa] {
        static VECTORS: LazyLock<Vec<Isa>> =
            LazyLock::new(|| detect_vectors().into_iter().map(Isa).collect());
        &VECTORS
    }

    /// The widest of [`Isa::with_vectors`], for code without matrix products.
    pub fn vectors() -> Isa {
        Self::with_vectors().last().copied().unwrap_or(Isa(Level::Plain))
    }

    /// The level of this instruction set.
    pub fn level(self) -> Level {
        self.0
    }

    /// Whether there are instructions for products of bf16 numbers.
    pub fn has_bf16(self) -> bool {
        self.0 >= Level::Avx512Bf16
    }
}

/// Defines functions that are compiled once for each vector width. They take an [`Isa`] before
/// their own arguments and run the version for it.
///
/// A function may have one parameter: `<const N: usize>`, or a type, written `<type T: Bound>`.
///
/// The compiler vectorises their loops. Results do not depend on the instruction set, because
/// operations are not contracted or reordered. Functions that a body calls must be
/// `#[inline(always)]`: a function that is not inlined is compiled for the baseline, and so is a
/// closure that the compiler considers too long to inline.
#[macro_export]
macro_rules! vectorised {
    ($(
        $(#[$meta:meta])*
        $visibility:vis fn $name:ident
            $(<const $number:ident: usize>)? $(<type $type:ident: $bound:path>)? (
            $($argument:ident: $kind:ty),+ $(,)?
        ) $(-> $result:ty)? $body:block
    )+) => {$(
        $(#[$meta])*
        $visibility fn $name $(<const $number: usize>)? $(<$type: $bound>)? (
            isa: $crate::Isa,
            $($argument: $kind),+
        ) $(-> $result)? {
            #[inline(always)]
            fn body $(<const $number: usize>)? $(<$type: $bound>)? ($($argument: $kind),+) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512 $(<const $number: usize>)? $(<$type: $bound>)? ($($argument: $kind),+) $(-> $result)? {
                body($($argument),+)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2 $(<const $number: usize>)? $(<$type: $bound>)? ($($argument: $kind),+) $(-> $result)? {
                body($($argument),+)
            }

            match isa.level() {
                // SAFETY: an `Isa` exists only for detected instructions, so the processor has
                // these features.
                #[cfg(target_arch = "x86_64")]
                level if level >= $crate::Level::Avx512 => unsafe {
                    avx512($($argument),+)
                },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::Level::Avx2 => unsafe { avx2($($argument),+) },
                _ => body($($argument),+),
            }
        }
    )+};
}

#[cfg(not(target_arch = "x86_64"))]
fn detect_vectors() -> Vec<Level> {
    vec![Level::Plain]
}

#[cfg(not(target_arch = "x86_64"))]
fn has_amx() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn detect_vectors() -> Vec<Level> {
    let has_avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    let mut found = vec![Level::Plain];
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        found.push(Level::Avx2);
        if has_avx512 {
            found.push(Level::Avx512);
            if is_x86_feature_detected!("avx512bf16") {
                found.push(Level::Avx512Bf16);
            }
        }
    }
    found
}

/// Other systems than Linux provide tile registers in other ways, which are not supported.
#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn has_amx() -> bool {
    false
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn has_amx() -> bool {
    has_amx_bf16() && request_amx()
}

/// CPUID leaf 7: EDX bit 22 is AMX-BF16, bit 24 AMX-TILE (Intel SDM, volume 2, CPUID).
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn has_amx_bf16() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    let deepest = __cpuid(0).eax;
    deepest >= 7 && __cpuid_count(7, 0).edx & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE
}

/// Linux gives a process the tile registers only on request (Linux, `arch/x86/xstate.rst`).
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn request_amx() -> bool {
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let status: i64;
    // SAFETY: the call takes two integers, does not access our memory, and returns a number.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") SYS_ARCH_PRCTL => status,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    status == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    vectorised! {
        fn sum(x: &[u32]) -> u32 {
            x.iter().sum()
        }

        fn lengths<const N: usize>(x: [&[u32]; N]) -> [usize; N] {
            x.map(<[u32]>::len)
        }

        fn largest<type T: Ord>(x: Vec<T>) -> Option<T> {
            x.into_iter().max()
        }
    }

    #[test]
    fn every_set_runs_the_same_function() {
        for &isa in Isa::available() {
            assert_eq!(sum(isa, &[1, 2, 3]), 6);
            assert_eq!(lengths(isa, [&[1, 2], &[]]), [2, 0]);
            assert_eq!(largest(isa, vec!["a", "c", "b"]), Some("c"));
        }
    }

    #[test]
    fn each_set_contains_those_before_it() {
        assert_eq!(Isa::available()[0].level(), Level::Plain);
        assert!(Isa::available().is_sorted());
        assert!(Isa::available().starts_with(Isa::with_vectors()));
        assert!(Isa::vectors().level() < Level::Amx && Isa::vectors() <= Isa::best());
    }
}
