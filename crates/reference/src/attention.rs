//! Causal attention of many heads over everything read so far.

use config::{LayerAttention, ModelConfig};
use rayon::prelude::*;

use crate::cache::{Cache, LayerCache};
use crate::matmul::{Rows, product};
use crate::ops;
use crate::trace::BlockTrace;

/// Queries that one task answers: enough to use the matrix product, few enough to share out.
const TASK_QUERIES: usize = 96;

/// The sizes of one attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// New positions `T`.
    pub queries: usize,
    /// Positions read before them.
    pub past: usize,
    /// Heads of queries, `H`.
    pub heads: usize,
    /// Heads of keys and values, `K`.
    pub kv_heads: usize,
    /// `D`.
    pub head_width: usize,
    /// Positions the cache has room for.
    pub capacity: usize,
    /// Width of the residual stream, `C`.
    pub embedding: usize,
    /// Positions that are seen, the query's own among them, where they are not all.
    pub window: Option<usize>,
    /// What products of queries and keys are multiplied by.
    pub scale: f32,
}

impl Sizes {
    /// The attention of `queries` new positions after those in the cache.
    pub fn new(config: &ModelConfig, queries: usize, cache: &Cache) -> Self {
        Sizes { past: cache.len, capacity: cache.capacity, ..Self::alone(config, queries) }
    }

    /// The attention of `queries` positions with nothing before them.
    pub fn alone(config: &ModelConfig, queries: usize) -> Self {
        Sizes {
            queries,
            past: 0,
            heads: config.n_head,
            kv_heads: config.n_kv_head,
            head_width: config.head_width(),
            capacity: queries,
            embedding: config.n_embd,
            window: None,
            scale: config.attention_scale(),
        }
    }

    /// The same in a layer that sees as far as `attention` says.
    pub fn in_layer(&self, attention: LayerAttention) -> Self {
        Sizes { window: attention.window, ..*self }
    }

    /// Width of all queries of a position, `H * D`.
    pub fn width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Width of all keys of a position, and of all values: `K * D`.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }

    /// The head of keys and values that a head of queries looks at: neighbours share one.
    fn kv_head(&self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
    }
}

/// What attention computes; the inner steps only if they were asked for.
struct Attended {
    /// `[T, H * D]`
    y: Vec<f32>,
    /// `[H, T, S]`: scaled products, `-inf` where a query may not look.
    scores: Vec<f32>,
    /// `[H, T, S]`: their softmax.
    weights: Vec<f32>,
}

/// Scaled dot-product attention (Vaswani et al., 2017) with a causal mask; `H / K` heads of queries
/// share a head of keys and values (Ainslie et al., 2023). With `S = past + T`:
///
/// ```text
/// scores[t, s]  = q[t] · k[s] · scale        for past + t - window < s <= past + t
/// weights[t, :] = softmax(scores[t, :])
/// y[t]          = Σ_s weights[t, s] · v[s]
/// ```
///
/// `q` holds rows `stride` apart, heads side by side; keys and values of all `S` positions are in
/// the cache. `scale` is `1 / sqrt(D)` in most models, and the window endless. The result is
/// `[T, H * D]`.
pub(crate) fn attend(
    q: &[f32],
    stride: usize,
    cache: &LayerCache,
    sizes: &Sizes,
    trace: &mut BlockTrace<'_, '_>,
) -> Vec<f32> {
    let keep_steps = trace.keeps_stages();
    let tasks: Vec<(usize, usize)> = (0..sizes.heads)
        .flat_map(|head| (0..sizes.queries).step_by(TASK_QUERIES).map(move |first| (head, first)))
        .collect();
    let parts: Vec<Part> = tasks
        .into_par_iter()
        .map(|(head, first)| attend_part(q, stride, cache, sizes, head, first, keep_steps))
        .collect();
    let Attended { y, scores, weights } = assemble(parts, sizes, keep_steps);
    if keep_steps {
        let shape = [sizes.heads, sizes.queries, sizes.past + sizes.queries];
        trace.keep("attn.scores", &shape, &scores);
        trace.keep("attn.weights", &shape, &weights);
    }
    trace.keep("attn.y", &[sizes.queries, sizes.width()], &y);
    y
}

/// The answer to a run of queries of one head.
struct Part {
    head: usize,
    first: usize,
    /// Positions that the last of the queries sees.
    seen: usize,
    /// `[queries, D]`
    y: Vec<f32>,
    /// `[queries, seen]`, empty unless kept.
    scores: Vec<f32>,
    /// `[queries, seen]`, empty unless kept.
    weights: Vec<f32>,
}

fn attend_part(
    q: &[f32],
    stride: usize,
    cache: &LayerCache,
    sizes: &Sizes,
    head: usize,
    first: usize,
    keep_steps: bool,
) -> Part {
    let d = sizes.head_width;
    let kv_start = sizes.kv_head(head) * d;
    let queries = TASK_QUERIES.min(sizes.queries - first);
    let seen = sizes.past + first + queries;

    let q = Rows::strided(&q[first * stride + head * d..], queries, d, stride);
    let k = Rows::strided(&cache.keys[kv_start..], seen, d, sizes.kv_width());
    let mut weights = product(q, k); // [queries, seen]
    let mut scores = Vec::new();
    for (i, row) in weights.chunks_exact_mut(seen).enumerate() {
        let (seen, future) = row.split_at_mut(sizes.past + first + i + 1);
        let hidden = sizes.window.map_or(0, |window| seen.len().saturating_sub(window));
        let (hidden, visible) = seen.split_at_mut(hidden);
        visible.iter_mut().for_each(|score| *score *= sizes.scale);
        if keep_steps {
            scores.extend(hidden.iter().map(|_| f32::NEG_INFINITY));
            scores.extend_from_slice(visible);
            scores.extend(future.iter().map(|_| f32::NEG_INFINITY));
        }
        ops::softmax(visible);
        hidden.fill(0.0);
        future.fill(0.0);
    }

    let v = Rows::strided(&cache.values[kv_start * sizes.capacity..], d, seen, sizes.capacity);
    let y = product(Rows::new(&weights, seen), v); // [queries, D]
    let weights = if keep_steps { weights } else { Vec::new() };
    Part { head, first, seen, y, scores, weights }
}

/// Puts the parts where they belong: heads side by side in `y`, one after the other in the steps.
fn assemble(parts: Vec<Part>, sizes: &Sizes, keep_steps: bool) -> Attended {
    let (d, total, width) = (sizes.head_width, sizes.past + sizes.queries, sizes.width());
    let steps = if keep_steps { sizes.heads * sizes.queries * total } else { 0 };
    let mut all = Attended {
        y: vec![0.0; sizes.queries * width],
        scores: vec![f32::NEG_INFINITY; steps],
        weights: vec![0.0; steps],
    };
    for part in parts {
        for (i, row) in part.y.chunks_exact(d).enumerate() {
            let at = (part.first + i) * width + part.head * d;
            all.y[at..at + d].copy_from_slice(row);
        }
        let rows = part.scores.chunks_exact(part.seen).zip(part.weights.chunks_exact(part.seen));
        for (i, (scores, weights)) in rows.enumerate() {
            let at = (part.head * sizes.queries + part.first + i) * total;
            all.scores[at..at + part.seen].copy_from_slice(scores);
            all.weights[at..at + part.seen].copy_from_slice(weights);
        }
    }
    all
}
