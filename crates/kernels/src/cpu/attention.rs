//! Causal attention with dropout, forward and backward, that never stores the whole score matrix.
//!
//! For one head, with `q, k, v [T, D]` and a mask `M` of zeros and `1 / (1 - p)`:
//!
//! ```text
//! S = q k^T / sqrt(D), -inf above the diagonal      L = log sum_j e^S[i, j]
//!     and, with a window of W positions, where j <= i - W
//!     and, with several documents in a row, where j is in an earlier one
//! P = e^(S - L)                                     y = (P * M) v
//!
//! delta[i] = sum_d dy[i, d] y[i, d]
//! dv = (P * M)^T dy          dP = M * (dy v^T)
//! dS = P * (dP - delta) / sqrt(D)
//! dq = dS k                  dk = dS^T q
//! ```
//!
//! With fewer heads of keys and values than of queries (Ainslie et al., 2023), neighbouring heads
//! of queries share one: it is not copied, and its gradient is the sum over these heads.
//!
//! Scores are computed in squares of `BLOCK`; squares above the diagonal and squares before all
//! windows or all documents of their queries are skipped. The backward pass computes the scores again and needs only `L` for it (Dao,
//! "FlashAttention-2", 2023). All squares of a row are computed before its softmax, so no rescaling
//! is needed: the `T` numbers of a row fit in the cache.

use rayon::prelude::*;

use super::arithmetic::Arithmetic;
use super::matmul::OutputMode;
use super::matmul::pack::Matrix;
use super::simd::{dot, exp, max, sum};
use crate::documents::{Documents, first_key};
use crate::random::derive;
use isa::{Isa, vectorised};

/// Queries and keys in a square of scores.
const BLOCK: usize = 128;

/// The shape of the attention, which keys each query sees, and the dropout.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Sequences `B`.
    pub batch: usize,
    /// Tokens in each, `T`.
    pub time: usize,
    /// Heads of queries `H`.
    pub heads: usize,
    /// Heads of keys and values `K`, a divisor of `H`.
    pub kv_heads: usize,
    /// Width of a head `D`.
    pub width: usize,
    /// Positions that a query sees, up to and including its own (Beltagy et al., "Longformer",
    /// 2020); `time` if it sees all positions before it.
    pub window: usize,
    /// The documents of the sequences; `None` if each is one.
    pub documents: Option<Documents>,
    /// Which scores are dropped.
    pub dropout: ScoreDropout,
}

/// Which scores are dropped: a function of a key and the score's position, so that the backward
/// pass and a resumed run drop the same scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreDropout {
    /// Probability of a zero.
    pub probability: f32,
    /// The key of this layer and step.
    pub key: u64,
}

vectorised! {
    /// Multiplies each number by 0 or `1 / (1 - p)`; `position` is the position of the first number
    /// in its row.
    fn drop_scores(dropout: ScoreDropout, row: &mut [f32], position: u32) {
        let keep = 1.0 / (1.0 - dropout.probability);
        // A score is kept if its 32 random bits are at least the threshold.
        let threshold = (f64::from(dropout.probability) * 4_294_967_296.0) as u32;
        let (low, high) = (dropout.key as u32, (dropout.key >> 32) as u32);
        for (i, x) in row.iter_mut().enumerate() {
            let drawn = hash(position.wrapping_add(i as u32) ^ low).wrapping_add(high);
            *x *= if hash(drawn) >= threshold { keep } else { 0.0 };
        }
    }
}

/// A bijection of 32 bits with good avalanche: two multiplications, which vectorise (Wellons,
/// "Prospecting for hash functions", 2018, `lowbias32`).
#[inline(always)]
fn hash(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// `y [B, T, C]` and the logarithms `L [B, H, T]`.
pub type Output = (Vec<f32>, Vec<f32>);

/// `q`, `k` or `v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
}

/// Some columns of a matrix with `B * T` rows, row by row.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    /// The matrix.
    pub data: &'a [f32],
    /// Numbers from one row to the next.
    pub stride: usize,
    /// The first of the columns.
    pub first: usize,
}

/// Where queries `[B * T, H D]`, keys and values `[B * T, K D]` are stored, heads side by side.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a>([Columns<'a>; 3]);

impl<'a> Inputs<'a> {
    /// All in one matrix `[B * T, (H + 2 K) D]`: queries, keys, values.
    pub fn joined(shape: &Attention, qkv: &'a [f32]) -> Self {
        let (q, kv) = (shape.columns(Part::Q), shape.columns(Part::K));
        let stride = q + 2 * kv;
        assert_eq!(qkv.len(), shape.batch * shape.time * stride, "qkv of [B, T, (H + 2 K) D]");
        Inputs([0, q, q + kv].map(|first| Columns { data: qkv, stride, first }))
    }

    /// Each in a separate matrix.
    pub fn separate(shape: &Attention, q: &'a [f32], k: &'a [f32], v: &'a [f32]) -> Self {
        let rows = shape.batch * shape.time;
        Inputs([(Part::Q, q), (Part::K, k), (Part::V, v)].map(|(part, data)| {
            let stride = shape.columns(part);
            assert_eq!(data.len(), rows * stride, "{part:?} of [B, T, {stride}]");
            Columns { data, stride, first: 0 }
        }))
    }
}

/// One head of queries of one sequence.
#[derive(Clone, Copy)]
struct QueryHead<'s> {
    shape: &'s Attention,
    batch: usize,
    head: usize,
}

impl Attention {
    fn channels(&self) -> usize {
        self.heads * self.width
    }

    fn heads_of(&self, part: Part) -> usize {
        if part == Part::Q { self.heads } else { self.kv_heads }
    }

    /// Columns of a part.
    pub fn columns(&self, part: Part) -> usize {
        self.heads_of(part) * self.width
    }

    fn heads(&self) -> impl IndexedParallelIterator<Item = QueryHead<'_>> {
        (0..self.batch * self.heads).into_par_iter().map(|i| QueryHead {
            shape: self,
            batch: i / self.heads,
            head: i % self.heads,
        })
    }

    fn blocks(&self) -> usize {
        self.time.div_ceil(BLOCK)
    }

    /// Rows of a block.
    fn rows(&self, block: usize) -> usize {
        (self.time - block * BLOCK).min(BLOCK)
    }
}

impl QueryHead<'_> {
    /// The first key that a query sees.
    fn first_key(self, query: usize) -> usize {
        first_key(self.shape.window, self.shape.documents.as_ref(), self.batch, query)
    }

    /// The first block of keys that a block of queries sees: its first query looks back furthest.
    fn first_block(self, queries: usize) -> usize {
        self.first_key(queries * BLOCK) / BLOCK
    }

    /// The blocks of queries that see a block of keys; the first is the block of the same number.
    fn blocks_that_see(self, keys: usize) -> impl Iterator<Item = usize> {
        (keys..self.shape.blocks()).take_while(move |&queries| self.first_block(queries) <= keys)
    }

    /// A block of rows: `[rows, D]`.
    fn part<'a>(self, inputs: &Inputs<'a>, part: Part, block: usize) -> Matrix<'a> {
        let Columns { data, stride, first } = inputs.0[part as usize];
        let row = self.batch * self.shape.time + block * BLOCK;
        let head = self.head * self.shape.heads_of(part) / self.shape.heads;
        let start = row * stride + first + head * self.shape.width;
        Matrix::strided(&data[start..], self.shape.rows(block), self.shape.width, stride)
    }

    /// A block of rows of something shaped like the output: `[rows, D]`.
    fn output_part(self, y: &[f32], block: usize) -> Matrix<'_> {
        let (channels, width) = (self.shape.channels(), self.shape.width);
        let start = (self.batch * self.shape.time + block * BLOCK) * channels + self.head * width;
        Matrix::strided(&y[start..], self.shape.rows(block), width, channels)
    }

    /// The dropout of one query's scores: each row of each head has its own key.
    fn row_dropout(self, query: usize) -> ScoreDropout {
        let ScoreDropout { probability, key } = self.shape.dropout;
        let head = (self.batch * self.shape.heads + self.head) as u64;
        ScoreDropout { probability, key: derive(derive(key, head), query as u64) }
    }

    /// Scores of one block of queries against one of keys, scaled and masked: `[rows, keys]`.
    fn scores<A: Arithmetic>(
        self,
        math: A,
        q: &A::Operand<'_>,
        k: &A::Operand<'_>,
        i: usize,
        j: usize,
    ) -> Vec<f32> {
        let (rows, keys) = (self.shape.rows(i), self.shape.rows(j));
        let mut scores = vec![0.0; rows * keys];
        math.multiply(q, k, &mut scores, OutputMode::Replace);
        let scale = 1.0 / (self.shape.width as f32).sqrt();
        multiply_all(math.isa(), &mut scores, scale);
        let (first_query, first_key) = (i * BLOCK, j * BLOCK);
        let past = self.first_key(first_query + rows - 1);
        if i == j || past > first_key {
            for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
                let query = first_query + row;
                let seen = self.first_key(query).saturating_sub(first_key).min(keys);
                scores[..seen].fill(f32::NEG_INFINITY);
                scores[(query + 1 - first_key).min(keys)..].fill(f32::NEG_INFINITY);
            }
        }
        scores
    }

    fn drop(self, isa: Isa, probabilities: &mut [f32], i: usize, j: usize) {
        if self.shape.dropout.probability == 0.0 {
            return;
        }
        let keys = self.shape.rows(j);
        for (row, p) in probabilities.chunks_exact_mut(keys).enumerate() {
            drop_scores(isa, self.row_dropout(i * BLOCK + row), p, (j * BLOCK) as u32);
        }
    }

    /// `y [T, D]` and `L [T]` of this head.
    fn forward<A: Arithmetic>(self, math: A, inputs: &Inputs<'_>) -> Output {
        let (time, width) = (self.shape.time, self.shape.width);
        let (mut y, mut logs) = (vec![0.0; time * width], vec![0.0; time]);
        let keys: Vec<_> = (0..self.shape.blocks())
            .map(|j| math.right(self.part(inputs, Part::K, j).transpose()))
            .collect();
        let values: Vec<_> =
            (0..self.shape.blocks()).map(|j| math.right(self.part(inputs, Part::V, j))).collect();
        for (i, (y, logs)) in y.chunks_mut(BLOCK * width).zip(logs.chunks_mut(BLOCK)).enumerate() {
            let q = math.left(self.part(inputs, Part::Q, i));
            let first = self.first_block(i);
            let mut squares: Vec<_> =
                (first..=i).map(|j| self.scores(math, &q, &keys[j], i, j)).collect();
            softmax(math.isa(), &mut squares, logs);
            for (j, p) in (first..).zip(&mut squares) {
                self.drop(math.isa(), p, i, j);
                let p = math.left(Matrix::new(p, self.shape.rows(i), self.shape.rows(j)));
                let into = if j == first { OutputMode::Replace } else { OutputMode::Add };
                math.multiply(&p, &values[j], y, into);
            }
        }
        (y, logs)
    }

    /// `dq, dk, dv`, each `[T, D]`.
    fn backward<A: Arithmetic>(
        self,
        math: A,
        inputs: &Inputs<'_>,
        y: &[f32],
        logs: &[f32],
        dy: &[f32],
    ) -> [Vec<f32>; 3] {
        let (time, width, blocks) = (self.shape.time, self.shape.width, self.shape.blocks());
        let mut gradients = [0; 3].map(|_| vec![0.0; time * width]);
        let [dq, dk, dv] = &mut gradients;
        let logs = &logs[(self.batch * self.shape.heads + self.head) * time..][..time];
        let delta = self.delta(math.isa(), y, dy);
        let queries: Vec<_> =
            (0..blocks).map(|i| math.left(self.part(inputs, Part::Q, i))).collect();
        let queries_right: Vec<_> =
            (0..blocks).map(|i| math.right(self.part(inputs, Part::Q, i))).collect();
        let dys: Vec<_> = (0..blocks).map(|i| math.left(self.output_part(dy, i))).collect();
        let dys_right: Vec<_> = (0..blocks).map(|i| math.right(self.output_part(dy, i))).collect();
        for j in 0..blocks {
            let k_transposed = math.right(self.part(inputs, Part::K, j).transpose());
            let k = math.right(self.part(inputs, Part::K, j));
            let v_transposed = math.right(self.part(inputs, Part::V, j).transpose());
            let keys = self.shape.rows(j);
            let own = j * BLOCK * width..(j * BLOCK + keys) * width;
            let (dk, dv) = (&mut dk[own.clone()], &mut dv[own]);
            for i in self.blocks_that_see(j) {
                let rows = self.shape.rows(i);
                let (logs, delta) = (&logs[i * BLOCK..][..rows], &delta[i * BLOCK..][..rows]);
                let mut p = self.scores(math, &queries[i], &k_transposed, i, j);
                probabilities(math.isa(), &mut p, logs);
                let mut dp = vec![0.0; rows * keys];
                math.multiply(&dys[i], &v_transposed, &mut dp, OutputMode::Replace);
                self.drop(math.isa(), &mut dp, i, j);
                let scale = 1.0 / (width as f32).sqrt();
                let mut ds = dp;
                score_gradients(math.isa(), &mut ds, &p, delta, scale);
                self.drop(math.isa(), &mut p, i, j);
                let first = if i == j { OutputMode::Replace } else { OutputMode::Add };
                let p = Matrix::new(&p, rows, keys);
                math.multiply(&math.left(p.transpose()), &dys_right[i], dv, first);
                let ds = Matrix::new(&ds, rows, keys);
                math.multiply(&math.left(ds.transpose()), &queries_right[i], dk, first);
                let dq = &mut dq[i * BLOCK * width..][..rows * width];
                math.multiply(&math.left(ds), &k, dq, OutputMode::Add);
            }
        }
        gradients
    }

    /// `sum_d dy[i, d] y[i, d]` for every row of this head.
    fn delta(self, isa: Isa, y: &[f32], dy: &[f32]) -> Vec<f32> {
        let (channels, width, time) = (self.shape.channels(), self.shape.width, self.shape.time);
        let row = |t| {
            let start = (self.batch * time + t) * channels + self.head * width;
            dot_product(isa, &y[start..start + width], &dy[start..start + width])
        };
        (0..time).map(row).collect()
    }
}

vectorised! {
    fn multiply_all(x: &mut [f32], factor: f32) {
        for x in x {
            *x *= factor;
        }
    }

    fn dot_product(x: &[f32], y: &[f32]) -> f32 {
        dot(x, y)
    }

    /// Softmax of each row, across all squares; returns `L` of the rows.
    fn softmax(squares: &mut [Vec<f32>], logs: &mut [f32]) {
        let rows = logs.len();
        for (row, log) in logs.iter_mut().enumerate() {
            let mut most = f32::NEG_INFINITY;
            for square in squares.iter() {
                let keys = square.len() / rows;
                most = most.max(max(&square[row * keys..][..keys]));
            }
            let mut total = 0.0;
            for square in squares.iter_mut() {
                let keys = square.len() / rows;
                let line = &mut square[row * keys..][..keys];
                for s in line.iter_mut() {
                    *s = exp(*s - most);
                }
                total += sum(line);
            }
            for square in squares.iter_mut() {
                let keys = square.len() / rows;
                for p in &mut square[row * keys..][..keys] {
                    *p /= total;
                }
            }
            *log = most + total.ln();
        }
    }

    /// `e^(S - L)`, a row for each of `logs`.
    fn probabilities(scores: &mut [f32], logs: &[f32]) {
        let keys = scores.len() / logs.len();
        for (row, log) in scores.chunks_exact_mut(keys).zip(logs) {
            for s in row {
                *s = exp(*s - log);
            }
        }
    }

    /// Replaces `dP` by `dS`, a row for each of `delta`.
    fn score_gradients(ds: &mut [f32], p: &[f32], delta: &[f32], scale: f32) {
        let keys = ds.len() / delta.len();
        for ((ds, p), delta) in ds.chunks_exact_mut(keys).zip(p.chunks_exact(keys)).zip(delta) {
            for (ds, p) in ds.iter_mut().zip(p) {
                *ds = p * (*ds - delta) * scale;
            }
        }
    }
}

/// The factors that dropout multiplies the probabilities with, `[B, H, T, T]`: for implementations
/// of attention that store all probabilities.
pub fn score_factors(
    isa: Isa,
    [batch, heads, time, _]: [usize; 4],
    dropout: ScoreDropout,
) -> Vec<f32> {
    let shape = Attention {
        batch,
        time,
        heads,
        kv_heads: heads,
        width: 1,
        window: time,
        documents: None,
        dropout,
    };
    let mut factors = vec![1.0; batch * heads * time * time];
    factors.par_chunks_mut(time).enumerate().for_each(|(row, factors)| {
        let (head, query) = (row / time, row % time);
        let head = QueryHead { shape: &shape, batch: head / heads, head: head % heads };
        drop_scores(isa, head.row_dropout(query), factors, 0);
    });
    factors
}

/// Attention of queries over keys and values.
pub fn attention<A: Arithmetic>(math: A, shape: &Attention, inputs: Inputs<'_>) -> Output {
    let (channels, width, time) = (shape.channels(), shape.width, shape.time);
    let each: Vec<Output> = shape.heads().map(|head| head.forward(math, &inputs)).collect();
    let mut y = vec![0.0; shape.batch * time * channels];
    y.par_chunks_mut(channels).enumerate().for_each(|(row, y)| {
        for (head, y) in y.chunks_exact_mut(width).enumerate() {
            let from = &each[row / time * shape.heads + head].0;
            y.copy_from_slice(&from[row % time * width..][..width]);
        }
    });
    let logs = each.into_iter().flat_map(|(_, logs)| logs).collect();
    (y, logs)
}

/// The gradients of all inputs, separately for each head of queries.
#[derive(Debug, Clone)]
pub struct HeadGradients {
    shape: Attention,
    /// `dq, dk, dv [T, D]` of each head of each sequence.
    each: Vec<[Vec<f32>; 3]>,
}

/// The gradients for [`attention`]'s inputs, from its output and the output's gradient.
pub fn attention_backward<A: Arithmetic>(
    math: A,
    shape: &Attention,
    inputs: Inputs<'_>,
    (y, logs): (&[f32], &[f32]),
    dy: &[f32],
) -> HeadGradients {
    let each = shape.heads().map(|head| head.backward(math, &inputs, y, logs, dy)).collect();
    HeadGradients { shape: shape.clone(), each }
}

impl HeadGradients {
    /// The gradient of a matrix that contains these parts side by side: `[B * T, columns]`.
    pub fn side_by_side(&self, parts: &[Part]) -> Vec<f32> {
        let shape = &self.shape;
        let columns: usize = parts.iter().map(|&part| shape.columns(part)).sum();
        let mut out = vec![0.0; shape.batch * shape.time * columns];
        out.par_chunks_mut(columns).enumerate().for_each(|(row, mut out)| {
            for &part in parts {
                let (own, rest) = out.split_at_mut(shape.columns(part));
                self.write_row(part, row, own);
                out = rest;
            }
        });
        out
    }

    /// One row of one part: `[heads D]`, summed over the queries' heads that read the same keys.
    fn write_row(&self, part: Part, row: usize, out: &mut [f32]) {
        let Attention { time, heads, width, .. } = self.shape;
        let sharing = heads / self.shape.heads_of(part);
        let sequence = &self.each[row / time * heads..][..heads];
        for (group, out) in sequence.chunks_exact(sharing).zip(out.chunks_exact_mut(width)) {
            for (i, head) in group.iter().enumerate() {
                let from = &head[part as usize][row % time * width..][..width];
                if i == 0 {
                    out.copy_from_slice(from);
                } else {
                    out.iter_mut().zip(from).for_each(|(sum, x)| *sum += x);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
