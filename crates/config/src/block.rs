//! Describes the decoder block of each family as data.
//!
//! `crates/model` and `crates/reference` follow this description when they compute; names of
//! tensors, keys of a GGUF, `config.json` and the memory of a bundle are derived from it.
//! Differences between two models of one family are in [`crate::ModelConfig`] and
//! [`crate::Attention`].

use crate::{Architecture, HasExperts, RopePairs};

/// A decoder block, and what precedes the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockDesign {
    /// How positions are encoded.
    pub positions: Positions,
    /// The normalisation, everywhere in the model.
    pub norm: NormKind,
    /// The offset of a normalisation's weight in Hugging Face's files.
    pub norm_weight: NormWeight,
    /// The positions of the normalisations in a block.
    pub norm_placement: NormPlacement,
    /// Normalisation of queries and keys, before they are rotated.
    pub qk_norm: QkNorm,
    /// The number of matrices for query, key and value.
    pub projections: Projections,
    /// Whether the family's models have biases on query, key and value, and readers of their files
    /// expect them.
    pub qkv_bias: bool,
    /// Whether the width of a head may differ from `C / H`.
    pub own_head_width: bool,
    /// The feed-forward layer.
    pub feed_forward: FeedForward,
    /// Whether the feed-forward layer has experts.
    pub experts: HasExperts,
    /// The factor of the token embedding.
    pub embedding_scale: EmbeddingScale,
    /// Every `n`-th layer has no rotation: layers `n - 1`, `2n - 1` and so on.
    pub unrotated_every: Option<usize>,
}

/// How positions are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// A learned vector for each position is added to the token's.
    Learned,
    /// Queries and keys are rotated (Su et al., 2021).
    Rotary(RopePairs),
}

/// A normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// By mean and variance, with weight and bias (Ba et al., 2016).
    Layer,
    /// By the root of the mean square, with a weight (Zhang and Sennrich, 2019).
    Rms,
}

/// The offset of a normalisation's weight in Hugging Face's files, and in Burn. A GGUF always holds
/// the factor itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormWeight {
    /// `w` is the factor.
    Plain,
    /// `1 + w` is the factor.
    OnePlus,
}

impl NormWeight {
    /// The number that is added to Hugging Face's value to get the factor.
    pub fn offset(self) -> f32 {
        match self {
            NormWeight::Plain => 0.0,
            NormWeight::OnePlus => 1.0,
        }
    }
}

/// The positions of the normalisations in a block, for attention and feed-forward each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// `x + f(norm(x))`
    Before,
    /// `x + norm(f(x))`
    After,
    /// `x + norm(f(norm(x)))`
    Both,
}

impl NormPlacement {
    /// Whether there is one before attention and one before feed-forward.
    pub fn is_before(self) -> bool {
        self != NormPlacement::After
    }

    /// Whether there is one after attention and one after feed-forward.
    pub fn is_after(self) -> bool {
        self != NormPlacement::Before
    }
}

/// Normalisation of queries and keys, before they are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Not normalised.
    None,
    /// Each head separately, all with one weight of width `D`.
    Head,
    /// All heads of a position together, with a weight of their whole width.
    Width,
}

/// The number of matrices for query, key and value, and for gate and up if there is a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projections {
    /// One for all that share an input; it holds the rows of each, one after the other.
    Joined,
    /// One for each.
    Separate,
}

/// The feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForward {
    /// `down(gelu(up(x)))`, with biases; GELU in its tanh form.
    Gelu,
    /// `down(silu(gate(x)) * up(x))` (SwiGLU, Shazeer, 2020).
    SwiGlu,
    /// `down(gelu(gate(x)) * up(x))` (GeGLU, Shazeer, 2020); GELU in its tanh form.
    GeGlu,
}

/// The factor of the token embedding before the first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingScale {
    /// No factor.
    One,
    /// `sqrt(C)`.
    SqrtWidth,
}

/// GPT-2's block, from which GPT-NeoX's differs by its positions.
const GPT2: BlockDesign = BlockDesign {
    positions: Positions::Learned,
    norm: NormKind::Layer,
    norm_weight: NormWeight::Plain,
    norm_placement: NormPlacement::Before,
    qk_norm: QkNorm::None,
    projections: Projections::Joined,
    qkv_bias: true,
    own_head_width: false,
    feed_forward: FeedForward::Gelu,
    experts: HasExperts::Never,
    embedding_scale: EmbeddingScale::One,
    unrotated_every: None,
};

/// LLaMA's block, from which all later ones differ only slightly.
const LLAMA: BlockDesign = BlockDesign {
    positions: Positions::Rotary(RopePairs::Adjacent),
    norm: NormKind::Rms,
    projections: Projections::Separate,
    qkv_bias: false,
    own_head_width: true,
    feed_forward: FeedForward::SwiGlu,
    ..GPT2
};

const HALVES: Positions = Positions::Rotary(RopePairs::Halves);

impl Architecture {
    /// The block of this family.
    pub fn block(self) -> BlockDesign {
        match self {
            Architecture::Gpt2 => GPT2,
            Architecture::GptNeox => BlockDesign { positions: HALVES, ..GPT2 },
            Architecture::Llama => BlockDesign { experts: HasExperts::Sometimes, ..LLAMA },
            Architecture::Qwen2 => {
                BlockDesign { positions: HALVES, qkv_bias: true, own_head_width: false, ..LLAMA }
            }
            Architecture::Qwen3 => {
                BlockDesign { positions: HALVES, qk_norm: QkNorm::Head, ..LLAMA }
            }
            Architecture::SmolLm3 => BlockDesign { unrotated_every: Some(4), ..LLAMA },
            Architecture::Olmo2 => BlockDesign {
                positions: HALVES,
                norm_placement: NormPlacement::After,
                qk_norm: QkNorm::Width,
                own_head_width: false,
                ..LLAMA
            },
            Architecture::Gemma3 => BlockDesign {
                positions: HALVES,
                norm_weight: NormWeight::OnePlus,
                norm_placement: NormPlacement::Both,
                qk_norm: QkNorm::Head,
                feed_forward: FeedForward::GeGlu,
                embedding_scale: EmbeddingScale::SqrtWidth,
                ..LLAMA
            },
            Architecture::Phi3 => BlockDesign {
                positions: HALVES,
                projections: Projections::Joined,
                own_head_width: false,
                ..LLAMA
            },
            Architecture::Qwen3Moe => {
                BlockDesign { experts: HasExperts::Always, ..Architecture::Qwen3.block() }
            }
        }
    }
}
