//! Rotary position embedding (Su et al., 2021): each pair of a head's channels is rotated by an
//! angle proportional to the position.
//!
//! ```text
//! angle(t, i) = t base^(-2 i / R) / factor[i]        t: position in the window
//!                                                     i: pair, 0 .. R/2
//! y0 = x0 cos - x1 sin        y1 = x1 cos + x0 sin
//! ```
//!
//! The first `R` channels of a head are rotated; in most models these are all channels. Cosines and
//! sines may also be multiplied by a factor (LongRoPE). The gradient of a rotation is the inverse
//! rotation, with the same cosines and sines.

use config::{RopePairs, RopeShape};
use rayon::prelude::*;

use isa::{Isa, vectorised};

/// Rows that one task rotates.
const ROWS: usize = 8;

/// The direction of the rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The forward pass.
    Forth,
    /// Its gradient.
    Back,
}

/// Cosines and sines of all angles, `[T, R/2]` each.
#[derive(Debug, Clone, PartialEq)]
pub struct Angles {
    head_width: usize,
    width: usize,
    pairs: RopePairs,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Angles {
    /// For `time` positions.
    ///
    /// # Panics
    /// When an odd number of channels is to be rotated, or more than a head has.
    pub fn new(time: usize, shape: &RopeShape) -> Self {
        let RopeShape { pairs, head_width, width, base, magnitude, .. } = *shape;
        assert!(width.is_multiple_of(2), "heads of an even width, not {width}");
        assert!(width <= head_width, "{width} of {head_width} channels");
        let angles = (0..time).flat_map(|t| {
            let angle = move |i: usize| {
                f64::from(base).powf(-2.0 * i as f64 / width as f64) / shape.factor(i) * t as f64
            };
            (0..width / 2).map(angle)
        });
        let grown = |x: f64| (x * f64::from(magnitude)) as f32;
        let (sin, cos) =
            angles.map(f64::sin_cos).map(|(sin, cos)| (grown(sin), grown(cos))).unzip();
        Angles { head_width, width, pairs, cos, sin }
    }

    /// Positions `T`.
    pub fn time(&self) -> usize {
        self.cos.len() / (self.width / 2)
    }

    /// Channels of a head `D`.
    pub fn head_width(&self) -> usize {
        self.head_width
    }

    /// Channels of a head that are rotated `R`.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Which channels are pairs.
    pub fn pairs(&self) -> RopePairs {
        self.pairs
    }

    /// Cosines `[T, R/2]`.
    pub fn cos(&self) -> &[f32] {
        &self.cos
    }

    /// Sines `[T, R/2]`.
    pub fn sin(&self) -> &[f32] {
        &self.sin
    }
}

/// Rotates the heads in the first `rotated` columns of `x [B * T, columns]`, in place.
pub fn turn(isa: Isa, angles: &Angles, x: &mut [f32], columns: usize, rotated: usize, way: Turn) {
    let (head, half, time) = (angles.head_width, angles.width / 2, angles.time());
    assert!(
        rotated <= columns && rotated.is_multiple_of(head),
        "{rotated} of {columns} columns in heads of {head}"
    );
    let sign = if way == Turn::Forth { 1.0 } else { -1.0 };
    x.par_chunks_mut(ROWS * columns).enumerate().for_each(|(chunk, rows)| {
        for (i, row) in rows.chunks_exact_mut(columns).enumerate() {
            let at = (chunk * ROWS + i) % time * half;
            let (cos, sin) = (&angles.cos[at..at + half], &angles.sin[at..at + half]);
            match angles.pairs {
                RopePairs::Adjacent => {
                    turn_adjacent(isa, &mut row[..rotated], head, cos, sin, sign)
                }
                RopePairs::Halves => turn_halves(isa, &mut row[..rotated], head, cos, sin, sign),
            }
        }
    });
}

vectorised! {
    fn turn_adjacent(heads: &mut [f32], width: usize, cos: &[f32], sin: &[f32], sign: f32) {
        for head in heads.chunks_exact_mut(width) {
            let (pairs, _) = head.as_chunks_mut::<2>();
            for ((pair, cos), sin) in pairs.iter_mut().zip(cos).zip(sin) {
                let ([x0, x1], sin) = (*pair, sign * sin);
                *pair = [x0 * cos - x1 * sin, x1 * cos + x0 * sin];
            }
        }
    }

    fn turn_halves(heads: &mut [f32], width: usize, cos: &[f32], sin: &[f32], sign: f32) {
        for head in heads.chunks_exact_mut(width) {
            let (first, second) = head.split_at_mut(cos.len());
            for (((x0, x1), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                let sin = sign * sin;
                (*x0, *x1) = (*x0 * cos - *x1 * sin, *x1 * cos + *x0 * sin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, gradient, noise};
    use super::*;

    /// Multiplication of complex numbers, one for each pair.
    fn by_definition(angles: &Angles, x: &[f64], columns: usize, rotated: usize) -> Vec<f64> {
        let (width, half) = (angles.width, angles.width / 2);
        let factor = |i: usize| if i == 0 { 3.0 } else { 1.0 };
        let mut y = x.to_vec();
        for (row, y) in y.chunks_exact_mut(columns).enumerate() {
            let t = (row % angles.time()) as f64;
            for head in y[..rotated].chunks_exact_mut(angles.head_width) {
                for i in 0..half {
                    let (a, b) = match angles.pairs {
                        RopePairs::Adjacent => (2 * i, 2 * i + 1),
                        RopePairs::Halves => (i, half + i),
                    };
                    let angle = t / 100_f64.powf(2.0 * i as f64 / width as f64) / factor(i);
                    let (x0, x1) = (head[a], head[b]);
                    head[a] = 1.25 * (x0 * angle.cos() - x1 * angle.sin());
                    head[b] = 1.25 * (x0 * angle.sin() + x1 * angle.cos());
                }
            }
        }
        y
    }

    #[test]
    fn values_and_gradients_on_odd_shapes() {
        for (batch, time, [head_width, width], columns, rotated) in [
            (1, 1, [2, 2], 2, 2),
            (3, 5, [6, 6], 19, 12),
            (1, 17, [34, 34], 34, 34),
            (2, 5, [7, 4], 22, 21),
        ] {
            for pairs in [RopePairs::Adjacent, RopePairs::Halves] {
                let mut factors = vec![1.0; width / 2];
                factors[0] = 3.0;
                let magnitude = 1.25;
                let shape = RopeShape { pairs, head_width, width, base: 100.0, factors, magnitude };
                let angles = Angles::new(time, &shape);
                let x = noise(batch * time * columns, 1);
                let dy = noise(x.len(), 2);
                let x64: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                let f = |x: &[f64]| by_definition(&angles, x, columns, rotated);
                for &isa in Isa::available() {
                    let (mut y, mut dx) = (x.clone(), dy.clone());
                    turn(isa, &angles, &mut y, columns, rotated, Turn::Forth);
                    assert_close(&y, &f(&x64), 1e-6);
                    turn(isa, &angles, &mut dx, columns, rotated, Turn::Back);
                    assert_close(&dx, &gradient(&x64, &dy, f), 1e-6);
                }
            }
        }
    }
}
