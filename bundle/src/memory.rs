//! How much memory a model takes in llama.cpp: weights, KV cache, compute buffers.
//!
//! The sizes follow what llama.cpp reserves when it makes a context, in `llama-context.cpp`
//! (`graph_reserve` with the largest batch), `llama-kv-cache.cpp` and `models/*.cpp`:
//!
//! ```text
//! n_ctx    context, rounded up to 256
//! weights  the tensors as they are stored
//! cache    2 * n_layer * n_ctx * K * D * 2 bytes           keys and values in f16
//! compute  the largest of these, because ggml reuses buffers that are not read any more, in f32:
//!            head          batch * (V + C)
//!            attention     batch * (2C + H * D + 2 * K * D + H * n_ctx)   without flash attention
//!            feed-forward  batch * (2C + 2F), or of E experts, k to a token,
//!                          batch * (2C + E + k * (2F + C))
//!          + mask          batch * n_ctx * 4
//!          + work          batch * max(C, F, H * D) * 2    activations in the weights' format
//!          + output        V * 4                           logits handed to the caller
//! ```
//!
//! `batch` is `min(n_ctx, 512)`, llama.cpp's default `n_ubatch`. With flash attention the scores
//! are never all in memory, so this is an upper bound then.

use config::{Experts, ModelConfig};
use serde::{Deserialize, Serialize};

/// llama.cpp's default `n_ubatch`: tokens that go through the graph at once.
pub const BATCH: usize = 512;
/// llama.cpp rounds the context up to a multiple of this.
const CONTEXT_STEP: usize = 256;

/// Bytes of memory that a running model needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryNeed {
    /// Tokens of context that this is for.
    pub context: usize,
    /// The tensors, in bytes.
    pub weights: u64,
    /// Keys and values in f16, in bytes.
    pub kv_cache: u64,
    /// Activations of the largest batch, in bytes.
    pub compute: u64,
    /// All of it, in bytes.
    pub total: u64,
}

impl MemoryNeed {
    /// The memory of a model whose tensors have `weights` bytes, with `context` tokens.
    pub fn of(config: &ModelConfig, weights: u64, context: usize) -> Self {
        let kv_cache = kv_cache_bytes(config, context);
        let compute = compute_bytes(config, context);
        let total = weights.saturating_add(kv_cache).saturating_add(compute);
        MemoryNeed { context, weights, kv_cache, compute, total }
    }
}

/// Keys and values of `context` tokens in f16.
pub fn kv_cache_bytes(config: &ModelConfig, context: usize) -> u64 {
    product(&[2, config.n_layer, padded(context), config.kv_width(), 2])
}

/// Activations of one batch that are in memory at the same time.
pub fn compute_bytes(config: &ModelConfig, context: usize) -> u64 {
    let n_ctx = padded(context);
    let batch = n_ctx.min(BATCH);
    let ModelConfig { n_embd: c, n_inner: f, n_head: h, vocab_size: v, .. } = *config;
    let floats = |widths: &[u64]| {
        let width = widths.iter().fold(0_u64, |sum, &width| sum.saturating_add(width));
        width.saturating_mul(batch as u64 * 4)
    };
    let (c_wide, f_wide) = (c as u64, f as u64);
    let head = floats(&[v as u64, c_wide]);
    let (q, kv) = (config.q_width() as u64, product(&[2, config.kv_width()]));
    let attention = floats(&[c_wide, c_wide, q, kv, product(&[h, n_ctx])]);
    let feed_forward = match config.experts {
        None => floats(&[c_wide, c_wide, f_wide, f_wide]),
        Some(Experts { count, used }) => {
            let (f_wide, c_out) = (product(&[used, f]), product(&[used, c]));
            floats(&[c_wide, c_wide, count as u64, f_wide, f_wide, c_out])
        }
    };
    // Layers with a window have a mask of their own. Their cache is as long as the others', since
    // llama.cpp's default is `swa_full`.
    let masks = 1 + usize::from(config.attention.window.is_some());
    let mask = product(&[masks, batch, n_ctx, 4]);
    let inner = config.experts.map_or(f, |experts| experts.used.saturating_mul(f));
    let work = product(&[batch, c.max(inner).max(config.q_width()), 2]);
    let output = product(&[v, 4]);
    [mask, work, output]
        .into_iter()
        .fold(head.max(attention).max(feed_forward), u64::saturating_add)
}

fn padded(context: usize) -> usize {
    context.max(1).checked_next_multiple_of(CONTEXT_STEP).unwrap_or(usize::MAX)
}

/// Saturates, because sizes may come from a hostile file and must not wrap around.
fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product: u64, &factor| product.saturating_mul(factor as u64))
}

/// Millions of bytes, with one decimal.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_of_gpt2_is_what_llama_cpp_prints() {
        // "KV buffer size = 36.00 MiB" for 1,024 cells and 12 layers in f16.
        assert_eq!(kv_cache_bytes(&ModelConfig::gpt2_124m(), 1024), 36 << 20);
        assert_eq!(
            kv_cache_bytes(&ModelConfig::gpt2_124m(), 1),
            kv_cache_bytes(&ModelConfig::gpt2_124m(), 256)
        );
    }

    #[test]
    fn shared_heads_make_the_cache_smaller() {
        // 22 layers, 4 of 32 heads of 64: "KV buffer size = 11.00 MiB" for 512 cells in f16.
        assert_eq!(kv_cache_bytes(&ModelConfig::tinyllama_1_1b(), 512), 11 << 20);
    }

    #[test]
    fn the_logits_dominate_a_small_model() {
        let compute = compute_bytes(&ModelConfig::gpt2_124m(), 1024);
        let logits = 512 * 50257 * 4;
        assert!(compute > logits && compute < logits + (10 << 20), "{compute}");
    }

    #[test]
    fn a_shorter_context_than_a_batch_needs_less() {
        let config = ModelConfig::gpt2_124m();
        assert!(compute_bytes(&config, 256) < compute_bytes(&config, 512));
    }

    #[test]
    fn absurd_sizes_stay_absurd() {
        let config = ModelConfig { n_embd: usize::MAX, ..ModelConfig::gpt2_124m() };
        assert_eq!(MemoryNeed::of(&config, 1, usize::MAX).total, u64::MAX);
    }
}
