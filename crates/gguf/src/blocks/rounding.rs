//! Conversions from float to integer that are exactly those of ggml's x86-64 build, where Rust's
//! own would give other results.

/// The nearest integer, ties to even, by adding 1.5 * 2^23 and reading the mantissa.
///
/// Beyond ±2^22 this is not the nearest integer, but the result has the same bits as in ggml
/// (`nearest_int` in `ggml-quants.c`), which is required to write the same files.
#[inline(always)]
pub(super) fn nearest_int(x: f32) -> i32 {
    const MANTISSA: u32 = 0x007f_ffff;
    ((x + 12_582_912.0).to_bits() & MANTISSA) as i32 - 0x0040_0000
}

/// The integer below a number from 0 to 2^22, as a byte: the nearest one, minus one if that is
/// above.
///
/// Unlike a cast in Rust, this does not handle numbers that are too large for an integer, so it
/// takes only a few vector instructions. NaN becomes 0.
#[inline(always)]
pub(super) fn floor_to_byte(x: f32) -> u8 {
    let shifted = x + 12_582_912.0;
    let nearest = shifted - 12_582_912.0;
    (shifted.to_bits() as u8).wrapping_sub(u8::from(nearest > x))
}

/// The nearest integer to a number whose magnitude is at most 127.5, halves away from zero.
#[inline(always)]
pub(super) fn round_to_byte(x: f32) -> i8 {
    let magnitude = x.abs();
    let shifted = magnitude + 12_582_912.0;
    let nearest_even = shifted - 12_582_912.0;
    let half_left_over = magnitude - nearest_even == 0.5;
    let rounded = (shifted.to_bits() as u8).wrapping_add(u8::from(half_left_over)) as i8;
    let sign = (x.to_bits() as i32 >> 31) as i8;
    (rounded ^ sign).wrapping_sub(sign)
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
    fn bytes_are_rounded_as_integers_are() {
        let steps = (0..=1020).map(|i| i as f32 / 8.0);
        let around = steps.flat_map(|x| [x.next_down().max(0.0), x, x.next_up()]);
        for x in around.filter(|&x| x <= 127.5) {
            assert_eq!(floor_to_byte(x), x as u8, "{x}");
            if x < 127.5 {
                assert_eq!(round_to_byte(x), x.round() as i8, "{x}");
                assert_eq!(round_to_byte(-x), -x.round() as i8, "{x}");
            }
        }
        assert_eq!(floor_to_byte(f32::NAN), 0);
    }
}
