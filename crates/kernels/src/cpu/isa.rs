//! Which instructions this processor has for products of bf16 numbers.

use std::sync::LazyLock;

/// How a product of two bf16 matrices is computed, slowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bf16Isa {
    /// Plain Rust: runs everywhere, and is what the others are tested against.
    Plain,
    /// AVX-512 with `vdpbf16ps`: 16 dot products of two pairs in one instruction.
    Avx512,
    /// Tile registers, `tdpbf16ps`: 256 dot products of 16 pairs in one instruction.
    Amx,
}

impl Bf16Isa {
    /// All that this processor and operating system offer, slowest first.
    pub fn available() -> &'static [Bf16Isa] {
        static AVAILABLE: LazyLock<Vec<Bf16Isa>> = LazyLock::new(detect);
        &AVAILABLE
    }

    /// The fastest of [`Bf16Isa::available`].
    pub fn best() -> Bf16Isa {
        Self::available().last().copied().unwrap_or(Bf16Isa::Plain)
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn detect() -> Vec<Bf16Isa> {
    vec![Bf16Isa::Plain]
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn detect() -> Vec<Bf16Isa> {
    let mut found = vec![Bf16Isa::Plain];
    if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw") {
        found.push(Bf16Isa::Avx512);
        if has_amx_bf16() && request_amx() {
            found.push(Bf16Isa::Amx);
        }
    }
    found
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
