//! Rotary position embedding (Su et al., 2021): each pair of a head's channels turned by an angle
//! that grows with the position.
//!
//! ```text
//! angle(t, i) = t base^(-2 i / D)        t: position in the window        i: pair, 0 .. D/2
//! y0 = x0 cos - x1 sin        y1 = x1 cos + x0 sin
//! ```
//!
//! A rotation's gradient is the rotation back.

use config::RopePairs;
use rayon::prelude::*;

use super::isa::{Isa, vectorised};

/// Rows that one task turns.
const ROWS: usize = 8;

/// Which way to turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The forward pass.
    Forth,
    /// Its gradient.
    Back,
}

/// Cosines and sines of all angles, `[T, D/2]` each.
#[derive(Debug, Clone, PartialEq)]
pub struct Angles {
    width: usize,
    pairs: RopePairs,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Angles {
    /// For `time` positions and heads of `width` channels, an even number.
    pub fn new(time: usize, width: usize, base: f32, pairs: RopePairs) -> Self {
        assert!(width.is_multiple_of(2), "heads of an even width, not {width}");
        let angles = (0..time).flat_map(|t| {
            let frequency =
                move |i: usize| f64::from(base).powf(-2.0 * i as f64 / width as f64) * t as f64;
            (0..width / 2).map(frequency)
        });
        let (sin, cos) =
            angles.map(f64::sin_cos).map(|(sin, cos)| (sin as f32, cos as f32)).unzip();
        Angles { width, pairs, cos, sin }
    }

    /// Positions `T`.
    pub fn time(&self) -> usize {
        self.cos.len() / (self.width / 2)
    }

    /// Channels of a head `D`.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Which channels are pairs.
    pub fn pairs(&self) -> RopePairs {
        self.pairs
    }

    /// Cosines `[T, D/2]`.
    pub fn cos(&self) -> &[f32] {
        &self.cos
    }

    /// Sines `[T, D/2]`.
    pub fn sin(&self) -> &[f32] {
        &self.sin
    }
}

/// Turns the heads in the first `turned` columns of `x [B * T, columns]`, in place.
pub fn turn(isa: Isa, angles: &Angles, x: &mut [f32], columns: usize, turned: usize, way: Turn) {
    let (half, time) = (angles.width / 2, angles.time());
    assert!(
        turned <= columns && turned.is_multiple_of(angles.width),
        "{turned} of {columns} columns in heads of {}",
        angles.width
    );
    let sign = if way == Turn::Forth { 1.0 } else { -1.0 };
    x.par_chunks_mut(ROWS * columns).enumerate().for_each(|(chunk, rows)| {
        for (i, row) in rows.chunks_exact_mut(columns).enumerate() {
            let at = (chunk * ROWS + i) % time * half;
            let (cos, sin) = (&angles.cos[at..at + half], &angles.sin[at..at + half]);
            match angles.pairs {
                RopePairs::Adjacent => turn_adjacent(isa, &mut row[..turned], cos, sin, sign),
                RopePairs::Halves => turn_halves(isa, &mut row[..turned], cos, sin, sign),
            }
        }
    });
}

vectorised! {
    fn turn_adjacent(heads: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        for head in heads.chunks_exact_mut(2 * cos.len()) {
            let (pairs, _) = head.as_chunks_mut::<2>();
            for ((pair, cos), sin) in pairs.iter_mut().zip(cos).zip(sin) {
                let ([x0, x1], sin) = (*pair, sign * sin);
                *pair = [x0 * cos - x1 * sin, x1 * cos + x0 * sin];
            }
        }
    }

    fn turn_halves(heads: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        for head in heads.chunks_exact_mut(2 * cos.len()) {
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

    /// Multiplication of complex numbers, pair by pair.
    fn by_definition(angles: &Angles, x: &[f64], columns: usize, turned: usize) -> Vec<f64> {
        let (width, half) = (angles.width, angles.width / 2);
        let mut y = x.to_vec();
        for (row, y) in y.chunks_exact_mut(columns).enumerate() {
            let t = (row % angles.time()) as f64;
            for head in y[..turned].chunks_exact_mut(width) {
                for i in 0..half {
                    let (a, b) = match angles.pairs {
                        RopePairs::Adjacent => (2 * i, 2 * i + 1),
                        RopePairs::Halves => (i, half + i),
                    };
                    let angle = t / 100_f64.powf(2.0 * i as f64 / width as f64);
                    let (x0, x1) = (head[a], head[b]);
                    head[a] = x0 * angle.cos() - x1 * angle.sin();
                    head[b] = x0 * angle.sin() + x1 * angle.cos();
                }
            }
        }
        y
    }

    #[test]
    fn values_and_gradients_on_odd_shapes() {
        for (batch, time, width, columns, turned) in
            [(1, 1, 2, 2, 2), (3, 5, 6, 19, 12), (1, 17, 34, 34, 34)]
        {
            for pairs in [RopePairs::Adjacent, RopePairs::Halves] {
                let angles = Angles::new(time, width, 100.0, pairs);
                let x = noise(batch * time * columns, 1);
                let dy = noise(x.len(), 2);
                let x64: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                let f = |x: &[f64]| by_definition(&angles, x, columns, turned);
                for &isa in Isa::available() {
                    let (mut y, mut dx) = (x.clone(), dy.clone());
                    turn(isa, &angles, &mut y, columns, turned, Turn::Forth);
                    assert_close(&y, &f(&x64), 1e-6);
                    turn(isa, &angles, &mut dx, columns, turned, Turn::Back);
                    assert_close(&dx, &gradient(&x64, &dy, f), 1e-6);
                }
            }
        }
    }
}
