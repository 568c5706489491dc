//! Asks the processor and the operating system which instructions they offer.

use crate::Level;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn vectors() -> Vec<Level> {
    vec![Level::Scalar]
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn has_amx() -> bool {
    false
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(crate) fn has_amx_bf16() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn vectors() -> Vec<Level> {
    let has_avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    let mut found = vec![Level::Scalar];
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
pub(crate) fn has_amx() -> bool {
    false
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) fn has_amx() -> bool {
    has_amx_bf16() && request_amx()
}

/// CPUID leaf 7: EDX bit 22 is AMX-BF16, bit 24 AMX-TILE (Intel SDM, volume 2, CPUID).
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) fn has_amx_bf16() -> bool {
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
