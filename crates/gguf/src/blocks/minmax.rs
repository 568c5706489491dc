//! The smallest and the largest of a block of 32 weights, and the one farthest from zero.
//!
//! The weights are compared eight at a time, so that the compiler keeps them in vectors. `-0.0` and
//! `0.0` compare as equal, and the result must be the first of several equal weights: where this
//! matters, the block is searched from the start.

use super::each::{each, map};

/// Reduces the weights to one, where `better` chooses one of two.
///
/// Uses floats on purpose: the compiler may reorder a reduction of integers, and the result is
/// slow.
#[inline(always)]
fn last_of(x: &[f32; 32], better: impl Fn(f32, f32) -> f32) -> f32 {
    let (runs, _) = x.as_chunks::<8>();
    let mut best = runs[0];
    for run in &runs[1..] {
        for (best, &x) in best.iter_mut().zip(run) {
            *best = better(x, *best);
        }
    }
    let x: [f32; 4] = each(|i| better(best[i], best[i + 4]));
    better(better(x[0], x[2]), better(x[1], x[3]))
}

/// One of the smallest weights and one of the largest.
#[inline(always)]
fn bounds(x: &[f32; 32]) -> (f32, f32) {
    let smallest = last_of(x, |a, b| if a < b { a } else { b });
    let largest = last_of(x, |a, b| if a > b { a } else { b });
    (smallest, largest)
}

/// The first weight that is a zero, with its sign.
#[cold]
fn first_zero(x: &[f32; 32]) -> f32 {
    x.iter().copied().find(|&v| v == 0.0).unwrap_or(0.0)
}

/// The first weight of this magnitude.
#[cold]
fn first_of_magnitude(x: &[f32; 32], magnitude: f32) -> f32 {
    x.iter().copied().find(|v| v.abs() == magnitude).unwrap_or(magnitude)
}

/// The largest magnitude.
#[inline(always)]
pub(super) fn largest_magnitude(x: &[f32; 32]) -> f32 {
    last_of(&map(x, f32::abs), |a, b| if a > b { a } else { b })
}

/// The weight farthest from zero, with its sign; the first one of several. Zero in a block of
/// zeros.
#[inline(always)]
pub(super) fn outermost(x: &[f32; 32]) -> f32 {
    let (smallest, largest) = bounds(x);
    if smallest == -largest {
        return if largest == 0.0 { 0.0 } else { first_of_magnitude(x, largest) };
    }
    // Without a branch, because the processor could not predict which side is farther.
    let negative = -smallest > largest;
    let magnitude = if negative { -smallest } else { largest };
    f32::from_bits(magnitude.to_bits() | u32::from(negative) << 31)
}

/// Smallest and largest weight; the first one of several equal weights.
#[inline(always)]
pub(super) fn smallest_and_largest(x: &[f32; 32]) -> (f32, f32) {
    let (smallest, largest) = bounds(x);
    if smallest == 0.0 || largest == 0.0 {
        let zero = first_zero(x);
        return (
            if smallest == 0.0 { zero } else { smallest },
            if largest == 0.0 { zero } else { largest },
        );
    }
    (smallest, largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(weights: &[f32]) -> [f32; 32] {
        std::array::from_fn(|i| weights[i % weights.len()])
    }

    #[test]
    fn the_first_of_equals_wins() {
        assert_eq!(outermost(&block(&[1.0, -3.0, 3.0, 2.0])), -3.0);
        assert_eq!(outermost(&block(&[1.0, 3.0, -3.0, 2.0])), 3.0);
        assert_eq!(outermost(&block(&[1.0, -2.0, -4.0, 0.0])), -4.0);
        assert_eq!(outermost(&block(&[1.0, 2.0, 0.5, 0.0])), 2.0);
        assert!(outermost(&[-0.0; 32]).is_sign_positive());
    }

    #[test]
    fn zeros_keep_the_sign_of_the_first() {
        let (min, max) = smallest_and_largest(&block(&[0.0, -0.0, 0.0, -0.0]));
        assert!(min.is_sign_positive() && max.is_sign_positive());
        let (min, _) = smallest_and_largest(&block(&[2.0, -0.0, 0.0, 1.0]));
        assert!(min.is_sign_negative());
        assert_eq!(smallest_and_largest(&block(&[-2.0, 5.0, -7.5, 0.0])), (-7.5, 5.0));
    }
}
