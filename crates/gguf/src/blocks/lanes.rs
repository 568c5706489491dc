//! Several groups of weights at once, one in each lane of a vector register.
//!
//! The search for a group's scale adds up floats one after another, and equal bytes need exactly
//! that order, so the additions of one group cannot be spread over a register. Different groups
//! do not touch each other: `Lanes` holds the same step of `N` of them. Every operation is the
//! scalar one, per lane; the compiler turns a loop over the lanes into vector instructions.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::each::{each, map};
use super::rounding::nearest_int;

/// One number for each of `N` groups.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(32))]
pub(super) struct Lanes<const N: usize>(pub(super) [f32; N]);

/// One answer for each of `N` groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mask<const N: usize>([bool; N]);

impl<const N: usize> Lanes<N> {
    /// The same number in every lane.
    #[inline(always)]
    pub(super) fn splat(x: f32) -> Self {
        Lanes([x; N])
    }

    /// Magnitudes.
    #[inline(always)]
    pub(super) fn abs(self) -> Self {
        Lanes(map(&self.0, f32::abs))
    }

    /// Square roots.
    #[inline(always)]
    pub(super) fn sqrt(self) -> Self {
        Lanes(map(&self.0, f32::sqrt))
    }

    /// The nearest integers, clamped, as floats.
    #[inline(always)]
    pub(super) fn round_within(self, low: i32, high: i32) -> Self {
        Lanes(map(&self.0, |x| nearest_int(x).clamp(low, high) as f32))
    }

    /// Where `self < other`.
    #[inline(always)]
    pub(super) fn less_than(self, other: Self) -> Mask<N> {
        Mask(each(|i| self.0[i] < other.0[i]))
    }

    /// Where `self == other`.
    #[inline(always)]
    pub(super) fn equals(self, other: Self) -> Mask<N> {
        Mask(each(|i| self.0[i] == other.0[i]))
    }
}

impl<const N: usize> Mask<N> {
    /// `yes` where the answer is yes, `no` elsewhere.
    #[inline(always)]
    pub(super) fn select(self, yes: Lanes<N>, no: Lanes<N>) -> Lanes<N> {
        Lanes(each(|i| if self.0[i] { yes.0[i] } else { no.0[i] }))
    }

    /// Yes where both are.
    #[inline(always)]
    pub(super) fn and(self, other: Self) -> Self {
        Mask(each(|i| self.0[i] & other.0[i]))
    }
}

/// Groups of `LEN` consecutive weights, turned so that lane `g` of element `i` is weight `i` of
/// group `g`.
#[inline(always)]
pub(super) fn transpose<const N: usize, const LEN: usize>(x: &[f32]) -> [Lanes<N>; LEN] {
    let mut out = [Lanes::splat(0.0); LEN];
    for (i, out) in out.iter_mut().enumerate() {
        *out = Lanes(each(|group| x[group * LEN + i]));
    }
    out
}

macro_rules! per_lane {
    ($($operation:ident $method:ident),*) => {$(
        impl<const N: usize> $operation for Lanes<N> {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Lanes(each(|i| self.0[i].$method(other.0[i])))
            }
        }
    )*};
}

per_lane!(Add add, Sub sub, Mul mul, Div div);

impl<const N: usize> Neg for Lanes<N> {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        Lanes(map(&self.0, |x| -x))
    }
}
