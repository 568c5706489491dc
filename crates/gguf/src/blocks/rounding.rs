//! Float to integer exactly as ggml's x86-64 build does it, where Rust or mathematics would differ.

/// The nearest integer, ties to even, by adding 1.5 * 2^23 and reading the mantissa.
///
/// Beyond ±2^22, where the trick does not hold, the result is whatever the mantissa says: the same
/// bits as in ggml (`nearest_int` in `ggml-quants.c`), which is what equal files need.
#[inline(always)]
pub(super) fn nearest_int(x: f32) -> i32 {
    const MANTISSA: u32 = 0x007f_ffff;
    ((x + 12_582_912.0).to_bits() & MANTISSA) as i32 - 0x0040_0000
}

/// Drops the fraction, like the `cvttps2dq` instruction: NaN and whatever is too large become
/// `i32::MIN`, where Rust's `as` gives 0 and the nearest bound.
///
/// Such values arise when a block's scale is so small that its inverse is infinite.
#[inline(always)]
pub(super) fn truncate(x: f32) -> i32 {
    if x < 2_147_483_648.0 { x as i32 } else { i32::MIN }
}

/// The inverse of a scale; 0 for a block of zeros.
#[inline(always)]
pub(super) fn inverse_or_zero(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_even_neighbour() {
        assert_eq!([0.5, 1.5, 2.5, -0.5, -1.5, 7.49].map(nearest_int), [0, 2, 2, 0, -2, 7]);
    }

    #[test]
    fn what_no_integer_can_hold_becomes_the_smallest() {
        assert_eq!([2.9, -2.9, 1e9].map(truncate), [2, -2, 1_000_000_000]);
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e9, -3e9] {
            assert_eq!(truncate(x), i32::MIN, "{x}");
        }
    }
}
