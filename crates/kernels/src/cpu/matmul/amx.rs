//! The inner loop on tile registers (Intel AMX, `tdpbf16ps`).
//!
//! Eight registers hold a tile of 16 rows of 64 bytes each: 0 to 3 the four quarters of the square
//! of sums, 4 and 5 two tiles of A, 6 and 7 two of B. Four loads feed four products:
//!
//! ```text
//!         B 6   B 7
//!  A 4    C 0   C 1
//!  A 5    C 2   C 3
//! ```
//!
//! Inline assembly, because the intrinsics are not stable in Rust yet.

use std::arch::asm;

use super::Operands;
use super::pack::{TILE, Tile};

/// What `ldtilecfg` reads: palette 1, then bytes per row and rows of each register
/// (Intel SDM, volume 2, LDTILECFG).
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

static ALL_FULL: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes_per_row: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Configures eight full tile registers, runs `work` and releases the registers.
pub(super) fn with_tiles(work: impl FnOnce()) {
    // SAFETY: reads 64 bytes of a static; the tiles were requested when AMX was detected.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &ALL_FULL, options(nostack, readonly)) };
    work();
    // SAFETY: no tile is read after this.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Computes one square.
///
/// # Safety
/// `corner` must be the start of a writable square whose rows are `stride` numbers apart, and the
/// call must be inside [`with_tiles`].
pub(super) unsafe fn square<const P: usize>(
    operands: Operands<'_, P>,
    corner: *mut f32,
    stride: usize,
    add: bool,
) {
    let quarter = corner;
    // SAFETY: the four corners lie inside the square.
    let (right, below, diagonal) =
        unsafe { (corner.add(TILE), corner.add(TILE * stride), corner.add(TILE * stride + TILE)) };
    let row_bytes = stride * size_of::<f32>();
    // SAFETY: reads or clears tiles that this call may use; the caller guarantees the memory.
    unsafe {
        if add {
            asm!(
                "tileloadd tmm0, [{c0} + {stride}]",
                "tileloadd tmm1, [{c1} + {stride}]",
                "tileloadd tmm2, [{c2} + {stride}]",
                "tileloadd tmm3, [{c3} + {stride}]",
                c0 = in(reg) quarter, c1 = in(reg) right, c2 = in(reg) below, c3 = in(reg) diagonal,
                stride = in(reg) row_bytes, options(nostack, readonly),
            );
        } else {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nostack, nomem)
            );
        }
    }
    let [a0, a1] = operands.a;
    let [b0, b1] = operands.b;
    for (((a0, a1), b0), b1) in a0.iter().zip(a1).zip(b0).zip(b1) {
        // SAFETY: this call is inside `with_tiles`, so the tiles may be used.
        unsafe {
            match P {
                1 => add_product(&a0[0], &a1[0], &b0[0], &b1[0]),
                _ => add_products_of_parts(a0, a1, b0, b1),
            }
        }
    }
    // SAFETY: the caller guarantees that the square is writable.
    unsafe {
        asm!(
            "tilestored [{c0} + {stride}], tmm0",
            "tilestored [{c1} + {stride}], tmm1",
            "tilestored [{c2} + {stride}], tmm2",
            "tilestored [{c3} + {stride}], tmm3",
            c0 = in(reg) quarter, c1 = in(reg) right, c2 = in(reg) below, c3 = in(reg) diagonal,
            stride = in(reg) row_bytes, options(nostack),
        );
    }
}

/// Adds the product of two tiles of A and two of B to the sums.
///
/// # Safety
/// The call must be inside [`with_tiles`].
#[inline(always)]
unsafe fn add_product(a0: &Tile, a1: &Tile, b0: &Tile, b1: &Tile) {
    // SAFETY: each operand is a whole tile of 16 rows, 64 bytes apart.
    unsafe {
        asm!(
            "tileloadd tmm4, [{a0} + {stride}]",
            "tileloadd tmm6, [{b0} + {stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b1} + {stride}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a1} + {stride}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            a0 = in(reg) a0, a1 = in(reg) a1, b0 = in(reg) b0, b1 = in(reg) b1,
            stride = in(reg) 64_usize, options(nostack, readonly),
        );
    }
}

/// Adds the six products of the parts of two tiles of A and two of B, of three parts each.
///
/// From one pair of parts to the next only one of the two operands is loaded: with `h`igh, `m`iddle
/// and `l`ow parts the order is `h l, h m, h h, l h, m h, m m`, 14 loads for 24 products.
///
/// # Safety
/// The call must be inside [`with_tiles`], and each operand must have three parts.
#[inline(always)]
unsafe fn add_products_of_parts<const P: usize>(
    a0: &[Tile; P],
    a1: &[Tile; P],
    b0: &[Tile; P],
    b1: &[Tile; P],
) {
    const { assert!(P == 3 || P == 1, "three parts") };
    // SAFETY: a part is a whole tile of 16 rows, 64 bytes apart, and 1,024 bytes after the last.
    unsafe {
        asm!(
            "tileloadd tmm6, [{b0} + {stride} + 2048]",
            "tileloadd tmm4, [{a0} + {stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a1} + {stride}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tileloadd tmm7, [{b1} + {stride} + 2048]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm6, [{b0} + {stride} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tileloadd tmm7, [{b1} + {stride} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm6, [{b0} + {stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tileloadd tmm7, [{b1} + {stride}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm4, [{a0} + {stride} + 2048]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a1} + {stride} + 2048]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm4, [{a0} + {stride} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a1} + {stride} + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm6, [{b0} + {stride} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tileloadd tmm7, [{b1} + {stride} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            a0 = in(reg) a0, a1 = in(reg) a1, b0 = in(reg) b0, b1 = in(reg) b1,
            stride = in(reg) 64_usize, options(nostack, readonly),
        );
    }
}
