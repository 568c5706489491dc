//! Largest sizes of a model that are accepted, from any source: a run file, a `config.json` or a
//! GGUF.
//!
//! They are far larger than any model of these families, and small enough that their products do
//! not overflow 64 bits.

/// Rows of the token embedding. f32 represents integers exactly up to this number, which kernels
/// that compare token ids rely on.
pub const VOCAB_SIZE: usize = 1 << 24;
/// Tokens of context.
pub const CONTEXT_LENGTH: usize = 1 << 28;
/// Transformer blocks.
pub const N_LAYER: usize = 1 << 12;
/// Attention heads.
pub const N_HEAD: usize = 1 << 16;
/// Width of one attention head.
pub const HEAD_WIDTH: usize = 1 << 16;
/// Width of the residual stream.
pub const N_EMBD: usize = 1 << 20;
/// Experts of one layer: llama.cpp's `LLAMA_MAX_EXPERTS`.
pub const EXPERTS: usize = 512;
/// Experts of all layers together, each of which has its own tensors.
pub const ALL_EXPERTS: usize = 1 << 16;
/// Width of the feed-forward layer.
pub const N_INNER: usize = 1 << 24;

/// Most tokens whose probabilities are recorded of a teacher at one position.
pub const RECORDED_TOKENS: usize = 4096;
