//! GELU, and the sums over rows that biases need.

use rayon::prelude::*;

use super::simd::exp;
use isa::{Isa, vectorised};

/// Numbers that one task works on.
const CHUNK: usize = 1 << 14;

/// `sqrt(2 / pi)`
const SCALE: f32 = 0.797_884_6;
/// The cubic term of the approximation (Hendrycks and Gimpel, 2016).
const CUBIC: f32 = 0.044_715;
/// Above this value the logistic function is 1; below its negative it is less than 10^-37.
const FLAT: f32 = 10.0;

/// `x s(2 u)` with the logistic function `s` and `u = sqrt(2 / pi) (x + 0.044715 x^3)`: the tanh
/// form of GELU, since `(1 + tanh u) / 2 = s(2 u)`.
pub fn gelu(isa: Isa, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "gelu's input and output");
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        gelu_chunk(isa, x, y);
    });
}

/// `dx = dy (s + x s (1 - s) 2 du/dx)`; replaces `dy`.
pub fn gelu_backward(isa: Isa, x: &[f32], dy: &mut [f32]) {
    assert_eq!(x.len(), dy.len(), "gelu's input and gradient");
    dy.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(dy, x)| {
        gelu_backward_chunk(isa, x, dy);
    });
}

vectorised! {
    fn gelu_chunk(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * logistic_of_2u(x);
        }
    }

    fn gelu_backward_chunk(x: &[f32], dy: &mut [f32]) {
        for (dy, &x) in dy.iter_mut().zip(x) {
            let s = logistic_of_2u(x);
            // Beyond these limits `s (1 - s)` is 0, and x^2 must not become infinite.
            let x = x.clamp(-FLAT, FLAT);
            let slope = 2.0 * SCALE * (1.0 + 3.0 * CUBIC * x * x);
            *dy *= s + x * s * (1.0 - s) * slope;
        }
    }

    /// `x += y`
    fn add(x: &mut [f32], y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }

    /// Adds some columns of every row of `x [N, columns]`, from `first` on, to `sums`.
    fn add_columns(x: &[f32], columns: usize, first: usize, sums: &mut [f32]) {
        for row in x.chunks_exact(columns) {
            for (sum, x) in sums.iter_mut().zip(&row[first..]) {
                *sum += x;
            }
        }
    }
}

#[inline(always)]
fn logistic_of_2u(x: f32) -> f32 {
    let s = 1.0 / (1.0 + exp(-2.0 * SCALE * (x + CUBIC * x * x * x)));
    if x < -FLAT { 0.0 } else { s }
}

/// Adds `bias [C]` to every row of `y [N, C]`.
pub fn add_bias(isa: Isa, y: &mut [f32], bias: &[f32]) {
    y.par_chunks_mut(bias.len().max(1)).with_min_len(8).for_each(|row| {
        add(isa, row, bias);
    });
}

/// The sum over the rows of `x [N, C]`: the gradient of a bias.
pub fn sum_of_rows(isa: Isa, x: &[f32], columns: usize) -> Vec<f32> {
    /// Columns that one task sums: the sums stay in registers and cache.
    const STRIP: usize = 256;
    let mut out = vec![0.0; columns];
    out.par_chunks_mut(STRIP).enumerate().for_each(|(strip, sums)| {
        add_columns(isa, x, columns, strip * STRIP, sums);
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(x: f64) -> f64 {
        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        0.5 * x * (1.0 + u.tanh())
    }

    #[test]
    fn gelu_and_its_gradient_follow_the_definition() {
        let x: Vec<f32> = (-600..600).map(|i| i as f32 * 0.02).collect();
        for &isa in Isa::available() {
            let mut y = vec![0.0; x.len()];
            let mut dx = vec![1.0; x.len()];
            gelu(isa, &x, &mut y);
            gelu_backward(isa, &x, &mut dx);
            for ((&x, &y), &dx) in x.iter().zip(&y).zip(&dx) {
                let x = f64::from(x);
                let slope = (exact(x + 1e-6) - exact(x - 1e-6)) / 2e-6;
                assert!((f64::from(y) - exact(x)).abs() < 1e-6, "gelu({x})");
                assert!((f64::from(dx) - slope).abs() < 2e-6, "gelu'({x}): {dx} {slope}");
            }
        }
    }

    #[test]
    fn gelu_is_flat_at_both_ends() {
        for &isa in Isa::available() {
            for (x, expected) in [(1e10, 1e10), (f32::MAX, f32::MAX), (-1e10, 0.0), (f32::MIN, 0.0)]
            {
                let (mut y, mut dx) = ([f32::NAN], [1.0]);
                gelu(isa, &[x], &mut y);
                gelu_backward(isa, &[x], &mut dx);
                assert_eq!((y[0], dx[0]), (expected, if x > 0.0 { 1.0 } else { 0.0 }), "{x}");
            }
        }
    }

    #[test]
    fn a_bias_and_its_gradient() {
        for &isa in Isa::available() {
            for columns in [1, 3, 17, 33, 700] {
                let mut y = vec![0.0; 3 * columns];
                let bias: Vec<f32> = (0..columns).map(|i| i as f32).collect();
                add_bias(isa, &mut y, &bias);
                let sums = sum_of_rows(isa, &y, columns);
                assert!(sums.iter().zip(&bias).all(|(sum, bias)| *sum == 3.0 * bias));
            }
        }
    }
}
