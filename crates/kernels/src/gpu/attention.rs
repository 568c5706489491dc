//! Causal attention by blocks of queries: what lies wholly in the future is not computed, and no
//! probabilities are kept.
//!
//! Dao, "FlashAttention-2" (2023), whose formulas these are, keeps a block's scores on the chip; here
//! they go through memory, in bf16 where products are, and only for one block at a time.

use burn::tensor::{Int, Tensor};

use super::draws::score_factors;
use super::{raw, rounded, widened};
use crate::attention::split_heads;
use crate::cpu::attention::ScoreDropout;
use crate::graph::{Home, Operand, join};
use crate::pass::{Pass, Precision};

/// Queries of a block. At 1,024 positions four blocks compute 62 % of the whole square.
const QUERIES: usize = 256;

/// What a masked score becomes: as in [`crate::attention`].
const MASKED: f32 = -1e9;

/// Shapes as in [`crate::causal_attention`].
pub(crate) fn causal_attention<B: Home>(
    qkv: Tensor<2>,
    heads: usize,
    time: usize,
    pass: Pass,
) -> Tensor<2> {
    let qkv = Operand::<B>::new(qkv);
    let [n, columns] = qkv.tensor::<2>().dims();
    let (b, c) = (n / time, columns / 3);
    let [q, k, v] = split_heads(qkv.tensor(), [b, time, heads, c / heads]); // [B, H, T, D]
    let attention = Attention::new([q, k, v], pass);
    let y = attention.forward();
    join([&qkv], rows(y.output.clone()), move |dy, _| {
        let gradients = attention.pull(y, split(dy, [b, time, heads, c / heads]));
        [Some(raw::<B, 2>(Tensor::cat(gradients.map(rows).into(), 1)))]
    })
}

/// Shapes as in [`crate::grouped_attention`].
pub(crate) fn grouped_attention<B: Home>(
    inputs: [Tensor<2>; 3],
    [h, kv]: [usize; 2],
    time: usize,
    pass: Pass,
) -> Tensor<2> {
    let inputs = inputs.map(Operand::<B>::new);
    let [q, k, v] = inputs.each_ref().map(Operand::tensor::<2>);
    let [n, columns] = q.dims();
    let (b, d) = (n / time, columns / h);
    // Every head of queries gets keys and values of its own.
    let spread = |x: Tensor<2>| {
        let x = split(x, [b, time, kv, d]).reshape([b, kv, 1, time * d]).repeat_dim(2, h / kv);
        x.reshape([b, h, time, d])
    };
    let gather = move |x: Tensor<4>| {
        let x = x.reshape([b, kv, h / kv, time * d]).sum_dim(2);
        rows(x.reshape([b, kv, time, d]))
    };
    let attention = Attention::new([split(q, [b, time, h, d]), spread(k), spread(v)], pass);
    let y = attention.forward();
    let [q, k, v] = &inputs;
    join([q, k, v], rows(y.output.clone()), move |dy, _| {
        let [dq, dk, dv] = attention.pull(y, split(dy, [b, time, h, d]));
        [rows(dq), gather(dk), gather(dv)].map(|gradient| Some(raw::<B, 2>(gradient)))
    })
}

/// `[B * T, H D]` -> `[B, H, T, D]`.
fn split(x: Tensor<2>, [b, t, h, d]: [usize; 4]) -> Tensor<4> {
    x.reshape([b, t, h, d]).swap_dims(1, 2)
}

/// `[B, H, T, D]` -> `[B * T, H D]`.
fn rows(x: Tensor<4>) -> Tensor<2> {
    let [b, h, t, d] = x.dims();
    x.swap_dims(1, 2).reshape([b * t, h * d])
}

/// Queries, keys and values as products read them, each `[B, H, T, D]`; queries scaled.
#[derive(Clone)]
struct Attention {
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    /// `1 / sqrt(D)`
    scale: f64,
    dropout: Option<ScoreDropout>,
    precision: Precision,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone)]
struct Output {
    /// `[B, H, T, D]`
    output: Tensor<4>,
    /// `log sum_j exp(score_j)` for each block of queries: `[B, H, rows, 1]`.
    log_sums: Vec<Tensor<4>>,
}

impl Attention {
    fn new([q, k, v]: [Tensor<4>; 3], pass: Pass) -> Self {
        let [_, _, _, d] = q.dims();
        let scale = (d as f64).sqrt().recip();
        let [q, k, v] = [q * scale, k, v].map(|x| rounded(x, pass.precision));
        let dropout = pass.dropout.map(|dropout| ScoreDropout::of(Some(dropout)));
        Attention { q, k, v, scale, dropout, precision: pass.precision }
    }

    /// The blocks of queries: the first of each, and the one after its last.
    fn blocks(&self) -> Vec<[usize; 2]> {
        let [_, _, t, _] = self.q.dims();
        (0..t).step_by(QUERIES).map(|start| [start, (start + QUERIES).min(t)]).collect()
    }

    /// Scores of a block over all keys up to its last: `[B, H, rows, end]`.
    fn scores(&self, [start, end]: [usize; 2]) -> Tensor<4> {
        let keys = part(&self.k, [0, end]).swap_dims(2, 3);
        let scores = widened(part(&self.q, [start, end]).matmul(keys));
        let device = scores.device();
        let place = |range: std::ops::Range<usize>| {
            Tensor::<1, Int>::arange(range.start as i64..range.end as i64, &device)
        };
        let queries = place(start..end).unsqueeze_dim::<2>(1); // [rows, 1]
        let future = place(0..end).unsqueeze::<2>().greater(queries); // [rows, end]
        scores.mask_fill(future.unsqueeze::<4>(), MASKED)
    }

    /// What dropout multiplies the probabilities of a block with.
    fn factors(&self, [start, end]: [usize; 2]) -> Option<Tensor<4>> {
        let [b, h, _, _] = self.q.dims();
        let dropout = self.dropout?;
        Some(score_factors([b, h], start..end, end, dropout, &self.q.device()))
    }

    fn forward(&self) -> Output {
        let (mut outputs, mut log_sums) = (Vec::new(), Vec::new());
        for block in self.blocks() {
            let scores = self.scores(block);
            let most = scores.clone().max_dim(3); // [B, H, rows, 1]
            let weights = (scores - most.clone()).exp();
            let sum = weights.clone().sum_dim(3); // [B, H, rows, 1]
            let p = dropped(weights / sum.clone(), self.factors(block).as_ref());
            let p = rounded(p, self.precision);
            outputs.push(widened(p.matmul(part(&self.v, [0, block[1]]))));
            log_sums.push(most + sum.log());
        }
        Output { output: Tensor::cat(outputs, 2), log_sums }
    }

    /// The gradients of unscaled `q`, `k` and `v` from `dy [B, H, T, D]`.
    ///
    /// `dp = dy v^T` times what dropout took, `ds = p (dp - sum(dy y))`; `dq = ds k`, `dk = ds^T q`,
    /// `dv = p^T dy`.
    fn pull(self, y: Output, dy: Tensor<4>) -> [Tensor<4>; 3] {
        let [b, h, _, d] = self.q.dims();
        let delta = (dy.clone() * y.output).sum_dim(3); // [B, H, T, 1]
        let dy = rounded(dy, self.precision);
        let mut dq = Vec::new();
        let mut sums: Option<[Tensor<4>; 2]> = None;
        // From the last block, which reaches all keys, to the first.
        for (block, log_sum) in self.blocks().into_iter().zip(y.log_sums).rev() {
            let [_, end] = block;
            let p = (self.scores(block) - log_sum).exp();
            let dy = part(&dy, block);
            let dp = widened(dy.clone().matmul(part(&self.v, [0, end]).swap_dims(2, 3)));
            let factors = self.factors(block);
            let dp = dropped(dp, factors.as_ref());
            let ds = rounded(p.clone() * (dp - part(&delta, block)), self.precision);
            let p = rounded(dropped(p, factors.as_ref()), self.precision);
            dq.push(widened(ds.clone().matmul(part(&self.k, [0, end]))) * self.scale);
            let dk = widened(ds.swap_dims(2, 3).matmul(part(&self.q, block)));
            let dv = widened(p.swap_dims(2, 3).matmul(dy));
            let added = |sum: Tensor<4>, more: Tensor<4>| {
                let before = part(&sum, [0, end]);
                sum.slice_assign([0..b, 0..h, 0..end, 0..d], before + more)
            };
            sums = Some(match sums {
                Some([k, v]) => [added(k, dk), added(v, dv)],
                None => [dk, dv],
            });
        }
        dq.reverse();
        let [dk, dv] = sums.unwrap_or_else(|| [self.k.zeros_like(), self.v.zeros_like()]);
        [Tensor::cat(dq, 2), dk, dv]
    }
}

/// Times `factors`, where there are any.
fn dropped(p: Tensor<4>, factors: Option<&Tensor<4>>) -> Tensor<4> {
    match factors {
        Some(factors) => p * factors.clone(),
        None => p,
    }
}

/// Rows `start` to `end` of every head.
fn part(x: &Tensor<4>, [start, end]: [usize; 2]) -> Tensor<4> {
    let [b, h, t, width] = x.dims();
    if [start, end] == [0, t] {
        return x.clone();
    }
    x.clone().slice([0..b, 0..h, start..end, 0..width])
}
