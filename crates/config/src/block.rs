//! What one decoder block of a family computes, as data.
//!
//! `crates/model` and `crates/reference` compute by this description; names of tensors, keys of a
//! GGUF, `config.json` and the memory of a bundle follow from it. What differs between two models
//! of one family is in [`crate::ModelConfig`] and [`crate::Attention`].

use crate::{Architecture, HasExperts, RopePairs};

/// A decoder block, and what stands before the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockDesign {
    /// How the model knows where a token stands.
    pub positions: Positions,
    /// The normalisation, everywhere in the model.
    pub norm: NormKind,
    /// What a normalisation's weight counts from in Hugging Face's files.
    pub norm_weight: NormWeight,
    /// Where the normalisations of a block stand.
    pub norm_placement: NormPlacement,
    /// Normalisation of queries and keys, before they are rotated.
    pub qk_norm: QkNorm,
    /// How many matrices make query, key and value.
    pub projections: Projections,
    /// Whether the family's models have biases on query, key and value, and its readers count on
    /// them.
    pub qkv_bias: bool,
    /// Whether heads may have another width than `C / H`.
    pub own_head_width: bool,
    /// The feed-forward layer.
    pub feed_forward: FeedForward,
    /// Whether the feed-forward layer has experts.
    pub experts: HasExperts,
    /// What the token embedding is multiplied by.
    pub embedding_scale: EmbeddingScale,
    /// Every how many layers one has no rotation: layers `n - 1`, `2n - 1` and so on.
    pub unrotated_every: Option<usize>,
}

/// How the model knows where a token stands.
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

/// What a normalisation's weight counts from in Hugging Face's files, and in Burn. A GGUF always
/// holds the factor itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormWeight {
    /// `w` is the factor.
    Plain,
    /// `1 + w` is the factor.
    OnePlus,
}

impl NormWeight {
    /// What is added to Hugging Face's value to get the factor.
    pub fn offset(self) -> f32 {
        match self {
            NormWeight::Plain => 0.0,
            NormWeight::OnePlus => 1.0,
        }
    }
}

/// Where the normalisations of a block stand: each for attention, and again for feed-forward.
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
    /// Each head by itself, all with one weight of width `D`.
    Head,
    /// All heads of a position together, with a weight of their whole width.
    Width,
}

/// How many matrices make query, key and value, and gate and up where there is a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projections {
    /// One for all that share an input, whose rows are those of each, one after the other.
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

/// What the token embedding is multiplied by before the first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingScale {
    /// Nothing.
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

/// LLaMA's block, from which all later ones differ in little.
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
    /// What a block of this family computes.
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
