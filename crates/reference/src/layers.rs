//! The layers that models of every family consist of, with their weights.

use std::sync::OnceLock;

use config::ModelConfig;
use gguf::TensorSource;

use crate::ReferenceError;
use crate::matmul::{self, Rows};
use crate::ops;
use crate::weights::read;

/// `y = x Wᵀ + b`, or without `b`.
pub(crate) struct Linear {
    /// The name of the tensor of `weight`, `NAME.weight`.
    tensor: String,
    /// `[out, in]`
    weight: Vec<f32>,
    /// `[out]`
    bias: Option<Vec<f32>>,
    width: usize,
    /// Weights and bias that are used instead, if they were set.
    replaced: OnceLock<Box<Replaced>>,
}

/// Replacements for the weights of a matrix and its bias.
struct Replaced {
    /// `[out, in]`
    weight: Vec<f32>,
    /// `[out]`
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// The tensor `NAME.weight`, `[out, width]`, and `NAME.bias` if there is one.
    pub fn load(
        source: &dyn TensorSource,
        name: &str,
        width: usize,
        has_bias: bool,
    ) -> Result<Self, ReferenceError> {
        let tensor = format!("{name}.weight");
        let weight = read(source, &tensor)?;
        let bias = has_bias.then(|| read(source, &format!("{name}.bias"))).transpose()?;
        Ok(Linear { tensor, weight, bias, width, replaced: OnceLock::new() })
    }

    /// The name of the weight's tensor.
    pub fn tensor(&self) -> &str {
        &self.tensor
    }

    /// Columns of the weight, `in`.
    pub fn width(&self) -> usize {
        self.width
    }

    /// `[out, in]`
    pub fn weight(&self) -> &[f32] {
        &self.weight
    }

    /// Uses other weights and another bias from now on; returns false if they were replaced before.
    pub fn replace(&self, weight: Vec<f32>, bias: Option<Vec<f32>>) -> bool {
        assert_eq!(weight.len(), self.weight.len(), "weights of another shape");
        self.replaced.set(Box::new(Replaced { weight, bias })).is_ok()
    }

    /// `[T, in] -> [T, out]`
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let (weight, bias) = match self.replaced.get() {
            Some(replaced) => (&replaced.weight, &replaced.bias),
            None => (&self.weight, &self.bias),
        };
        let weight = Rows::new(weight, self.width);
        matmul::linear(Rows::new(x, self.width), weight, bias.as_deref())
    }
}

/// Matrices that share an input: one for each of `N` results, or one for all, which contains the
/// rows of each result one after the other.
pub(crate) struct Projection<const N: usize> {
    linears: Vec<Linear>,
    /// Rows of each result.
    widths: [usize; N],
}

impl<const N: usize> Projection<N> {
    /// Made of `linears`, which are `N` matrices or one; the results are `widths` wide.
    pub fn new(linears: Vec<Linear>, widths: [usize; N]) -> Self {
        Projection { linears, widths }
    }

    /// `[T, in] -> [T, width]` for each.
    pub fn forward(&self, x: &[f32]) -> [Vec<f32>; N] {
        let [joined] = self.linears.as_slice() else {
            return std::array::from_fn(|i| self.linears[i].forward(x));
        };
        let joined = joined.forward(x);
        let all = self.widths.iter().sum();
        let rows = joined.len() / all;
        let mut parts = self.widths.map(|width| Vec::with_capacity(rows * width));
        for mut row in joined.chunks_exact(all) {
            for (part, width) in parts.iter_mut().zip(self.widths) {
                let (own, rest) = row.split_at(width);
                part.extend_from_slice(own);
                row = rest;
            }
        }
        parts
    }

    /// The matrices.
    pub fn linears(&self) -> &[Linear] {
        &self.linears
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

/// The tensor of the token embedding, which is also the head in a tied model.
pub(crate) const TOKENS: &str = "token_embd.weight";

/// The tensor that converts the result of the last norm to logits.
pub(crate) fn head_tensor(config: &ModelConfig) -> &'static str {
    if config.tie_embeddings { TOKENS } else { "output.weight" }
}

/// Both ends of a model: tokens to vectors, and vectors to logits.
pub(crate) struct Embedding {
    /// `[V, C]`
    tokens: Vec<f32>,
    /// `None` if the head is the token embedding.
    head: Option<OutputHead>,
    width: usize,
}

impl Embedding {
    /// The token embedding and, in an untied model, the head.
    pub fn load(source: &dyn TensorSource, config: &ModelConfig) -> Result<Self, ReferenceError> {
        let tied = config.tie_embeddings;
        Ok(Embedding {
            tokens: read(source, TOKENS)?,
            head: (!tied).then(|| OutputHead::load(source, config)).transpose()?,
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
        match &self.head {
            Some(head) => head.forward(x),
            None => logits(x, &self.tokens, self.width),
        }
    }
}

/// Only the head: vectors to logits.
pub(crate) struct OutputHead {
    /// `[V, C]`
    weight: Vec<f32>,
    width: usize,
}

impl OutputHead {
    /// The tensor that [`head_tensor`] names.
    pub fn load(source: &dyn TensorSource, config: &ModelConfig) -> Result<Self, ReferenceError> {
        Ok(OutputHead { weight: read(source, head_tensor(config))?, width: config.n_embd })
    }

    /// `[V, C]`
    pub fn weight(&self) -> &[f32] {
        &self.weight
    }

    /// As [`OutputHead::weight`], but mutable.
    pub fn weight_mut(&mut self) -> &mut [f32] {
        &mut self.weight
    }

    /// `[T, C] -> [T, V]`
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        logits(x, &self.weight, self.width)
    }
}

fn logits(x: &[f32], head: &[f32], width: usize) -> Vec<f32> {
    matmul::linear(Rows::new(x, width), Rows::new(head, width), None)
}
