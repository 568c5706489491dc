//! The families of models: their names, and the list of all.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{FeedForward, HasExperts, Positions};

/// A family of models. Only `crates/model`, `crates/reference` and the tables of
/// `crates/checkpoint` branch on it.
///
/// The names are llama.cpp's: a Mistral without sliding window is a `llama`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Learned positions, LayerNorm, tanh-GELU (Radford et al., 2019).
    Gpt2,
    /// GPT-2 with rotary positions instead of learned ones (Su et al., 2021): LayerNorm, tanh-GELU,
    /// attention and feed-forward one after the other. The rotation pairs channels from the two
    /// halves of a head.
    GptNeox,
    /// RMSNorm, SwiGLU, grouped-query attention, no biases (Touvron et al., 2023). The rotation
    /// pairs neighbouring channels.
    Llama,
    /// A LLaMA with biases on query, key and value (Yang et al., 2024). The rotation pairs channels
    /// from the two halves of a head.
    Qwen2,
    /// A LLaMA that normalises each head's queries and keys (Yang et al., 2025). The rotation pairs
    /// channels from the two halves of a head.
    Qwen3,
    /// A Qwen3 whose feed-forward layers have experts (Yang et al., 2025).
    Qwen3Moe,
    /// A LLaMA in which every fourth layer does not rotate (Hugging Face, 2025). The rotation pairs
    /// neighbouring channels.
    SmolLm3,
    /// A LLaMA whose norms come after attention and feed-forward, with one norm over all queries
    /// and one over all keys of a position (OLMo team, 2024). The rotation pairs channels from the
    /// two halves of a head.
    Olmo2,
    /// A LLaMA with norms before and after attention and feed-forward and on each head, GELU in its
    /// gate, a scaled embedding, and windows in most layers (Gemma team, 2025). The rotation pairs
    /// channels from the two halves of a head.
    Gemma3,
    /// A LLaMA with one matrix for query, key and value and one for gate and up (Abdin et al.,
    /// 2024); also Phi-4-mini. The rotation pairs channels from the two halves of a head, or of its
    /// first part.
    Phi3,
}

/// Which two channels of a head form a rotated pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RopePairs {
    /// Channels `2i` and `2i + 1`: `LLAMA_ROPE_TYPE_NORM` of llama.cpp.
    Adjacent,
    /// Channels `i` and `i + D / 2`: `LLAMA_ROPE_TYPE_NEOX` of llama.cpp, "rotate half" of
    /// transformers.
    Halves,
}

impl Architecture {
    /// Every family.
    pub const ALL: [Architecture; 10] = [
        Architecture::Gpt2,
        Architecture::GptNeox,
        Architecture::Llama,
        Architecture::Qwen2,
        Architecture::Qwen3,
        Architecture::Qwen3Moe,
        Architecture::SmolLm3,
        Architecture::Olmo2,
        Architecture::Gemma3,
        Architecture::Phi3,
    ];

    /// The name in `general.architecture` of a GGUF and in `model.architecture` of a run file.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Gpt2 => "gpt2",
            Architecture::GptNeox => "gptneox",
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
            Architecture::Qwen3Moe => "qwen3moe",
            Architecture::SmolLm3 => "smollm3",
            Architecture::Olmo2 => "olmo2",
            Architecture::Gemma3 => "gemma3",
            Architecture::Phi3 => "phi3",
        }
    }

    /// The inverse of [`Architecture::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// The families that can be trained here: those with models without experts.
    pub fn trained() -> impl Iterator<Item = Architecture> {
        Self::ALL.into_iter().filter(|family| family.block().experts != HasExperts::Always)
    }

    /// How positions rotate queries and keys; `None` if positions are learned.
    pub fn rope_pairs(self) -> Option<RopePairs> {
        match self.block().positions {
            Positions::Learned => None,
            Positions::Rotary(pairs) => Some(pairs),
        }
    }

    /// Whether norms are RMSNorm and the feed-forward layer has a gate, all without bias; otherwise
    /// LayerNorm and two matrices with biases.
    pub fn is_gated(self) -> bool {
        self.block().feed_forward != FeedForward::Gelu
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_family() {
        for architecture in Architecture::ALL {
            assert_eq!(Architecture::from_name(architecture.name()), Some(architecture));
        }
        assert_eq!(Architecture::from_name("mamba"), None);
    }
}
