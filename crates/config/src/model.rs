//! The shape of a model, shared by all stages.

use serde::{Deserialize, Serialize};

use crate::{Architecture, Attention, Experts, NormKind, Positions, QkNorm, Window};

/// Everything that determines the number and shapes of a model's parameters.
///
/// Letters used for shapes throughout: `B` batch, `T` time, `C` = `n_embd`, `H` = `n_head`, `K` =
/// `n_kv_head`, `D` the width of a head (`C / H` in most), `V` = `vocab_size`, `F` = `n_inner`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Family of the model.
    pub architecture: Architecture,
    /// Rows of the embedding `V`: exactly the tokenizer's vocabulary.
    pub vocab_size: usize,
    /// Most tokens that one forward pass can read.
    pub context_length: usize,
    /// Transformer blocks.
    pub n_layer: usize,
    /// Attention heads `H`.
    pub n_head: usize,
    /// Heads of keys and values `K`, each shared by `H / K` heads of queries (Ainslie et al.,
    /// 2023); `H` if every head has its own.
    pub n_kv_head: usize,
    /// Width of the residual stream `C`.
    pub n_embd: usize,
    /// Width of the feed-forward layer `F`; of one expert, if there are experts.
    pub n_inner: usize,
    /// Added to the variance or mean square inside the normalisation layers.
    pub norm_epsilon: f32,
    /// Base of the wavelengths of rotary positions; unused if positions are learned.
    pub rope_base: f32,
    /// Whether the query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// Whether the output head shares the token embedding's matrix.
    pub tie_embeddings: bool,
    /// Dropout probability while training.
    pub dropout: f32,
    /// The settings in which attention differs from the default.
    #[serde(default)]
    pub attention: Attention,
    /// The experts of the feed-forward layers, if they have any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<Experts>,
}

/// Base of the wavelengths that rotary positions were published with (Su et al., 2021).
pub const ROPE_BASE: f32 = 10_000.0;

impl ModelConfig {
    /// The smallest GPT-2 as OpenAI published it, without dropout: a widely known size.
    pub fn gpt2_124m() -> Self {
        ModelConfig {
            architecture: Architecture::Gpt2,
            vocab_size: 50257,
            context_length: 1024,
            n_layer: 12,
            n_head: 12,
            n_kv_head: 12,
            n_embd: 768,
            n_inner: 3072,
            norm_epsilon: 1e-5,
            rope_base: ROPE_BASE,
            qkv_bias: true,
            tie_embeddings: true,
            dropout: 0.0,
            attention: Attention::default(),
            experts: None,
        }
    }

    /// TinyLlama 1.1B as published (Zhang et al., 2024).
    pub fn tinyllama_1_1b() -> Self {
        ModelConfig {
            architecture: Architecture::Llama,
            vocab_size: 32000,
            context_length: 2048,
            n_layer: 22,
            n_head: 32,
            n_kv_head: 4,
            n_embd: 2048,
            n_inner: 5632,
            norm_epsilon: 1e-5,
            rope_base: ROPE_BASE,
            qkv_bias: false,
            tie_embeddings: false,
            dropout: 0.0,
            attention: Attention::default(),
            experts: None,
        }
    }

    /// The same model without attention settings that equal the default, so that equal models
    /// compare as equal.
    #[must_use]
    pub fn with_plain_attention_left_out(mut self) -> Self {
        let even = self.n_embd.checked_div(self.n_head);
        self.attention.head_width = self.attention.head_width.filter(|&width| Some(width) != even);
        let (width, scale) = (self.head_width(), 1.0 / (self.head_width() as f32).sqrt());
        self.attention.rotated_width = self.attention.rotated_width.filter(|&own| own != width);
        self.attention.scale = self.attention.scale.filter(|&own| own != scale);
        if let Some(window) = &mut self.attention.window {
            window.global_every = Window::global_every_in(window.global_every, self.n_layer);
        }
        self.attention.window = self.attention.window.filter(|window| window.global_every != 1);
        self
    }

    /// Trainable parameters; a tied head counts once.
    pub fn parameter_count(&self) -> usize {
        let (c, f, v) = (self.n_embd, self.n_inner, self.vocab_size);
        let (q, kv) = (self.q_width(), self.kv_width());
        let (design, gated) = (self.architecture.block(), self.architecture.is_gated());
        let norm = if design.norm == NormKind::Rms { c } else { 2 * c };
        let norms = [design.norm_placement.is_before(), design.norm_placement.is_after()];
        let norms = norms.into_iter().filter(|&there| there).count() * 2 * norm;
        let qk_norm = match design.qk_norm {
            QkNorm::None => 0,
            QkNorm::Head => 2 * self.head_width(),
            QkNorm::Width => q + kv,
        };
        let qkv = (q + 2 * kv) * (c + usize::from(self.qkv_bias));
        let output = q * c + if gated { 0 } else { c };
        let mlp = if gated { 3 * c * f } else { 2 * c * f + f + c };
        let feed_forward = match self.experts {
            Some(experts) => experts.count * (mlp + c),
            None => mlp,
        };
        let positions =
            if design.positions == Positions::Learned { self.context_length * c } else { 0 };
        let head = if self.tie_embeddings { 0 } else { v * c };
        let block = norms + qk_norm + qkv + output + feed_forward;
        v * c + positions + self.n_layer * block + norm + head
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

    #[test]
    fn counts_the_parameters_of_tinyllama() {
        // 1,100,048,384 is what transformers reports for TinyLlama/TinyLlama-1.1B-Chat-v1.0.
        assert_eq!(ModelConfig::tinyllama_1_1b().parameter_count(), 1_100_048_384);
    }

    #[test]
    fn counts_the_parameters_of_qwen2_0_5b() {
        // 494,032,768 is what transformers reports for Qwen/Qwen2-0.5B.
        let config = ModelConfig {
            architecture: Architecture::Qwen2,
            vocab_size: 151_936,
            context_length: 32_768,
            n_layer: 24,
            n_head: 14,
            n_kv_head: 2,
            n_embd: 896,
            n_inner: 4864,
            norm_epsilon: 1e-6,
            rope_base: 1e6,
            qkv_bias: true,
            tie_embeddings: true,
            dropout: 0.0,
            attention: Attention::default(),
            experts: None,
        };
        assert_eq!(config.parameter_count(), 494_032_768);
    }

    /// What transformers reports for google/gemma-3-1b-it, allenai/OLMo-2-0425-1B and
    /// microsoft/Phi-4-mini-instruct.
    #[test]
    fn counts_the_parameters_of_gemma3_olmo2_and_phi4() {
        let base = ModelConfig { qkv_bias: false, ..ModelConfig::tinyllama_1_1b() };
        let gemma3 = ModelConfig {
            architecture: Architecture::Gemma3,
            vocab_size: 262_144,
            n_layer: 26,
            n_head: 4,
            n_kv_head: 1,
            n_embd: 1152,
            n_inner: 6912,
            tie_embeddings: true,
            attention: Attention { head_width: Some(256), ..Attention::PLAIN },
            ..base.clone()
        };
        assert_eq!(gemma3.parameter_count(), 999_885_952);
        let olmo2 = ModelConfig {
            architecture: Architecture::Olmo2,
            vocab_size: 100_352,
            n_layer: 16,
            n_head: 16,
            n_kv_head: 16,
            n_embd: 2048,
            n_inner: 8192,
            ..base.clone()
        };
        assert_eq!(olmo2.parameter_count(), 1_484_916_736);
        let phi4 = ModelConfig {
            architecture: Architecture::Phi3,
            vocab_size: 200_064,
            n_layer: 32,
            n_head: 24,
            n_kv_head: 8,
            n_embd: 3072,
            n_inner: 8192,
            tie_embeddings: true,
            ..base
        };
        assert_eq!(phi4.parameter_count(), 3_836_021_760);
    }

    #[test]
    fn counts_the_parameters_of_models_with_experts() {
        // 46,702,792,704 and 30,532,122,624 are what transformers reports for
        // mistralai/Mixtral-8x7B-v0.1 and Qwen/Qwen3-30B-A3B.
        let mixtral = ModelConfig {
            n_layer: 32,
            n_kv_head: 8,
            n_embd: 4096,
            n_inner: 14336,
            experts: Some(Experts { count: 8, used: 2 }),
            ..ModelConfig::tinyllama_1_1b()
        };
        assert_eq!(mixtral.parameter_count(), 46_702_792_704);
        let qwen3 = ModelConfig {
            architecture: Architecture::Qwen3Moe,
            vocab_size: 151_936,
            n_layer: 48,
            n_inner: 768,
            attention: Attention { head_width: Some(128), ..Attention::PLAIN },
            experts: Some(Experts { count: 128, used: 8 }),
            ..ModelConfig::tinyllama_1_1b()
        };
        assert_eq!(qwen3.parameter_count(), 30_532_122_624);
    }
}
