//! Which vector and matrix instructions this processor has.
//!
//! Every kernel takes the instruction set as a value, so that a test can run it on each one that
//! the machine has. An [`Isa`] exists only for instructions that were detected, which is what makes
//! running code compiled for them sound.
//!
//! On other processors (NEON on AArch64 among them) there is only [`Level::Plain`]: the kernels'
//! loops are written so that the compiler vectorises them for whatever the target's baseline is,
//! and NEON is in AArch64's.

use std::sync::LazyLock;

/// A set of instructions, each containing those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of the target has.
    Plain,
    /// 256-bit vectors.
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
    /// All that were detected, slowest first.
    pub fn available() -> &'static [Isa] {
        static AVAILABLE: LazyLock<Vec<Isa>> =
            LazyLock::new(|| detect().into_iter().map(Isa).collect());
        &AVAILABLE
    }

    /// The fastest of [`Isa::available`].
    pub fn best() -> Isa {
        Self::available().last().copied().unwrap_or(Isa(Level::Plain))
    }

    /// Which one this is.
    pub fn level(self) -> Level {
        self.0
    }

    /// Whether products of bf16 numbers have instructions of their own.
    pub fn has_bf16(self) -> bool {
        self.0 >= Level::Avx512Bf16
    }
}

/// Defines functions that are compiled once for each width of vectors, and that take an [`Isa`]
/// before their own arguments to choose by.
///
/// Their loops are vectorised by the compiler. Results do not depend on the choice: no operation is
/// contracted or reordered. What a body calls must be `#[inline(always)]`: a function of its own,
/// and a closure that the compiler finds too long to inline is one, is compiled for the baseline.
macro_rules! vectorised {
    ($(
        $(#[$meta:meta])*
        $visibility:vis fn $name:ident $(<const $number:ident: usize>)? (
            $($argument:ident: $kind:ty),+ $(,)?
        ) $(-> $result:ty)? $body:block
    )+) => {$(
        $(#[$meta])*
        $visibility fn $name $(<const $number: usize>)? (
            isa: $crate::cpu::isa::Isa,
            $($argument: $kind),+
        ) $(-> $result)? {
            #[inline(always)]
            fn body $(<const $number: usize>)? ($($argument: $kind),+) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512 $(<const $number: usize>)? ($($argument: $kind),+) $(-> $result)? {
                body($($argument),+)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2 $(<const $number: usize>)? ($($argument: $kind),+) $(-> $result)? {
                body($($argument),+)
            }

            match isa.level() {
                // SAFETY: an `Isa` is made by `detect`, so the processor has these features.
                #[cfg(target_arch = "x86_64")]
                level if level >= $crate::cpu::isa::Level::Avx512 => unsafe {
                    avx512($($argument),+)
                },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::isa::Level::Avx2 => unsafe { avx2($($argument),+) },
                _ => body($($argument),+),
            }
        }
    )+};
}
pub(crate) use vectorised;

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Vec<Level> {
    vec![Level::Plain]
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Vec<Level> {
    let has_avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    let mut found = vec![Level::Plain];
    if is_x86_feature_detected!("avx2") {
        found.push(Level::Avx2);
        if has_avx512 {
            found.push(Level::Avx512);
            if is_x86_feature_detected!("avx512bf16") {
                found.push(Level::Avx512Bf16);
                if has_amx() {
                    found.push(Level::Amx);
                }
            }
        }
    }
    found
}

/// Other systems than Linux give tile registers in other ways; nobody has tried them here.
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
    // SAFETY: the call takes two integers, touches no memory of ours, and answers a number.
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
