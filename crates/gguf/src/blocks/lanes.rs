//! Computes several groups of weights at once, one in each lane of a vector register.
//!
//! The search for a group's scale sums floats one after another, and the order must be the same as
//! ggml's to get the same bytes, so the additions of one group cannot be divided among the lanes of
//! a register. Different groups are independent: `Lanes` contains one number of each of `N` groups.
//! Every operation is the scalar one for each lane; the compiler compiles a loop over the lanes to
//! vector instructions.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::each::{each, map};
use super::rounding::nearest_int;

/// One number for each of `N` groups.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(32))]
pub(super) struct Lanes<const N: usize>(pub(super) [f32; N]);

/// One boolean for each of `N` groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mask<const N: usize>([bool; N]);

impl<const N: usize> Lanes<N> {
    /// The same number in every lane.
    #[inline(always)]
    pub(super) fn splat(x: f32) -> Self {
        Lanes([x; N])
    }

    /// The absolute values.
    #[inline(always)]
    pub(super) fn abs(self) -> Self {
        Lanes(map(&self.0, f32::abs))
    }

    /// The square roots.
    #[inline(always)]
    pub(super) fn sqrt(self) -> Self {
        Lanes(map(&self.0, f32::sqrt))
    }

    /// The nearest integers, clamped, as floats.
    #[inline(always)]
    pub(super) fn round_within(self, low: i32, high: i32) -> Self {
        Lanes(map(&self.0, |x| nearest_int(x).clamp(low, high) as f32))
    }

    /// The nearest integers from 0 to `highest`, as floats; 0 for NaN. Clamped before they are
    /// rounded, so that no number is too large for the rounding.
    #[inline(always)]
    pub(super) fn clamp_and_round(self, highest: i32) -> Self {
        let highest = highest as f32;
        Lanes(map(&self.0, |x| {
            let positive = if x > 0.0 { x } else { 0.0 };
            let clamped = if positive < highest { positive } else { highest };
            nearest_int(clamped) as f32
        }))
    }

    /// Integers converted as C converts them to an unsigned byte.
    #[inline(always)]
    pub(super) fn wrap_to_byte(self) -> Self {
        Lanes(map(&self.0, |x| (x as i32 & 0xff) as f32))
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
    /// False everywhere.
    pub(super) const NONE: Self = Mask([false; N]);

    /// `yes` where the mask is true, `no` elsewhere.
    #[inline(always)]
    pub(super) fn select(self, yes: Lanes<N>, no: Lanes<N>) -> Lanes<N> {
        Lanes(each(|i| if self.0[i] { yes.0[i] } else { no.0[i] }))
    }

    /// The value of one lane.
    #[inline(always)]
    pub(super) fn lane(self, i: usize) -> bool {
        self.0[i]
    }

    /// Whether any lane is true.
    #[inline(always)]
    pub(super) fn any(self) -> bool {
        self.0.into_iter().fold(false, |any, yes| any | yes)
    }

    /// True where the mask is false.
    #[inline(always)]
    pub(super) fn not(self) -> Self {
        Mask(map(&self.0, |yes| !yes))
    }

    /// True where either is true.
    #[inline(always)]
    pub(super) fn or(self, other: Self) -> Self {
        Mask(each(|i| self.0[i] | other.0[i]))
    }

    /// True where both are true.
    #[inline(always)]
    pub(super) fn and(self, other: Self) -> Self {
        Mask(each(|i| self.0[i] & other.0[i]))
    }
}

/// The sum of all elements, added in their order.
#[inline(always)]
pub(super) fn sum<const N: usize, const LEN: usize>(x: &[Lanes<N>; LEN]) -> Lanes<N> {
    x.iter().fold(Lanes::splat(0.0), |sum, &x| sum + x)
}

/// Groups of `LEN` consecutive weights, transposed so that lane `g` of element `i` is weight `i` of
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
