//! Causal self-attention within documents.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::cpu::attention::{Attention, ScoreDropout, score_factors};
use crate::cpu_autodiff;
use crate::dispatch::{Dispatch, dispatch};
use crate::documents::{self, Documents};
use crate::dropout::Dropout;
use crate::gpu::{self, Gpu};
use crate::pass::Pass;
use isa::Isa;

/// Added to the scores of masked positions: so low that `exp` gives exactly 0, and finite so that
/// no backend has to compute the exponential of an infinity.
const MASKED: f32 = -1e9;

/// Hides from each position the later positions, those before its window, and those of other
/// documents. Built once for all layers of a forward pass, and only if an operation reads it.
#[derive(Debug, Clone)]
pub struct CausalMask {
    time: usize,
    /// Positions that each position sees, up to and including itself.
    window: usize,
    /// `None` if each row is one document.
    documents: Option<Documents>,
    device: Device,
    /// Shared with clones.
    scores: Arc<OnceLock<Tensor<4>>>,
}

impl CausalMask {
    /// The mask for `time` positions.
    pub fn new(time: usize, device: &Device) -> Self {
        Self::with_window(time, time, device)
    }

    /// The mask for `time` positions; each sees `window` positions, up to and including itself.
    pub fn with_window(time: usize, window: usize, device: &Device) -> Self {
        let (device, scores) = (device.clone(), Arc::default());
        CausalMask { time, window, documents: None, device, scores }
    }

    /// The same mask for rows that hold these documents.
    #[must_use]
    pub fn within(self, documents: Option<Documents>) -> Self {
        CausalMask { documents, scores: Arc::default(), ..self }
    }

    /// The number of positions.
    pub(crate) fn time(&self) -> usize {
        self.time
    }

    /// The rows of an input with `n` positions in all.
    ///
    /// # Panics
    /// When they are not those of the documents.
    pub(crate) fn rows(&self, n: usize) -> usize {
        let rows = n / self.time;
        if let Some(documents) = &self.documents {
            assert_eq!(documents.shape(), [rows, self.time], "rows and positions of the documents");
        }
        rows
    }

    /// The rows that the mask differs for: all, or 1 if it is the same for all.
    pub(crate) fn distinct_rows(&self) -> usize {
        self.documents.as_ref().map_or(1, |documents| documents.shape()[0])
    }

    /// The first position that a position of a row sees.
    pub(crate) fn first_key(&self, row: usize, query: usize) -> usize {
        documents::first_key(self.window, self.documents.as_ref(), row, query)
    }

    /// What is added to the scores: `[1, 1, T, T]`, or `[B, 1, T, T]` with several documents.
    pub(crate) fn scores(&self) -> Tensor<4> {
        let build = || {
            let (rows, time) = (self.distinct_rows(), self.time);
            let mut mask = vec![0.0; rows * time * time];
            for (line, scores) in mask.chunks_mut(time.max(1)).enumerate() {
                let (row, query) = (line / time, line % time);
                scores[query + 1..].fill(MASKED);
                scores[..self.first_key(row, query)].fill(MASKED);
            }
            Tensor::from_data(TensorData::new(mask, [rows, 1, time, time]), &self.device)
        };
        self.scores.get_or_init(build).clone()
    }

    /// The attention of heads of `width` over `n` positions in all.
    fn attention(
        &self,
        n: usize,
        [heads, kv_heads]: [usize; 2],
        width: usize,
        pass: Pass,
    ) -> Attention {
        Attention {
            batch: self.rows(n),
            time: self.time,
            heads,
            kv_heads,
            width,
            window: self.window,
            documents: self.documents.clone(),
            dropout: ScoreDropout::of(pass.dropout),
        }
    }
}

impl ScoreDropout {
    pub(crate) fn of(dropout: Option<Dropout>) -> Self {
        let (probability, key) = dropout.map_or((0.0, 0), Dropout::parts);
        ScoreDropout { probability, key }
    }
}

/// `dropout(softmax(q k^T / sqrt(D) + mask)) v` for each head (Vaswani et al., 2017), dropout on
/// the probabilities as in nanoGPT.
///
/// # Shapes
/// `qkv [B * T, 3 C]` and the mask of `T` positions -> `[B * T, C]`. A row of `qkv` holds all heads
/// of `q`, then all of `k`, then all of `v`.
pub fn causal_attention(qkv: Tensor<2>, heads: usize, mask: &CausalMask, pass: Pass) -> Tensor<2> {
    let [n, columns] = qkv.dims();
    let channels = columns / 3;
    match dispatch(&qkv.device()) {
        Dispatch::Gpu => return gpu::causal_attention::<Gpu>(qkv, heads, mask, pass),
        Dispatch::Cpu => {}
        Dispatch::Plain => return with_tensors(qkv, heads, mask, pass.dropout),
    }
    let shape = mask.attention(n, [heads, heads], channels / heads, pass);
    cpu_autodiff::causal_attention(qkv, shape, pass.precision)
}

/// [`causal_attention`] in which each head of keys and values serves `H / K` neighbouring heads of
/// queries (Ainslie et al., 2023).
///
/// # Shapes
/// `q [B * T, H D]`, `k` and `v [B * T, K D]`, heads side by side -> `[B * T, H D]`.
pub fn grouped_attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    [heads, kv_heads]: [usize; 2],
    mask: &CausalMask,
    pass: Pass,
) -> Tensor<2> {
    let [n, columns] = q.dims();
    let inputs = [q, k, v];
    match dispatch(&inputs[0].device()) {
        Dispatch::Gpu => {
            return gpu::grouped_attention::<Gpu>(inputs, [heads, kv_heads], mask, pass);
        }
        Dispatch::Cpu => {}
        Dispatch::Plain => {
            return grouped_with_tensors(inputs, [heads, kv_heads], mask, pass.dropout);
        }
    }
    let shape = mask.attention(n, [heads, kv_heads], columns / heads, pass);
    cpu_autodiff::grouped_attention(inputs, shape, pass.precision)
}

fn grouped_with_tensors(
    [q, k, v]: [Tensor<2>; 3],
    [h, kv]: [usize; 2],
    mask: &CausalMask,
    drop: Option<Dropout>,
) -> Tensor<2> {
    let [n, columns] = q.dims();
    let p = probabilities(split_heads(q, h, mask), repeat_heads(k, [h, kv], mask), mask);
    let y = drop_probabilities(p, drop).matmul(repeat_heads(v, [h, kv], mask)); // [B, H, T, D]
    y.swap_dims(1, 2).reshape([n, columns])
}

/// `x [B * T, H D]` -> `[B, H, T, D]`.
fn split_heads(x: Tensor<2>, h: usize, mask: &CausalMask) -> Tensor<4> {
    let [n, columns] = x.dims();
    x.reshape([mask.rows(n), mask.time, h, columns / h]).swap_dims(1, 2)
}

/// `x [B * T, K D]` -> `[B, H, T, D]`: each head `H / K` times.
fn repeat_heads(x: Tensor<2>, [h, kv]: [usize; 2], mask: &CausalMask) -> Tensor<4> {
    let x = split_heads(x, kv, mask);
    let [b, _, t, d] = x.dims();
    x.reshape([b, kv, 1, t * d]).repeat_dim(2, h / kv).reshape([b, h, t, d])
}

fn with_tensors(qkv: Tensor<2>, h: usize, mask: &CausalMask, drop: Option<Dropout>) -> Tensor<2> {
    let [n, columns] = qkv.dims();
    let c = columns / 3;
    let [q, k, v] = [0, 1, 2].map(|part| {
        split_heads(qkv.clone().slice([0..n, part * c..(part + 1) * c]), h, mask) // [B, H, T, D]
    });
    let p = probabilities(q, k, mask);
    let y = drop_probabilities(p, drop).matmul(v); // [B, H, T, D]
    y.swap_dims(1, 2).reshape([n, c])
}

/// Dropout on the probabilities `p [B, H, T, T]`, with the same random numbers as the attention of
/// the CPU, so that a run on another device or with plain operations drops the same elements.
fn drop_probabilities(p: Tensor<4>, drop: Option<Dropout>) -> Tensor<4> {
    let Some(drop) = drop else { return p };
    let shape = p.dims();
    let factors = score_factors(Isa::best(), shape, ScoreDropout::of(Some(drop)));
    let factors = Tensor::from_data(TensorData::new(factors, shape), &p.device().inner());
    p * factors.autodiff()
}

/// `softmax(q k^T / sqrt(D) + mask)`: the weight of each key (column) for each query (row), for
/// traces; [`grouped_attention`] computes it one part at a time.
///
/// # Shapes
/// `q [B * T, H D]`, `k [B * T, K D]`, heads side by side -> `[B * H, T, T]`.
pub fn attention_probabilities(
    q: Tensor<2>,
    k: Tensor<2>,
    [h, kv]: [usize; 2],
    mask: &CausalMask,
) -> Tensor<3> {
    let p = probabilities(split_heads(q, h, mask), repeat_heads(k, [h, kv], mask), mask);
    p.flatten(0, 1)
}

/// `softmax(q k^T / sqrt(D) + mask)`, `[B, H, T, T]` of `q`, `k [B, H, T, D]`.
fn probabilities(q: Tensor<4>, k: Tensor<4>, mask: &CausalMask) -> Tensor<4> {
    let [_, _, _, d] = q.dims();
    // Scaling q costs T / D times less than scaling the scores.
    let scores = (q / (d as f64).sqrt()).matmul(k.swap_dims(2, 3)); // [B, H, T, T]
    activation::softmax(scores + mask.scores(), 3)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tolerance;

    use super::*;
    use crate::pass::Precision;
    use crate::random;

    fn draw(name: &str, shape: [usize; 2]) -> Tensor<2> {
        let values = random::normal(random::derive_named(1, name), shape[0] * shape[1], 1.0);
        let device = Device::flex().autodiff();
        Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
    }

    /// Documents of which each row has its own length, or none.
    fn documents(batch: usize, time: usize) -> [Option<Documents>; 2] {
        let starts = (0..batch).flat_map(|row| {
            let len = time / 2 + row + 1;
            (0..time).map(move |position| (position / len * len) as u32)
        });
        [None, Some(Documents::new(starts.collect::<Vec<_>>(), [batch, time]))]
    }

    /// The kernel's own tests compare it with its definition and its gradient; here it is compared
    /// with Burn's operations.
    #[test]
    fn both_bodies_give_the_same_values_and_gradients() {
        let shapes = [[1, 1, 1, 1], [2, 3, 5, 7], [1, 33, 2, 17], [1, 140, 1, 4]];
        for ([b, t, h, d], window) in
            shapes.into_iter().flat_map(|shape| [(shape, 200), (shape, 2)])
        {
            let qkv = draw("qkv", [b * t, 3 * h * d]);
            let weights = draw("y", [b * t, h * d]).detach();
            let run = |y: Tensor<2>| {
                let gradient = qkv.grad(&(y.clone() * weights.clone()).sum().backward()).unwrap();
                (y.inner().into_data(), gradient.into_data())
            };
            let dropouts = [None, Dropout::new(0.3, 5)];
            for (dropout, documents) in
                dropouts.into_iter().flat_map(|drop| documents(b, t).map(|some| (drop, some)))
            {
                let mask = CausalMask::with_window(t, window, &Device::flex()).within(documents);
                let pass = Pass { dropout, ..Pass::default() };
                let (y, dqkv) = run(causal_attention(qkv.clone(), h, &mask, pass));
                let (y_plain, dqkv_plain) = run(with_tensors(qkv.clone(), h, &mask, dropout));
                y.assert_approx_eq::<f32>(&y_plain, Tolerance::absolute(2e-5));
                dqkv.assert_approx_eq::<f32>(&dqkv_plain, Tolerance::absolute(5e-5));
                let pass = Pass { precision: Precision::Bf16, ..pass };
                let (y, _) = run(causal_attention(qkv.clone(), h, &mask, pass));
                y.assert_approx_eq::<f32>(&y_plain, Tolerance::absolute(7e-2));
            }
        }
    }

    #[test]
    fn both_bodies_of_grouped_attention_agree() {
        let shapes = [[1, 1, 1, 1, 1], [2, 3, 9, 3, 7], [1, 33, 4, 1, 6]];
        let runs = shapes.into_iter().flat_map(|s @ [b, t, ..]| {
            documents(b, t).into_iter().flat_map(move |some| [(s, 200, some.clone()), (s, 2, some)])
        });
        for ([b, t, h, kv, d], window, documents) in runs {
            let mask = CausalMask::with_window(t, window, &Device::flex()).within(documents);
            let inputs = [("q", h), ("k", kv), ("v", kv)].map(|(n, h)| draw(n, [b * t, h * d]));
            let weights = draw("y", [b * t, h * d]).detach();
            let run = |y: Tensor<2>| {
                let grads = (y.clone() * weights.clone()).sum().backward();
                let gradients = inputs.each_ref().map(|x| x.grad(&grads).unwrap().into_data());
                (y.inner().into_data(), gradients)
            };
            let [q, k, v] = inputs.clone();
            let dropout = Dropout::new(0.3, 5);
            let pass = Pass { dropout, ..Pass::default() };
            let ours = run(grouped_attention(q, k, v, [h, kv], &mask, pass));
            let plain = run(grouped_with_tensors(inputs.clone(), [h, kv], &mask, dropout));
            ours.0.assert_approx_eq::<f32>(&plain.0, Tolerance::absolute(1e-5));
            for (ours, plain) in ours.1.iter().zip(&plain.1) {
                ours.assert_approx_eq::<f32>(plain, Tolerance::absolute(5e-5));
            }
        }
    }

    /// A position with a window gives the same result as in a text that begins at its window.
    #[test]
    fn what_is_before_the_window_changes_nothing() {
        let (t, window, d) = (9, 4, 3);
        let inputs = ["q", "k", "v"].map(|name| draw(name, [t, d]));
        let run = |inputs: [Tensor<2>; 3], mask: CausalMask| {
            let [q, k, v] = inputs;
            grouped_attention(q, k, v, [1, 1], &mask, Pass::default())
        };
        let device = Device::flex();
        let all = run(inputs.clone(), CausalMask::with_window(t, window, &device));
        for last in window - 1..t {
            let range = last + 1 - window..last + 1;
            let part = inputs.clone().map(|x| x.slice([range.clone(), 0..d]));
            let alone = run(part, CausalMask::new(window, &device));
            let alone = alone.slice([window - 1..window, 0..d]).inner().into_data();
            let found = all.clone().slice([last..last + 1, 0..d]).inner().into_data();
            found.assert_approx_eq::<f32>(&alone, Tolerance::absolute(1e-5));
        }
    }

    #[test]
    #[should_panic(expected = "rows and positions of the documents")]
    fn documents_of_other_rows_are_refused() {
        let [_, documents] = documents(2, 5);
        let mask = CausalMask::new(5, &Device::flex()).within(documents);
        causal_attention(draw("qkv", [15, 6]), 1, &mask, Pass::default());
    }

    #[test]
    fn the_future_changes_nothing() {
        let (t, h) = (9, 2);
        let mask = CausalMask::new(t, &Device::flex());
        let first_rows = |qkv: Tensor<2>| {
            with_tensors(qkv, h, &mask, None).slice([0..t - 1, 0..8]).inner().into_data()
        };
        let qkv = draw("qkv", [t, 24]);
        let changed =
            qkv.clone().slice_assign([t - 1..t, 0..24], Tensor::full([1, 24], 1e4, &qkv.device()));
        first_rows(changed).assert_eq(&first_rows(qkv), true);
    }
}
