//! Causal attention by blocks of queries: keys after all queries of a block, or before all their
//! windows or documents, are skipped, and probabilities are not kept.
//!
//! The formulas are those of Dao, "FlashAttention-2" (2023). FlashAttention-2 keeps the scores of a
//! block on the chip; here they are written to memory, for one block at a time.
//!
//! Products need both operands contiguous, row by row (see [`super::product`]). So queries, keys
//! and values, which are small, are kept both plain and transposed. The backward pass computes the
//! scores of a block transposed, `[keys, queries]`, and the forward pass as `[queries, keys]`, so
//! that no square has to be transposed.

use burn::tensor::Tensor;

use super::product::product;
use super::rng::score_factors;
use super::{raw, rounded};
use crate::attention::CausalMask;
use crate::cpu::attention::ScoreDropout;
use crate::graph::{KernelBackend, Operand, join};
use crate::pass::{Pass, Precision};

/// Queries of a block. At 1,024 positions two blocks compute 75 % of the whole square; four would
/// compute 62 % with twice as many kernels, whose launch takes longer than their run.
const QUERIES: usize = 512;

/// Shapes as in [`crate::causal_attention`].
pub(crate) fn causal_attention<B: KernelBackend>(
    qkv: Tensor<2>,
    heads: usize,
    mask: &CausalMask,
    pass: Pass,
) -> Tensor<2> {
    let qkv = Operand::<B>::new(qkv);
    let [n, columns] = qkv.tensor::<2>().dims();
    let (time, c) = (mask.time(), columns / 3);
    let b = mask.rows(n);
    let shape = [b, time, heads, c / heads];
    let inputs = [0, 1, 2].map(|part| {
        let columns = qkv.tensor::<2>().slice([0..n, part * c..(part + 1) * c]); // [N, C]
        split(columns, shape)
    });
    let attention = Attention::new(inputs, mask, pass);
    let y = attention.forward::<B>();
    join([&qkv], rows(y.output.clone(), b), move |dy, _| {
        let gradients =
            attention.backward::<B>(y, split(dy, shape)).map(|gradient| rows(gradient, b));
        [Some(raw::<B, 2>(Tensor::cat(gradients.into(), 1)))]
    })
}

/// Shapes as in [`crate::grouped_attention`].
pub(crate) fn grouped_attention<B: KernelBackend>(
    inputs: [Tensor<2>; 3],
    [h, kv]: [usize; 2],
    mask: &CausalMask,
    pass: Pass,
) -> Tensor<2> {
    let operands = inputs.map(Operand::<B>::new);
    let [q, k, v] = operands.each_ref().map(Operand::tensor::<2>);
    let [n, columns] = q.dims();
    let (time, d) = (mask.time(), columns / h);
    let b = mask.rows(n);
    // Keys and values are repeated for every head of queries.
    let spread = |x: Tensor<2>| {
        let x = split(x, [b, time, kv, d]).reshape([b * kv, 1, time * d]).repeat_dim(1, h / kv);
        x.reshape([b * h, time, d])
    };
    let gather = move |x: Tensor<3>| {
        let x = x.reshape([b * kv, h / kv, time * d]).sum_dim(1);
        rows(x.reshape([b * kv, time, d]), b)
    };
    let inputs = [split(q, [b, time, h, d]), spread(k), spread(v)];
    let attention = Attention::new(inputs, mask, pass);
    let y = attention.forward::<B>();
    let [q, k, v] = &operands;
    join([q, k, v], rows(y.output.clone(), b), move |dy, _| {
        let [dq, dk, dv] = attention.backward::<B>(y, split(dy, [b, time, h, d]));
        [rows(dq, b), gather(dk), gather(dv)].map(|gradient| Some(raw::<B, 2>(gradient)))
    })
}

/// `[B * T, H D]` -> `[B * H, T, D]`, the matrix of each head contiguous.
fn split(x: Tensor<2>, [b, t, h, d]: [usize; 4]) -> Tensor<3> {
    x.reshape([b, t, h, d]).swap_dims(1, 2).reshape([b * h, t, d])
}

/// `[B * H, T, D]` -> `[B * T, H D]`.
fn rows(x: Tensor<3>, b: usize) -> Tensor<2> {
    let [heads, t, d] = x.dims();
    x.reshape([b, heads / b, t, d]).swap_dims(1, 2).reshape([b * t, heads / b * d])
}

/// Every matrix transposed and contiguous: `[B * H, T, D]` -> `[B * H, D, T]`.
fn transposed(x: Tensor<3>) -> Tensor<3> {
    let [heads, t, d] = x.dims();
    x.swap_dims(1, 2).reshape([heads * d * t]).reshape([heads, d, t])
}

/// A matrix for each head, plain and transposed, both contiguous as products need them.
#[derive(Clone)]
struct BothWays {
    /// `[B * H, T, D]`
    rows: Tensor<3>,
    /// `[B * H, D, T]`
    columns: Tensor<3>,
}

impl BothWays {
    fn new(x: Tensor<3>, precision: Precision) -> Self {
        let rows = rounded(x, precision);
        BothWays { columns: transposed(rows.clone()), rows }
    }

    /// Positions `start` to `end`, one in each row: `[B * H, end - start, D]`.
    fn rows(&self, range: [usize; 2]) -> Tensor<3> {
        part(&self.rows, 1, range)
    }

    /// The same, one in each column: `[B * H, D, end - start]`.
    fn columns(&self, range: [usize; 2]) -> Tensor<3> {
        part(&self.columns, 2, range)
    }
}

/// Positions `start` to `end` of a dimension.
fn part(x: &Tensor<3>, dim: usize, [start, end]: [usize; 2]) -> Tensor<3> {
    if [start, end] == [0, x.dims()[dim]] {
        x.clone()
    } else {
        x.clone().narrow(dim, start, end - start)
    }
}

/// `[B * H, keys, D]` after `zeros` rows of zeros: `[B * H, zeros + keys, D]`.
fn after_zeros(x: Tensor<3>, zeros: usize) -> Tensor<3> {
    let [heads, _, d] = x.dims();
    match zeros {
        0 => x,
        _ => Tensor::cat(vec![Tensor::zeros([heads, zeros, d], &x.device()), x], 1),
    }
}

/// The inputs of one layer's attention.
#[derive(Clone)]
struct Attention {
    /// Multiplied by `scale`.
    q: BothWays,
    k: BothWays,
    v: BothWays,
    /// Which keys each query sees.
    mask: CausalMask,
    /// Added to the scores: `[1, T, T]`, or `[B, T, T]` with several documents.
    hidden: Tensor<3>,
    /// `1 / sqrt(D)`
    scale: f64,
    dropout: Option<ScoreDropout>,
    precision: Precision,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone)]
struct Output {
    /// `[B * H, T, D]`
    output: Tensor<3>,
    /// `log sum_j exp(score_j)` for each block of queries: `[B * H, rows, 1]`.
    log_sums: Vec<Tensor<3>>,
}

impl Attention {
    /// From `q`, `k` and `v`, each `[B * H, T, D]`.
    fn new([q, k, v]: [Tensor<3>; 3], mask: &CausalMask, pass: Pass) -> Self {
        let [_, t, d] = q.dims();
        let scale = (d as f64).sqrt().recip();
        let [q, k, v] = [q * scale, k, v].map(|x| BothWays::new(x, pass.precision));
        let hidden = mask.scores().inner().reshape([mask.distinct_rows(), t, t]);
        let mask = mask.clone();
        let dropout = pass.dropout.map(|dropout| ScoreDropout::of(Some(dropout)));
        Attention { q, k, v, mask, hidden, scale, dropout, precision: pass.precision }
    }

    /// The blocks of queries: the first query of each, and the one after its last.
    fn blocks(&self) -> Vec<[usize; 2]> {
        let t = self.mask.time();
        (0..t).step_by(QUERIES).map(|start| [start, (start + QUERIES).min(t)]).collect()
    }

    /// The keys that a block of queries sees in any row: the first, and the one after the last.
    fn keys(&self, [start, end]: [usize; 2]) -> [usize; 2] {
        let first = (0..self.mask.distinct_rows()).map(|row| self.mask.first_key(row, start));
        [first.min().unwrap_or(0), end]
    }

    /// Hides keys from the queries of a block: `scores [B * H, rows, keys]`, or
    /// `[B * H, keys, rows]` if `transposed`.
    fn masked(&self, scores: Tensor<3>, block: [usize; 2], transposed: bool) -> Tensor<3> {
        let hidden = part(&part(&self.hidden, 1, block), 2, self.keys(block));
        let hidden = if transposed { hidden.swap_dims(1, 2) } else { hidden };
        let ([heads, m, n], [distinct, _, _]) = (scores.dims(), hidden.dims());
        if distinct == 1 {
            return scores + hidden;
        }
        let scores = scores.reshape([distinct, heads / distinct, m, n]);
        (scores + hidden.reshape([distinct, 1, m, n])).reshape([heads, m, n])
    }

    /// What dropout multiplies the probabilities of a block with: `[B * H, rows, keys]`, or
    /// `[B * H, keys, rows]` if `transposed`.
    fn factors(&self, block: [usize; 2], transposed: bool) -> Option<Tensor<3>> {
        let [heads, _, _] = self.q.rows.dims();
        let [rows, keys] = [block, self.keys(block)].map(|[start, end]| start..end);
        Some(score_factors(heads, rows, keys, transposed, self.dropout?, &self.hidden.device()))
    }

    fn forward<B: KernelBackend>(&self) -> Output {
        let (mut outputs, mut log_sums) = (Vec::new(), Vec::new());
        for block in self.blocks() {
            let keys = self.keys(block);
            // [B * H, rows, keys]
            let scores = product::<B, 3>(self.q.rows(block), self.k.columns(keys));
            let scores = self.masked(scores, block, false);
            let most = scores.clone().max_dim(2); // [B * H, rows, 1]
            let weights = (scores - most.clone()).exp();
            let sum = weights.clone().sum_dim(2); // [B * H, rows, 1]
            let p = dropped(weights / sum.clone(), self.factors(block, false).as_ref());
            outputs.push(product::<B, 3>(rounded(p, self.precision), self.v.rows(keys)));
            log_sums.push(most + sum.log());
        }
        Output { output: Tensor::cat(outputs, 1), log_sums }
    }

    /// The gradients of unscaled `q`, `k` and `v` from `dy [B * H, T, D]`.
    ///
    /// With `dp = v dy^T` times the factors of dropout and `ds = p (dp - sum(dy y))`, all
    /// transposed, they are `dq^T = k^T ds`, `dk = ds q` and `dv = p dy`.
    fn backward<B: KernelBackend>(self, y: Output, dy: Tensor<3>) -> [Tensor<3>; 3] {
        let [heads, t, d] = dy.dims();
        // [B * H, 1, T]
        let delta = (dy.clone() * y.output).sum_dim(2).reshape([heads, 1, t]);
        let dy = BothWays::new(dy, self.precision);
        let mut dq = Vec::new();
        let mut sums: Option<[Tensor<3>; 2]> = None;
        // From the last block, which sees the last key, to the first.
        for (block, log_sum) in self.blocks().into_iter().zip(y.log_sums).rev() {
            let [start, end] = block;
            let keys = self.keys(block);
            let log_sum = log_sum.reshape([heads, 1, end - start]);
            // [B * H, keys, rows]
            let scores = product::<B, 3>(self.k.rows(keys), self.q.columns(block));
            let p = (self.masked(scores, block, true) - log_sum).exp();
            let factors = self.factors(block, true);
            let dp = product::<B, 3>(self.v.rows(keys), dy.columns(block));
            let dp = dropped(dp, factors.as_ref());
            let ds = rounded(p.clone() * (dp - part(&delta, 2, block)), self.precision);
            let p = rounded(dropped(p, factors.as_ref()), self.precision);
            // [B * H, D, rows]
            dq.push(product::<B, 3>(self.k.columns(keys), ds.clone()) * self.scale);
            let dk = product::<B, 3>(ds, self.q.rows(block));
            let dv = product::<B, 3>(p, dy.rows(block));
            let added = |sum: Tensor<3>, more: Tensor<3>| {
                let before = part(&sum, 1, keys);
                sum.slice_assign([0..heads, keys[0]..end, 0..d], before + more)
            };
            sums = Some(match sums {
                Some([k, v]) => [added(k, dk), added(v, dv)],
                None => [dk, dv].map(|last| after_zeros(last, keys[0])),
            });
        }
        dq.reverse();
        let Some([dk, dv]) = sums else { unreachable!("a window without positions") };
        [Tensor::cat(dq, 2).swap_dims(1, 2), dk, dv]
    }
}

/// Multiplies by `factors`, if there are any.
fn dropped(p: Tensor<3>, factors: Option<&Tensor<3>>) -> Tensor<3> {
    match factors {
        Some(factors) => p * factors.clone(),
        None => p,
    }
}
