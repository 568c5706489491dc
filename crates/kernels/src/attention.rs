//! Causal self-attention.

use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::dropout::{Dropout, dropout};

/// Added to the scores of positions in the future: large enough that `exp` gives exactly 0,
/// finite so that no backend meets an infinity in its exponential.
const MASKED: f32 = -1e9;

/// What keeps a position from looking ahead; built once for all layers of a forward pass.
#[derive(Debug, Clone)]
pub struct CausalMask(Tensor<4>);

impl CausalMask {
    /// The mask for `time` positions.
    pub fn new(time: usize, device: &Device) -> Self {
        let mut mask = vec![0.0; time * time];
        for (query, row) in mask.chunks_mut(time.max(1)).enumerate() {
            row[query + 1..].fill(MASKED);
        }
        let mask = TensorData::new(mask, [1, 1, time, time]);
        CausalMask(Tensor::from_data(mask, device))
    }
}

/// `dropout(softmax(q k^T / sqrt(D) + mask)) v` (Vaswani et al., 2017), dropout on the
/// probabilities as in nanoGPT.
///
/// # Shapes
/// `q`, `k`, `v [B, H, T, D]` and the mask of `T` positions -> `[B, H, T, D]`.
pub fn causal_attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    mask: &CausalMask,
    drop: Option<Dropout>,
) -> Tensor<4> {
    dropout(attention_probabilities(q, k, mask), drop).matmul(v)
}

/// `softmax(q k^T / sqrt(D) + mask)`: how much each position (row) takes from each (column).
///
/// # Shapes
/// `q`, `k [B, H, T, D]` -> `[B, H, T, T]`.
pub fn attention_probabilities(q: Tensor<4>, k: Tensor<4>, mask: &CausalMask) -> Tensor<4> {
    let [_, _, _, d] = q.dims();
    // Scaling q costs T / D times less than scaling the scores.
    let scores = (q / (d as f64).sqrt()).matmul(k.swap_dims(2, 3)); // [B, H, T, T]
    activation::softmax(scores + mask.0.clone(), 3)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tolerance;

    use super::*;
    use crate::random;

    fn draw(name: &str, shape: [usize; 4]) -> Vec<f32> {
        random::normal(random::derive_named(1, name), shape.iter().product(), 1.0)
    }

    /// Attention by its definition, in f64.
    fn by_definition(q: &[f32], k: &[f32], v: &[f32], [b, h, t, d]: [usize; 4]) -> Vec<f32> {
        let mut out = vec![0.0; b * h * t * d];
        for head in 0..b * h {
            let at = |x: &[f32], i: usize, j: usize| f64::from(x[(head * t + i) * d + j]);
            for i in 0..t {
                let weights: Vec<f64> = (0..=i)
                    .map(|j| (0..d).map(|c| at(q, i, c) * at(k, j, c)).sum::<f64>())
                    .map(|score| (score / (d as f64).sqrt()).exp())
                    .collect();
                let total: f64 = weights.iter().sum();
                for c in 0..d {
                    let sum: f64 = (0..=i).map(|j| weights[j] * at(v, j, c)).sum();
                    out[(head * t + i) * d + c] = (sum / total) as f32;
                }
            }
        }
        out
    }

    #[test]
    fn it_follows_the_definition_at_odd_shapes() {
        let device = Device::flex();
        for shape in [[1, 1, 1, 1], [2, 3, 5, 7], [1, 2, 33, 17]] {
            let data = ["q", "k", "v"].map(|name| draw(name, shape));
            let [q, k, v] =
                data.clone().map(|x| Tensor::from_data(TensorData::new(x, shape), &device));
            let mask = CausalMask::new(shape[2], &device);
            let expected = by_definition(&data[0], &data[1], &data[2], shape);
            causal_attention(q, k, v, &mask, None).into_data().assert_approx_eq::<f32>(
                &TensorData::new(expected, shape),
                Tolerance::absolute(1e-5),
            );
        }
    }

    #[test]
    fn the_future_changes_nothing() {
        let device = Device::flex();
        let shape = [1, 2, 9, 4];
        let tensor = |x: Vec<f32>| Tensor::<4>::from_data(TensorData::new(x, shape), &device);
        let mask = CausalMask::new(9, &device);
        let run = |k: Vec<f32>| {
            let y = causal_attention(
                tensor(draw("q", shape)),
                tensor(k.clone()),
                tensor(k),
                &mask,
                None,
            );
            y.slice([0..1, 0..2, 0..8, 0..4]).into_data()
        };
        let mut changed = draw("k", shape);
        for head in 0..2 {
            changed[(head * 9 + 8) * 4..][..4].fill(1e4);
        }
        run(changed).assert_eq(&run(draw("k", shape)), true);
    }
}
