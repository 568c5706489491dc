//! The shape of a model, as every stage sees it.

use serde::{Deserialize, Serialize};

/// A family of models. Only `crates/model`, `crates/reference` and the name and
/// metadata tables of `crates/checkpoint` branch on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Learned positions, LayerNorm, tanh-GELU (Radford et al., 2019).
    Gpt2,
}

impl Architecture {
    /// The name in `general.architecture` of a GGUF and in `model_type` of Hugging Face.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Gpt2 => "gpt2",
        }
    }

    /// The inverse of [`Architecture::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        (name == "gpt2").then_some(Architecture::Gpt2)
    }
}

/// Everything that fixes the number and shapes of a model's parameters.
///
/// Letters used for shapes throughout: `B` batch, `T` time, `C` = `n_embd`, `H` = `n_head`,
/// `D` = `C / H`, `V` = `vocab_size`, `F` = `n_inner`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Family of the model.
    pub architecture: Architecture,
    /// Rows of the embedding `V`: exactly the tokenizer's vocabulary.
    pub vocab_size: usize,
    /// Most tokens that one forward pass can see.
    pub context_length: usize,
    /// Transformer blocks.
    pub n_layer: usize,
    /// Attention heads `H`.
    pub n_head: usize,
    /// Width of the residual stream `C`.
    pub n_embd: usize,
    /// Width of the feed-forward layer `F`.
    pub n_inner: usize,
    /// Added to the variance inside LayerNorm.
    pub norm_epsilon: f32,
    /// Whether the query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// Whether the output head shares the token embedding's matrix.
    pub tie_embeddings: bool,
    /// Dropout probability while training.
    pub dropout: f32,
}

impl ModelConfig {
    /// The smallest GPT-2 as OpenAI published it, without dropout: the size that everybody knows.
    pub fn gpt2_124m() -> Self {
        ModelConfig {
            architecture: Architecture::Gpt2,
            vocab_size: 50257,
            context_length: 1024,
            n_layer: 12,
            n_head: 12,
            n_embd: 768,
            n_inner: 3072,
            norm_epsilon: 1e-5,
            qkv_bias: true,
            tie_embeddings: true,
            dropout: 0.0,
        }
    }

    /// Width of one attention head, `D = C / H`.
    pub fn head_width(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// Trainable parameters; a tied head counts once.
    pub fn parameter_count(&self) -> usize {
        let (c, f, v) = (self.n_embd, self.n_inner, self.vocab_size);
        let norm = 2 * c;
        let attention = 3 * c * c + if self.qkv_bias { 3 * c } else { 0 } + c * c + c;
        let feed_forward = c * f + f + f * c + c;
        let head = if self.tie_embeddings { 0 } else { v * c };
        let embeddings = v * c + self.context_length * c;
        embeddings + self.n_layer * (2 * norm + attention + feed_forward) + norm + head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_parameters_of_gpt2_124m() {
        // 124,439,808 is what transformers reports for openai-community/gpt2.
        assert_eq!(ModelConfig::gpt2_124m().parameter_count(), 124_439_808);
    }

    #[test]
    fn counts_the_parameters_of_the_untied_variant() {
        // 163,009,536 parameters without QKV bias and with an untied head (Raschka, 2024, ch. 4).
        let config =
            ModelConfig { qkv_bias: false, tie_embeddings: false, ..ModelConfig::gpt2_124m() };
        assert_eq!(config.parameter_count(), 163_009_536);
    }
}
