//! Arrays by a plain loop.
//!
//! `array::map` of the standard library is a function of its own that the compiler leaves where
//! it is, without the vector instructions of the kernel that calls it. These are loops inside the
//! kernel.

/// `f(0), f(1), ...`
#[inline(always)]
pub(super) fn each<T: Copy + Default, const N: usize>(f: impl Fn(usize) -> T) -> [T; N] {
    let mut out = [T::default(); N];
    for (i, out) in out.iter_mut().enumerate() {
        *out = f(i);
    }
    out
}

/// `f(x[0]), f(x[1]), ...`
#[inline(always)]
pub(super) fn map<S: Copy, T: Copy + Default, const N: usize>(
    x: &[S; N],
    f: impl Fn(S) -> T,
) -> [T; N] {
    each(|i| f(x[i]))
}
