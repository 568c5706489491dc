//! Plain Burn operations until the fused ones are here. Replaced by OPS.

use burn::tensor::{Device, Tensor, TensorData, activation};
use config::RopePairs;

use crate::attention::CausalMask;
use crate::dropout::dropout;
use crate::pass::Pass;

/// Cosines and sines of rotary positions.
#[derive(Debug, Clone)]
pub struct Rope {
    time: usize,
    width: usize,
    pairs: RopePairs,
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl Rope {
    /// For `time` positions and heads of `width` channels.
    pub fn new(time: usize, width: usize, base: f32, pairs: RopePairs, device: &Device) -> Self {
        let half = width / 2;
        let angle = |t: usize, i: usize| {
            t as f64 * f64::from(base).powf(-2.0 * i as f64 / width as f64)
        };
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = (0..time)
                .flat_map(|t| (0..half).map(move |i| (t, i)))
                .map(|(t, i)| f(angle(t, i)) as f32)
                .collect();
            Tensor::from_data(TensorData::new(values, [time, half]), device)
        };
        Rope { time, width, pairs, cos: table(f64::cos), sin: table(f64::sin) }
    }
}

/// Turns each head.
pub fn rope(x: Tensor<2>, rope: &Rope) -> Tensor<2> {
    let [n, columns] = x.dims();
    let (t, d) = (rope.time, rope.width);
    let (b, h, half) = (n / t, columns / d, d / 2);
    let (cos, sin) = (
        rope.cos.clone().reshape([1, t, 1, half]),
        rope.sin.clone().reshape([1, t, 1, half]),
    );
    let part = |i: usize| match rope.pairs {
        RopePairs::Adjacent => x
            .clone()
            .reshape([b, t, h * half, 2])
            .slice([0..b, 0..t, 0..h * half, i..i + 1])
            .reshape([b, t, h, half]),
        RopePairs::Halves => {
            x.clone().reshape([b, t, h, d]).slice([0..b, 0..t, 0..h, i * half..(i + 1) * half])
        }
    };
    let (x0, x1) = (part(0), part(1));
    let y0 = x0.clone() * cos.clone() - x1.clone() * sin.clone();
    let y1 = x0 * sin + x1 * cos;
    match rope.pairs {
        RopePairs::Adjacent => {
            let shape = [b, t, h * half, 1];
            Tensor::cat(vec![y0.reshape(shape), y1.reshape(shape)], 3).reshape([n, columns])
        }
        RopePairs::Halves => Tensor::cat(vec![y0, y1], 3).reshape([n, columns]),
    }
}

/// `x / rms(x) * gamma`.
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, epsilon: f32) -> Tensor<2> {
    let rms = (x.clone().square().mean_dim(1) + f64::from(epsilon)).sqrt();
    x / rms * gamma.unsqueeze::<2>()
}

/// `silu(gate) * up`.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    activation::silu(gate) * up
}

/// Attention in which each head of keys and values serves several heads of queries.
pub fn grouped_attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    [h, kv]: [usize; 2],
    mask: &CausalMask,
    pass: Pass,
) -> Tensor<2> {
    let [n, columns] = q.dims();
    let (t, d) = (mask.time(), columns / h);
    let b = n / t;
    let heads = |x: Tensor<2>, count: usize| x.reshape([b, t, count, d]).swap_dims(1, 2);
    let repeat = |x: Tensor<2>| {
        let x = heads(x, kv).reshape([b, kv, 1, t * d]).repeat_dim(2, h / kv);
        x.reshape([b, h, t, d])
    };
    let p = crate::attention_probabilities(heads(q, h), repeat(k), mask);
    let y = dropout(p, pass.dropout).matmul(repeat(v));
    y.swap_dims(1, 2).reshape([n, columns])
}
