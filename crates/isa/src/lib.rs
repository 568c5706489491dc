//! Detects the vector and matrix instructions of this processor.
//!
//! Every kernel takes the instruction set as a value, so that a test can run it on each one that
//! the machine has. An [`Isa`] exists only for instructions that were detected, so it is sound to
//! run code that was compiled for them. [`vectorised`] defines such functions. The environment
//! variable [`VARIABLE`] limits what is used, as on a lesser machine.
//!
//! On processors other than x86-64 there is only [`Level::Scalar`]: the compiler vectorises the
//! kernels' loops for the target's baseline, which contains NEON on AArch64.

mod detect;
mod setting;

use std::sync::LazyLock;

pub use setting::{IsaError, VARIABLE, check};

/// A set of instructions, each containing those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Instructions that every processor of the target has; no code for wider vectors.
    Scalar,
    /// 256-bit vectors: AVX2 and FMA, which every processor with AVX2 has.
    Avx2,
    /// 512-bit vectors: AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 with `vdpbf16ps`: 16 dot products of two pairs of bf16 in one instruction.
    Avx512Bf16,
    /// Tile registers with `tdpbf16ps`: 256 dot products of 16 pairs of bf16 in one instruction.
    Amx,
}

impl Level {
    /// All of them, slowest first.
    pub const ALL: [Level; 5] =
        [Level::Scalar, Level::Avx2, Level::Avx512, Level::Avx512Bf16, Level::Amx];

    /// What [`VARIABLE`] calls it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Avx512Bf16 => "avx512bf16",
            Level::Amx => "amx",
        }
    }
}

/// An instruction set that this processor and operating system offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Isa(Level);

impl Isa {
    /// All that were detected, up to the limit of [`VARIABLE`], slowest first. If the processor has
    /// tile registers and they may be used, this requests them from Linux.
    ///
    /// # Panics
    /// When the variable is not one of the machine's; programs call [`check`] first.
    pub fn available() -> &'static [Isa] {
        static AVAILABLE: LazyLock<Vec<Isa>> = LazyLock::new(|| {
            let mut found = Isa::with_vectors().to_vec();
            if Isa::vectors().has_bf16() && limit() >= Level::Amx && detect::has_amx() {
                found.push(Isa(Level::Amx));
            }
            found
        });
        &AVAILABLE
    }

    /// The fastest of [`Isa::available`].
    ///
    /// # Panics
    /// As [`Isa::available`].
    pub fn best() -> Isa {
        Self::available().last().copied().unwrap_or(Isa(Level::Scalar))
    }

    /// Those of [`Isa::available`] without tile registers, which are not requested here.
    ///
    /// # Panics
    /// As [`Isa::available`].
    pub fn with_vectors() -> &'static [Isa] {
        static VECTORS: LazyLock<Vec<Isa>> = LazyLock::new(|| {
            let limit = limit();
            let found = detect::vectors().into_iter();
            found.filter(|level| *level <= limit).map(Isa).collect()
        });
        &VECTORS
    }

    /// The widest of [`Isa::with_vectors`], for code without matrix products.
    ///
    /// # Panics
    /// As [`Isa::available`].
    pub fn vectors() -> Isa {
        Self::with_vectors().last().copied().unwrap_or(Isa(Level::Scalar))
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

/// Whether [`VARIABLE`] keeps this process from instructions that the machine has. Libraries that
/// detect instructions by themselves do not know of it and have to be avoided then.
///
/// # Panics
/// As [`Isa::available`].
pub fn is_limited() -> bool {
    setting::detected().last().is_some_and(|highest| limit() < *highest)
}

/// The level of [`VARIABLE`]; without it, the highest.
fn limit() -> Level {
    match setting::read() {
        Ok(level) => level.unwrap_or(Level::Amx),
        Err(error) => panic!("{error}"),
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
        assert_eq!(Isa::available()[0].level(), Level::Scalar);
        assert!(Isa::available().is_sorted());
        assert!(Isa::available().starts_with(Isa::with_vectors()));
        assert!(Isa::vectors().level() < Level::Amx && Isa::vectors() <= Isa::best());
    }
}
