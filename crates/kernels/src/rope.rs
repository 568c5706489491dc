//! Rotary position embedding.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use config::{RopePairs, RopeShape};

use crate::cpu::rope::Angles;
use crate::cpu_autodiff;
use crate::dispatch::runs_on_cpu;

/// The angles of all positions of a window; computed once for all layers of a forward pass.
#[derive(Debug, Clone)]
pub struct Rope {
    angles: Arc<Angles>,
}

impl Rope {
    /// For `time` positions.
    ///
    /// # Panics
    /// When an odd number of channels is to be rotated, or more than a head has.
    pub fn new(time: usize, shape: &RopeShape) -> Self {
        Rope { angles: Arc::new(Angles::new(time, shape)) }
    }

    /// Cosines and sines as `[1, T, 1, R/2]`, for the `R` channels of a head that are rotated.
    fn tables(&self, device: &Device) -> [Tensor<4>; 2] {
        let (time, half) = (self.angles.time(), self.angles.width() / 2);
        [self.angles.cos(), self.angles.sin()].map(|table| {
            Tensor::from_data(TensorData::new(table.to_vec(), [1, time, 1, half]), device)
        })
    }
}

/// Rotates each pair of channels of each head by the angle of its position (Su et al., 2021).
///
/// # Shapes
/// `x [B * T, heads D]`, heads side by side -> the same.
pub fn rope(x: Tensor<2>, rope: &Rope) -> Tensor<2> {
    let [_, columns] = x.dims();
    rope_first(x, columns, rope)
}

/// [`rope()`] of the heads in the first `rotated` columns; the other columns do not change.
///
/// # Shapes
/// `x [B * T, columns]` -> the same.
pub fn rope_first(x: Tensor<2>, rotated: usize, rope: &Rope) -> Tensor<2> {
    if runs_on_cpu(&x.device()) {
        return cpu_autodiff::rope(x, rotated, &rope.angles);
    }
    let [n, columns] = x.dims();
    if rotated == columns {
        return with_tensors(x, rope);
    }
    let first = with_tensors(x.clone().slice([0..n, 0..rotated]), rope);
    Tensor::cat(vec![first, x.slice([0..n, rotated..columns])], 1)
}

fn with_tensors(x: Tensor<2>, rope: &Rope) -> Tensor<2> {
    let [n, columns] = x.dims();
    let (t, d, head) = (rope.angles.time(), rope.angles.width(), rope.angles.head_width());
    let (b, h) = (n / t, columns / head);
    let heads = x.reshape([n * h, head]);
    let x = heads.clone().narrow(1, 0, d);
    // Both kinds of pairs as the two columns of a matrix, or its two rows.
    let (grid, axis) = match rope.angles.pairs() {
        RopePairs::Adjacent => ([b * t, h, d / 2, 2], 3),
        RopePairs::Halves => ([b * t, h, 2, d / 2], 2),
    };
    let x = x.reshape(grid);
    let [x0, x1] = [0, 1].map(|i| x.clone().narrow(axis, i, 1).reshape([b, t, h, d / 2]));
    let [cos, sin] = rope.tables(&x0.device()).map(|table| table.expand([b, t, h, d / 2]));
    let y0 = x0.clone() * cos.clone() - x1.clone() * sin.clone();
    let y1 = x1 * cos + x0 * sin;
    let mut single = grid;
    single[axis] = 1;
    let y = Tensor::cat(vec![y0.reshape(single), y1.reshape(single)], axis);
    if d == head {
        return y.reshape([n, columns]);
    }
    let rest = heads.narrow(1, d, head - d);
    Tensor::cat(vec![y.reshape([n * h, d]), rest], 1).reshape([n, columns])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tolerance;

    use super::*;
    use crate::random;

    fn draw(name: &str, shape: [usize; 2]) -> Tensor<2> {
        let values = random::normal(random::derive_named(1, name), shape[0] * shape[1], 1.0);
        let device = Device::flex().autodiff();
        Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
    }

    fn whole(width: usize, pairs: RopePairs) -> RopeShape {
        let factors = Vec::new();
        RopeShape { pairs, head_width: width, width, base: 1e4, factors, magnitude: 1.0 }
    }

    #[test]
    fn both_bodies_give_the_same_values_and_gradients() {
        for pairs in [RopePairs::Adjacent, RopePairs::Halves] {
            for ([b, t, h, d], width) in
                [([1, 1, 1, 2], 2), ([2, 3, 5, 6], 6), ([1, 33, 3, 34], 34), ([2, 5, 3, 9], 6)]
            {
                let table = Rope::new(t, &RopeShape { head_width: d, ..whole(width, pairs) });
                let (x, dy) = (draw("x", [b * t, h * d]), draw("dy", [b * t, h * d]).detach());
                let run = |y: Tensor<2>| {
                    let dx = x.grad(&(y.clone() * dy.clone()).sum().backward()).unwrap();
                    [y.inner().into_data(), dx.into_data()]
                };
                let ours = run(rope(x.clone(), &table));
                let plain = run(with_tensors(x.clone(), &table));
                for (ours, plain) in ours.iter().zip(&plain) {
                    ours.assert_approx_eq::<f32>(plain, Tolerance::absolute(1e-5));
                }
            }
        }
    }

    /// The first window of LLaMA's own code: a head of 4 at position 1 with base 10,000.
    #[test]
    fn the_pairs_are_those_of_the_name() {
        let x = Tensor::<2>::from_floats([[9., 9., 9., 9.], [1., 0., 0., 1.]], &Device::flex());
        let rotated = |pairs| {
            let table = Rope::new(2, &whole(4, pairs));
            rope(x.clone(), &table).into_data().try_into_vec::<f32>().unwrap()[4..].to_vec()
        };
        let (c, s, c1, s1) = (1_f32.cos(), 1_f32.sin(), 0.01_f32.cos(), 0.01_f32.sin());
        let close = |found: Vec<f32>, expected: [f32; 4]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        };
        close(rotated(RopePairs::Adjacent), [c, s, -s1, c1]);
        close(rotated(RopePairs::Halves), [c, -s1, s, c1]);
    }

    #[test]
    fn columns_that_are_not_asked_for_stay() {
        let table = Rope::new(3, &whole(2, RopePairs::Halves));
        let x = draw("x", [3, 7]).inner();
        let y = rope_first(x.clone(), 4, &table);
        let rest = |t: &Tensor<2>| t.clone().slice([0..3, 4..7]).into_data();
        assert_eq!(rest(&y), rest(&x));
        let first = rope(x.slice([0..3, 0..4]), &table);
        assert_eq!(y.slice([0..3, 0..4]).into_data(), first.into_data());
    }
}
