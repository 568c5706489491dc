//! Largest sizes of a model that are believed, whoever states them: a run file, a `config.json`
//! or a GGUF.
//!
//! They are far beyond any model of these families, and small enough that no product of them
//! overflows 64 bits.

/// Rows of the token embedding. Also how far f32 counts exactly, which kernels that compare token
/// numbers rely on.
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
/// Experts of all layers together, each with tensors of its own.
pub const ALL_EXPERTS: usize = 1 << 16;
/// Width of the feed-forward layer.
pub const N_INNER: usize = 1 << 24;
