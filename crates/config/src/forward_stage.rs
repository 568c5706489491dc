//! The names of the intermediate results of a forward pass, the same for every family and for each
//! implementation, so that two traces can be compared line by line.
//!
//! A result that a tensor computes has the name that this tensor has in a GGUF: `blk.0.ffn_up` is
//! the product with `blk.0.ffn_up.weight`. So the first stage that differs says which tensor to
//! look at.

use std::fmt;

/// An intermediate result of a forward pass, in the order of computation. `[T, C]` except where
/// another shape is given; the letters of shapes are those of `crates/model` and
/// `crates/reference`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForwardStage {
    /// The vectors of the tokens, scaled as the family requires.
    TokenEmbedding,
    /// The vectors of the positions, if positions are learned.
    PositionEmbedding,
    /// The sum of both, if positions are learned.
    Embedding,
    /// A result in the decoder block of this number.
    Block(usize, BlockStage),
    /// After the norm behind the last block.
    OutputNorm,
    /// `[T, V]`
    Logits,
}

/// An intermediate result in a decoder block, in the order of computation. A block has those that
/// its family computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockStage {
    /// After the norm before attention.
    AttentionNorm,
    /// Queries, `[T, H * D]`, of a joined projection the queries' part of its result.
    Q,
    /// Keys, `[T, K * D]`.
    K,
    /// Values, `[T, K * D]`.
    V,
    /// Queries after their own norm.
    QNorm,
    /// Keys after their own norm.
    KNorm,
    /// Queries after their rotation.
    QRope,
    /// Keys after their rotation.
    KRope,
    /// The softmax of the scores, `[H, T, T]`: the weight of each position (column) for each query
    /// (row).
    AttentionWeights,
    /// The weighted sums of values, heads side by side, `[T, H * D]`.
    AttentionHeads,
    /// After the matrix that returns to `C`.
    AttentionOutput,
    /// After the norm behind attention.
    AttentionPostNorm,
    /// The residual stream plus attention.
    AttentionResidual,
    /// After the norm before the feed-forward layer.
    FeedForwardNorm,
    /// The router's logits for each expert, `[T, E]`.
    Router,
    /// The gate before its activation, `[T, F]`.
    Gate,
    /// `[T, F]`; of GPT-2, before its activation.
    Up,
    /// The activated gate times [`BlockStage::Up`], or GELU of it: the input of `ffn_down`,
    /// `[T, F]`.
    Activated,
    /// The result of the feed-forward layer; with experts, their weighted sum.
    Down,
    /// After the norm behind the feed-forward layer.
    FeedForwardPostNorm,
    /// The residual stream after the block.
    Output,
}

impl BlockStage {
    /// The name without the block's number.
    pub fn name(self) -> &'static str {
        match self {
            BlockStage::AttentionNorm => "attn_norm",
            BlockStage::Q => "attn_q",
            BlockStage::K => "attn_k",
            BlockStage::V => "attn_v",
            BlockStage::QNorm => "attn_q_norm",
            BlockStage::KNorm => "attn_k_norm",
            BlockStage::QRope => "attn_q_rope",
            BlockStage::KRope => "attn_k_rope",
            BlockStage::AttentionWeights => "attn_weights",
            BlockStage::AttentionHeads => "attn_heads",
            BlockStage::AttentionOutput => "attn_output",
            BlockStage::AttentionPostNorm => "post_attention_norm",
            BlockStage::AttentionResidual => "attn_residual",
            BlockStage::FeedForwardNorm => "ffn_norm",
            BlockStage::Router => "ffn_gate_inp",
            BlockStage::Gate => "ffn_gate",
            BlockStage::Up => "ffn_up",
            BlockStage::Activated => "ffn_activated",
            BlockStage::Down => "ffn_down",
            BlockStage::FeedForwardPostNorm => "post_ffw_norm",
            BlockStage::Output => "output",
        }
    }
}

/// `token_embd`, `blk.3.attn_q`, `output_norm`, `logits` and so on.
impl fmt::Display for ForwardStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForwardStage::TokenEmbedding => f.write_str("token_embd"),
            ForwardStage::PositionEmbedding => f.write_str("position_embd"),
            ForwardStage::Embedding => f.write_str("embedding"),
            ForwardStage::Block(layer, stage) => write!(f, "blk.{layer}.{}", stage.name()),
            ForwardStage::OutputNorm => f.write_str("output_norm"),
            ForwardStage::Logits => f.write_str("logits"),
        }
    }
}

/// What a pass computed for one stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StageValues {
    /// The stage.
    pub stage: ForwardStage,
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}
