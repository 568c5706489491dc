//! Causal attention of many heads over everything read so far.

use rayon::prelude::*;

use crate::cache::LayerCache;
use crate::matmul::{Rows, product};
use crate::ops;

/// Queries that one task answers: enough to use the matrix product, few enough to share out.
const TASK_QUERIES: usize = 96;

/// The sizes of one attention.
pub(crate) struct Sizes {
    /// New positions `T`.
    pub queries: usize,
    /// Positions read before them.
    pub past: usize,
    /// `H`.
    pub heads: usize,
    /// `D`.
    pub head_width: usize,
    /// Positions the cache has room for.
    pub capacity: usize,
}

/// What attention computes; the inner steps only if they were asked for.
pub(crate) struct Attended {
    /// `[T, C]`
    pub y: Vec<f32>,
    /// `[H, T, S]`: scaled products, `-inf` where a query may not look.
    pub scores: Vec<f32>,
    /// `[H, T, S]`: their softmax.
    pub weights: Vec<f32>,
}

/// Scaled dot-product attention (Vaswani et al., 2017) with a causal mask. With `S = past + T`:
///
/// ```text
/// scores[t, s]  = q[t] · k[s] / sqrt(D)      for s <= past + t
/// weights[t, :] = softmax(scores[t, :])
/// y[t]          = Σ_s weights[t, s] · v[s]
/// ```
///
/// `q` holds rows `stride` apart, heads side by side; keys and values of all `S` positions are in
/// the cache.
pub(crate) fn attend(
    q: &[f32],
    stride: usize,
    cache: &LayerCache,
    sizes: &Sizes,
    keep_steps: bool,
) -> Attended {
    let tasks: Vec<(usize, usize)> = (0..sizes.heads)
        .flat_map(|head| (0..sizes.queries).step_by(TASK_QUERIES).map(move |first| (head, first)))
        .collect();
    let parts: Vec<Part> = tasks
        .into_par_iter()
        .map(|(head, first)| attend_part(q, stride, cache, sizes, head, first, keep_steps))
        .collect();
    assemble(parts, sizes, keep_steps)
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
    let width = sizes.heads * d;
    let queries = TASK_QUERIES.min(sizes.queries - first);
    let seen = sizes.past + first + queries;

    let q = Rows::strided(&q[first * stride + head * d..], queries, d, stride);
    let k = Rows::strided(&cache.keys[head * d..], seen, d, width);
    let mut weights = product(q, k); // [queries, seen]
    let scale = 1.0 / (d as f32).sqrt();
    let mut scores = Vec::new();
    for (i, row) in weights.chunks_exact_mut(seen).enumerate() {
        let (visible, future) = row.split_at_mut(sizes.past + first + i + 1);
        visible.iter_mut().for_each(|score| *score *= scale);
        if keep_steps {
            scores.extend_from_slice(visible);
            scores.extend(future.iter().map(|_| f32::NEG_INFINITY));
        }
        ops::softmax(visible);
        future.fill(0.0);
    }

    let v = Rows::strided(&cache.values[head * d * sizes.capacity..], d, seen, sizes.capacity);
    let y = product(Rows::new(&weights, seen), v); // [queries, D]
    let weights = if keep_steps { weights } else { Vec::new() };
    Part { head, first, seen, y, scores, weights }
}

/// Puts the parts where they belong: heads side by side in `y`, one after the other in the steps.
fn assemble(parts: Vec<Part>, sizes: &Sizes, keep_steps: bool) -> Attended {
    let (d, total) = (sizes.head_width, sizes.past + sizes.queries);
    let width = sizes.heads * d;
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
