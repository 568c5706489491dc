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
//! Inline assembly, because the intrinsics are not stable in Rust yet. Registers keep their values
//! only within one block of assembly: the compiler may do anything to them in between. So one block
//! configures the tiles, computes a whole square, stores it and releases the tiles, and declares
//! all eight as changed. No function may expect tiles to survive a call (System V ABI for x86-64,
//! section 3.2.1), so the release takes nothing from anybody.
//!
//! Source of the instructions: Intel SDM, volume 2, LDTILECFG, TILELOADD, TDPBF16PS, TILESTORED,
//! TILERELEASE. A memory operand of TILELOADD and TILESTORED is base + displacement for the first
//! row; the index register holds the bytes from one row to the next.

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

const _: () = assert!(size_of::<TileConfig>() == 64, "LDTILECFG reads 64 bytes");

static ALL_FULL: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes_per_row: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// One square: configures the tiles, reads or clears the sums, runs `$products` for every tile of
/// the depth, stores the sums and releases the tiles.
///
/// `$products` finds the tiles of A at `{a0}` and `{a1}`, those of B at `{b0}` and `{b1}`, and 64 in
/// `{line}`; after it each pointer is moved on by `$step` bytes.
macro_rules! whole_square {
    ($operands:expr, $corner:expr, $row_bytes:expr, $add:expr, $step:expr, [$($products:literal),+ $(,)?]) => {{
        let Operands { a: [a0, a1], b: [b0, b1] } = $operands;
        let depth = a0.len();
        assert!(a1.len() == depth && b0.len() == depth && b1.len() == depth, "equally deep");
        asm!(
            "ldtilecfg [{config}]",
            "test {add}, {add}",
            "jz 2f",
            "tileloadd tmm0, [{above} + {row}]",
            "tileloadd tmm1, [{above} + {row} + 64]",
            "tileloadd tmm2, [{below} + {row}]",
            "tileloadd tmm3, [{below} + {row} + 64]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "3:",
            "test {depth}, {depth}",
            "jz 5f",
            "4:",
            $($products,)+
            "add {a0}, {step}",
            "add {a1}, {step}",
            "add {b0}, {step}",
            "add {b1}, {step}",
            "dec {depth}",
            "jnz 4b",
            "5:",
            "tilestored [{above} + {row}], tmm0",
            "tilestored [{above} + {row} + 64], tmm1",
            "tilestored [{below} + {row}], tmm2",
            "tilestored [{below} + {row} + 64], tmm3",
            "tilerelease",
            config = in(reg) &raw const ALL_FULL,
            above = in(reg) $corner,
            below = in(reg) $corner.byte_add(TILE * $row_bytes),
            row = in(reg) $row_bytes,
            line = in(reg) 64_usize,
            add = in(reg) usize::from($add),
            a0 = inout(reg) a0.as_ptr() => _,
            a1 = inout(reg) a1.as_ptr() => _,
            b0 = inout(reg) b0.as_ptr() => _,
            b1 = inout(reg) b1.as_ptr() => _,
            depth = inout(reg) depth => _,
            step = const $step,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }};
}

/// Computes one square.
///
/// # Safety
/// `corner` must be the start of a writable square whose rows are `stride` numbers apart, and
/// readable too if `add`; the tiles must have been requested, as they are when AMX is detected.
pub(super) unsafe fn square<const P: usize>(
    operands: Operands<'_, P>,
    corner: *mut f32,
    stride: usize,
    add: bool,
) {
    const { assert!(P == 3 || P == 1, "one part or three") };
    let row_bytes = stride * size_of::<f32>();
    // SAFETY: the caller guarantees the square: four tiles of 16 rows of 64 bytes, `row_bytes`
    // apart. Each operand is `depth` times `P` whole tiles, one after the other.
    unsafe {
        match P {
            1 => whole_square!(
                operands,
                corner,
                row_bytes,
                add,
                size_of::<Tile>(),
                [
                    "tileloadd tmm4, [{a0} + {line}]",
                    "tileloadd tmm6, [{b0} + {line}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b1} + {line}]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a1} + {line}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                ]
            ),
            // The six products of the parts. From one pair of parts to the next only one of the two
            // operands is loaded: with `h`igh, `m`iddle and `l`ow parts the order is `h l, h m, h h,
            // l h, m h, m m`, 14 loads for 24 products.
            _ => whole_square!(
                operands,
                corner,
                row_bytes,
                add,
                3 * size_of::<Tile>(),
                [
                    "tileloadd tmm6, [{b0} + {line} + 2048]",
                    "tileloadd tmm4, [{a0} + {line}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm5, [{a1} + {line}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tileloadd tmm7, [{b1} + {line} + 2048]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm6, [{b0} + {line} + 1024]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tileloadd tmm7, [{b1} + {line} + 1024]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm6, [{b0} + {line}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tileloadd tmm7, [{b1} + {line}]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm4, [{a0} + {line} + 2048]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a1} + {line} + 2048]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm4, [{a0} + {line} + 1024]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a1} + {line} + 1024]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm6, [{b0} + {line} + 1024]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tileloadd tmm7, [{b1} + {line} + 1024]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                ]
            ),
        }
    }
}
