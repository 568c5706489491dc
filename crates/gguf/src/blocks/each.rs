//! Builds arrays with a plain loop.
//!
//! The compiler does not inline `array::map` of the standard library, so it would run without the
//! vector instructions of the kernel that calls it. The functions here are inlined into the kernel.

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
