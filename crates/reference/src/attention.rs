//! Causal attention with several heads over all positions read so far.

use config::BlockStage::{AttentionHeads, AttentionWeights};
use config::{LayerAttention, ModelConfig};
use rayon::prelude::*;

use crate::cache::{Cache, LayerCache};
use crate::matmul::{self, Rows, product};
use crate::ops;
use crate::trace::BlockTrace;

/// Queries per task: enough for an efficient matrix product, and few enough for parallel tasks.
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
    /// Positions that the cache can hold.
    pub capacity: usize,
    /// Positions that a query sees, up to and including its own; `None` if it sees all.
    pub window: Option<usize>,
    /// Factor on the products of queries and keys.
    pub scale: f32,
}

impl Sizes {
    /// The attention of `queries` new positions after those in the cache.
    pub fn new(config: &ModelConfig, queries: usize, cache: &Cache) -> Self {
        Sizes { past: cache.len, capacity: cache.capacity, ..Self::alone(config, queries) }
    }

    /// The attention of `queries` positions without earlier ones.
    pub fn alone(config: &ModelConfig, queries: usize) -> Self {
        Sizes {
            queries,
            past: 0,
            heads: config.n_head,
            kv_heads: config.n_kv_head,
            head_width: config.head_width(),
            capacity: queries,
            window: None,
            scale: config.attention_scale(),
        }
    }

    /// The same with the window of a layer.
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

    /// The position of the `i`th query.
    fn position(&self, i: usize) -> usize {
        self.past + i
    }

    /// The first position that the `i`th query sees.
    fn first_seen(&self, i: usize) -> usize {
        let after = self.position(i) + 1;
        self.window.map_or(0, |window| after.saturating_sub(window))
    }

    /// The head of keys and values that a head of queries uses: neighbouring heads share one.
    fn kv_head(&self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
    }
}

/// The result of attention; `weights` is empty unless requested.
struct Attended {
    /// `[T, H * D]`
    y: Vec<f32>,
    /// `[H, T, S]`: softmax of the scaled products, 0 where the position is masked.
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
/// `q` is `[T, H * D]`; keys and values of all `S` positions are in the cache. In most models `scale`
/// is `1 / sqrt(D)` and the window is unlimited. The result is `[T, H * D]`.
pub(crate) fn attend(
    q: &[f32],
    cache: &LayerCache,
    sizes: &Sizes,
    trace: &mut BlockTrace<'_, '_>,
) -> Vec<f32> {
    let keep_weights = trace.keeps_stages();
    let tasks: Vec<(usize, usize)> = (0..sizes.heads)
        .flat_map(|head| (0..sizes.queries).step_by(TASK_QUERIES).map(move |first| (head, first)))
        .collect();
    let parts: Vec<Part> = tasks
        .into_par_iter()
        .map(|(head, first)| attend_part(q, cache, sizes, head, first, keep_weights))
        .collect();
    let Attended { y, weights } = assemble(parts, sizes, keep_weights);
    let shape = [sizes.heads, sizes.queries, sizes.past + sizes.queries];
    trace.keep_shaped(AttentionWeights, shape, &weights);
    trace.keep(AttentionHeads, sizes.queries, &y);
    y
}

/// The result for consecutive queries of one head.
struct Part {
    head: usize,
    first: usize,
    /// The first position that was read.
    from: usize,
    /// Number of positions that were read, up to and including the last query's own.
    seen: usize,
    /// `[queries, D]`
    y: Vec<f32>,
    /// `[queries, seen]`, empty unless kept.
    weights: Vec<f32>,
}

fn attend_part(
    q: &[f32],
    cache: &LayerCache,
    sizes: &Sizes,
    head: usize,
    first: usize,
    keep_weights: bool,
) -> Part {
    let (d, kv_start) = (sizes.head_width, sizes.kv_head(head) * sizes.head_width);
    let queries = TASK_QUERIES.min(sizes.queries - first);
    // Starts at a whole block of sums, so that a sum has the same bits wherever the window begins.
    let from = sizes.first_seen(first) / matmul::BLOCK * matmul::BLOCK;
    let seen = sizes.position(first + queries) - from;

    let stride = sizes.width();
    let q = Rows::strided(&q[first * stride + head * d..], queries, d, stride);
    let keys = &cache.keys[from * sizes.kv_width() + kv_start..];
    let mut weights = product(q, Rows::strided(keys, seen, d, sizes.kv_width())); // [queries, seen]
    for (i, row) in (first..).zip(weights.chunks_exact_mut(seen)) {
        let visible = sizes.first_seen(i) - from..sizes.position(i) + 1 - from;
        row[visible.clone()].iter_mut().for_each(|score| *score *= sizes.scale);
        row[..visible.start].fill(0.0);
        row[visible.end..].fill(0.0);
        ops::softmax(&mut row[visible]);
    }

    let values = &cache.values[kv_start * sizes.capacity + from..];
    let values = Rows::strided(values, d, seen, sizes.capacity);
    let y = product(Rows::new(&weights, seen), values); // [queries, D]
    let weights = if keep_weights { weights } else { Vec::new() };
    Part { head, first, from, seen, y, weights }
}

/// Copies the parts into the result: heads are side by side in `y`, and one after the other in
/// `weights`.
fn assemble(parts: Vec<Part>, sizes: &Sizes, keep_weights: bool) -> Attended {
    let (d, total, width) = (sizes.head_width, sizes.past + sizes.queries, sizes.width());
    let kept = if keep_weights { sizes.heads * sizes.queries * total } else { 0 };
    let mut all = Attended { y: vec![0.0; sizes.queries * width], weights: vec![0.0; kept] };
    for part in parts {
        for (i, row) in part.y.chunks_exact(d).enumerate() {
            let at = (part.first + i) * width + part.head * d;
            all.y[at..at + d].copy_from_slice(row);
        }
        for (i, weights) in part.weights.chunks_exact(part.seen).enumerate() {
            let at = (part.head * sizes.queries + part.first + i) * total + part.from;
            all.weights[at..at + part.seen].copy_from_slice(weights);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Trace;

    /// Pseudo-random numbers between -1 and 1.
    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    /// One query after the other, in f64: `[T, H D]`.
    fn by_definition(q: &[f32], k: &[f32], v: &[f32], sizes: &Sizes) -> Vec<f64> {
        let (d, width, kv_width) = (sizes.head_width, sizes.width(), sizes.kv_width());
        let mut y = vec![0.0; sizes.queries * width];
        for (t, head) in (0..sizes.queries).flat_map(|t| (0..sizes.heads).map(move |h| (t, h))) {
            let at = |s: usize| s * kv_width + sizes.kv_head(head) * d;
            let window = sizes.window.unwrap_or(usize::MAX);
            let seen = (0..=sizes.past + t).filter(|s| sizes.past + t - s < window);
            let score = |s: usize| -> f64 {
                let pairs = q[t * width + head * d..][..d].iter().zip(&k[at(s)..][..d]);
                let dot: f64 = pairs.map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                (dot * f64::from(sizes.scale)).exp()
            };
            let total: f64 = seen.clone().map(score).sum();
            for s in seen {
                for (i, &v) in v[at(s)..][..d].iter().enumerate() {
                    y[t * width + head * d + i] += score(s) / total * f64::from(v);
                }
            }
        }
        y
    }

    /// Windows of one position and more, for one task of queries and for several; some begin so
    /// late that whole blocks of sums are skipped.
    #[test]
    fn windows_end_where_they_should() {
        for (past, queries, window) in [
            (0, 5, Some(1)),
            (0, 130, Some(7)),
            (3, 130, Some(100)),
            (0, 130, None),
            (2100, 2, Some(30)),
            (2000, 100, Some(1030)),
        ] {
            let capacity = past + queries + 3;
            let sizes = Sizes {
                queries,
                past,
                heads: 4,
                kv_heads: 2,
                head_width: 6,
                capacity,
                window,
                scale: 0.3,
            };
            let q = numbers(queries * sizes.width(), 1);
            let [k, v] = [2, 3].map(|seed| numbers((past + queries) * sizes.kv_width(), seed));
            let mut cache = LayerCache::new(sizes.kv_width(), capacity);
            cache.put_rows(0, capacity, sizes.kv_width(), &k, &v);
            let y = attend(&q, &cache, &sizes, &mut Trace::Off.block(0));
            for (y, expected) in y.iter().zip(by_definition(&q, &k, &v, &sizes)) {
                assert!((f64::from(*y) - expected).abs() < 1e-5, "{past} {queries} {window:?}");
            }
            // Each query alone gives the same bits as all at once.
            for (t, row) in y.chunks_exact(sizes.width()).enumerate() {
                let one = Sizes { queries: 1, past: past + t, ..sizes };
                let q = &q[t * sizes.width()..];
                assert_eq!(attend(q, &cache, &one, &mut Trace::Off.block(0)), row);
            }
        }
    }
}
