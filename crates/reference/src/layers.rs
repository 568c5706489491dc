//! The parts that models of every family are made of, with their weights.

use config::ModelConfig;
use gguf::TensorSource;

use crate::ReferenceError;
use crate::matmul::{self, Rows};
use crate::ops;
use crate::weights::read;

/// `y = x Wᵀ + b`, or without `b`.
pub(crate) struct Linear {
    /// `[out, in]`
    weight: Vec<f32>,
    /// `[out]`
    bias: Option<Vec<f32>>,
    width: usize,
}

impl Linear {
    /// The tensor `NAME.weight`, `[out, width]`, and `NAME.bias` if there is one.
    pub fn load(
        source: &dyn TensorSource,
        name: &str,
        width: usize,
        has_bias: bool,
    ) -> Result<Self, ReferenceError> {
        let weight = read(source, &format!("{name}.weight"))?;
        let bias = has_bias.then(|| read(source, &format!("{name}.bias"))).transpose()?;
        Ok(Linear { weight, bias, width })
    }

    /// `[T, in] -> [T, out]`
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let weight = Rows::new(&self.weight, self.width);
        matmul::linear(Rows::new(x, self.width), weight, self.bias.as_deref())
    }
}

/// [`ops::layer_norm`] with its weights.
pub(crate) struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl LayerNorm {
    /// The tensors `NAME.weight` and `NAME.bias`.
    pub fn load(
        source: &dyn TensorSource,
        name: &str,
        epsilon: f32,
    ) -> Result<Self, ReferenceError> {
        Ok(LayerNorm {
            weight: read(source, &format!("{name}.weight"))?,
            bias: read(source, &format!("{name}.bias"))?,
            epsilon,
        })
    }

    /// `[T, C] -> [T, C]`
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        ops::layer_norm(x, &self.weight, &self.bias, self.epsilon)
    }
}

/// [`ops::rms_norm`] with its weight.
pub(crate) struct RmsNorm {
    weight: Vec<f32>,
    epsilon: f32,
}

impl RmsNorm {
    /// The tensor `NAME.weight`.
    pub fn load(
        source: &dyn TensorSource,
        name: &str,
        epsilon: f32,
    ) -> Result<Self, ReferenceError> {
        Ok(RmsNorm { weight: read(source, &format!("{name}.weight"))?, epsilon })
    }

    /// `[T, C] -> [T, C]`
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        ops::rms_norm(x, &self.weight, self.epsilon)
    }
}

/// Both ends of a model: tokens to vectors, and vectors to logits.
pub(crate) struct Embedding {
    /// `[V, C]`
    tokens: Vec<f32>,
    /// `[V, C]`; none where the head shares the token embedding.
    head: Option<Vec<f32>>,
    width: usize,
}

impl Embedding {
    /// The tensors `token_embd.weight` and, in an untied model, `output.weight`.
    pub fn load(source: &dyn TensorSource, config: &ModelConfig) -> Result<Self, ReferenceError> {
        let tied = config.tie_embeddings;
        Ok(Embedding {
            tokens: read(source, "token_embd.weight")?,
            head: (!tied).then(|| read(source, "output.weight")).transpose()?,
            width: config.n_embd,
        })
    }

    /// `[T] -> [T, C]`
    pub fn look_up(&self, tokens: &[u32]) -> Vec<f32> {
        let mut x = Vec::with_capacity(tokens.len() * self.width);
        for &token in tokens {
            let row = token as usize * self.width;
            x.extend_from_slice(&self.tokens[row..row + self.width]);
        }
        x
    }

    /// `[T, C] -> [T, V]`
    pub fn logits(&self, x: &[f32]) -> Vec<f32> {
        let head = Rows::new(self.head.as_ref().unwrap_or(&self.tokens), self.width);
        matmul::linear(Rows::new(x, self.width), head, None)
    }
}
