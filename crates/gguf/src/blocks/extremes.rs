//! Smallest, largest and outermost weight of a block.
//!
//! Folding floats one by one cannot be vectorised, because `-0.0` and `0.0` compare as equal and
//! the first one met must win. So the extreme is found among integers that sort like the floats,
//! and then the first weight equal to it is taken.

/// An integer that sorts as the float does.
#[inline(always)]
fn sort_key(x: f32) -> i32 {
    let bits = x.to_bits() as i32;
    bits ^ ((bits >> 31) & i32::MAX)
}

/// The inverse of [`sort_key`].
#[inline(always)]
fn from_sort_key(key: i32) -> f32 {
    f32::from_bits((key ^ ((key >> 31) & i32::MAX)) as u32)
}

/// The first weight that equals `extreme`; it differs from it only if they are zeros of
/// different sign.
#[inline(always)]
fn first_equal<const N: usize>(x: &[f32; N], extreme: f32) -> f32 {
    if extreme != 0.0 {
        return extreme;
    }
    x.iter().copied().find(|&v| v == 0.0).unwrap_or(extreme)
}

/// The largest magnitude.
#[inline(always)]
pub(super) fn largest_magnitude<const N: usize>(x: &[f32; N]) -> f32 {
    let bits = x.iter().fold(0_i32, |largest, v| largest.max(v.abs().to_bits() as i32));
    f32::from_bits(bits as u32)
}

/// The weight farthest from zero, with its sign; the first of several. Zero in a block of zeros.
#[inline(always)]
pub(super) fn outermost<const N: usize>(x: &[f32; N]) -> f32 {
    let magnitude = largest_magnitude(x);
    if magnitude == 0.0 {
        return 0.0;
    }
    let mut first = N as u32 - 1;
    for (i, v) in x.iter().enumerate() {
        first = first.min(if v.abs() == magnitude { i as u32 } else { u32::MAX });
    }
    x[first as usize]
}

/// Smallest and largest weight.
#[inline(always)]
pub(super) fn smallest_and_largest<const N: usize>(x: &[f32; N]) -> (f32, f32) {
    let smallest = x.iter().fold(i32::MAX, |least, &v| least.min(sort_key(v)));
    let largest = x.iter().fold(i32::MIN, |most, &v| most.max(sort_key(v)));
    (first_equal(x, from_sort_key(smallest)), first_equal(x, from_sort_key(largest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_wins() {
        assert_eq!(outermost(&[1.0, -3.0, 3.0, 2.0]), -3.0);
        assert_eq!(outermost(&[1.0, 3.0, -3.0, 2.0]), 3.0);
        assert!(outermost(&[-0.0_f32; 4]).is_sign_positive());
    }

    #[test]
    fn zeros_keep_the_sign_of_the_first() {
        let (min, max) = smallest_and_largest(&[0.0, -0.0, 0.0, -0.0]);
        assert!(min.is_sign_positive() && max.is_sign_positive());
        let (min, _) = smallest_and_largest(&[2.0, -0.0, 0.0, 1.0]);
        assert!(min.is_sign_negative());
        assert_eq!(smallest_and_largest(&[-2.0, 5.0, -7.5, 0.0]), (-7.5, 5.0));
    }
}
