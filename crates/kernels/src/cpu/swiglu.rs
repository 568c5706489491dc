//! SwiGLU (Shazeer, 2020): a projection multiplied by the SiLU of another one.
//!
//! ```text
//! y = g s(g) u        s(g) = 1 / (1 + e^-g)
//! dg = dy u (s + g s (1 - s))        du = dy g s
//! ```

use rayon::prelude::*;

use super::simd::exp;
use isa::{Isa, vectorised};

/// Numbers that one task works on.
const CHUNK: usize = 1 << 14;

#[inline(always)]
fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `silu(gate) * up`, all of the same length.
pub fn swiglu(isa: Isa, gate: &[f32], up: &[f32], y: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == y.len(), "gate, up and y of [N, F]");
    y.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK)).for_each(
        |((y, gate), up)| {
            swiglu_chunk(isa, gate, up, y);
        },
    );
}

/// The gradients of `gate` and `up`; that of `up` replaces `dy`.
pub fn swiglu_backward(isa: Isa, gate: &[f32], up: &[f32], dy: &mut [f32]) -> Vec<f32> {
    assert!(gate.len() == up.len() && gate.len() == dy.len(), "gate, up and dy of [N, F]");
    let mut dgate = vec![0.0; gate.len()];
    let gradients = dgate.par_chunks_mut(CHUNK).zip(dy.par_chunks_mut(CHUNK));
    gradients.zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK)).for_each(
        |(((dgate, dy), gate), up)| {
            backward_chunk(isa, gate, up, dgate, dy);
        },
    );
    dgate
}

vectorised! {
    fn swiglu_chunk(gate: &[f32], up: &[f32], y: &mut [f32]) {
        for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
            *y = g * logistic(g) * u;
        }
    }

    fn backward_chunk(gate: &[f32], up: &[f32], dgate: &mut [f32], dy: &mut [f32]) {
        for (((dg, dy), &g), &u) in dgate.iter_mut().zip(dy).zip(gate).zip(up) {
            let s = logistic(g);
            *dg = *dy * u * (s + g * s * (1.0 - s));
            *dy *= g * s;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, gradient, noise};
    use super::*;

    fn by_definition(gate: &[f64], up: &[f64]) -> Vec<f64> {
        gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect()
    }

    #[test]
    fn values_and_gradients_on_odd_lengths() {
        for len in [1, 3, 17, 33, 515] {
            let gate: Vec<f32> = noise(len, 1).iter().map(|x| 9.0 * x).collect();
            let (up, dy) = (noise(len, 2), noise(len, 3));
            let [g64, u64] =
                [&gate, &up].map(|v| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
            for &isa in Isa::available() {
                let (mut y, mut dup) = (vec![0.0; len], dy.clone());
                swiglu(isa, &gate, &up, &mut y);
                assert_close(&y, &by_definition(&g64, &u64), 1e-6);
                let dgate = swiglu_backward(isa, &gate, &up, &mut dup);
                assert_close(&dgate, &gradient(&g64, &dy, |g| by_definition(g, &u64)), 1e-5);
                assert_close(&dup, &gradient(&u64, &dy, |u| by_definition(&g64, u)), 1e-5);
            }
        }
    }
}
