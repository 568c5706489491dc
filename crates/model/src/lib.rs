//! Language models as Burn modules.
//!
//! One file for each architecture ([`gpt2`]), reading top to bottom in the order data meets it.
//! [`Model`] is what training works with: it hides which architecture that is, so a new one is a
//! new file, a new variant here and nothing else. What all architectures share is in [`layers`]
//! (parameters with their shapes) and [`parameters`] (walking them by path).
//!
//! Letters in shapes: `B` batch, `T` time, `N = B * T`, `C` channels, `H` heads, `D = C / H`,
//! `V` vocabulary, `F` feed-forward.

pub mod gpt2;
pub mod layers;
pub mod parameters;
mod trace;

use std::convert::Infallible;

use burn::module::Module;
use burn::tensor::{Device, Gradients, Int, Tensor};
use config::{Architecture, Initialization, ModelConfig};
use kernels::{Pass, Precision};

use crate::gpt2::Gpt2;
use crate::layers::Loader;
use crate::parameters::{Parameter, ParameterGradients};
pub use crate::trace::{Stage, Trace};

/// A model of any architecture.
#[derive(Debug, Clone)]
pub enum Model {
    /// Learned positions, LayerNorm, tanh-GELU.
    Gpt2(Gpt2),
}

impl Model {
    /// A model with fresh weights: the same seed gives the same weights, on every device.
    pub fn init(
        config: &ModelConfig,
        initialization: Initialization,
        seed: u64,
        device: &Device,
    ) -> Self {
        let loaded = Self::load(config, device, |path, shape| {
            Ok::<_, Infallible>(match config.architecture {
                Architecture::Gpt2 => {
                    gpt2::initial_values(config, initialization, seed, path, shape)
                }
                _ => unimplemented!("module of this family"),
            })
        });
        match loaded {
            Ok(model) => model,
            Err(impossible) => match impossible {},
        }
    }

    /// A model with the weights that `read` gives for each path and shape, row-major and in
    /// Burn's orientation. Its parameters want gradients where `device` is an autodiff one.
    ///
    /// # Errors
    /// The first error of `read`.
    ///
    /// # Panics
    /// If `read` gives a wrong number of values.
    pub fn load<E>(
        config: &ModelConfig,
        device: &Device,
        mut read: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let mut loader = Loader::new(device, &mut read);
        match config.architecture {
            Architecture::Gpt2 => Gpt2::load(config, &mut loader).map(Model::Gpt2),
            _ => unimplemented!("module of this family"),
        }
    }

    /// What the shapes follow from.
    pub fn config(&self) -> &ModelConfig {
        match self {
            Model::Gpt2(model) => model.config(),
        }
    }

    /// Logits for the token after each position.
    ///
    /// # Shapes
    /// `tokens [B, T]`, `T` at most the model's context length -> `[B * T, V]`.
    pub fn forward(&self, tokens: Tensor<2, Int>, pass: Pass) -> Tensor<2> {
        match self {
            Model::Gpt2(model) => {
                model.head(model.hidden(tokens, pass, &mut Trace::Off), pass.precision)
            }
        }
    }

    /// Logits for the one token after each row; the head is spared all other positions.
    ///
    /// # Shapes
    /// `tokens [B, T]` -> `[B, V]`.
    pub fn next_logits(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        let [b, t] = tokens.dims();
        let last = Tensor::arange_step(t as i64 - 1..(b * t) as i64, t, &tokens.device());
        match self {
            Model::Gpt2(model) => {
                let hidden = model.hidden(tokens, Pass::default(), &mut Trace::Off);
                model.head(hidden.select(0, last), Precision::F32)
            }
        }
    }

    /// Mean cross-entropy of the targets in nats.
    ///
    /// # Shapes
    /// `tokens`, `targets [B, T]` -> `[1]`.
    pub fn loss(&self, tokens: Tensor<2, Int>, targets: Tensor<2, Int>, pass: Pass) -> Tensor<1> {
        match self {
            Model::Gpt2(model) => {
                let hidden = model.hidden(tokens, pass, &mut Trace::Off);
                model.head_loss(hidden, targets.flatten(0, 1), pass.precision)
            }
        }
    }

    /// Every intermediate result of a forward pass without dropout, by name.
    pub fn stages(&self, tokens: Tensor<2, Int>) -> Vec<Stage> {
        let mut trace = Trace::On(Vec::new());
        match self {
            Model::Gpt2(model) => {
                let hidden = model.hidden(tokens, Pass::default(), &mut trace);
                let logits = model.head(hidden, Precision::F32);
                trace.keep(|| "logits".to_owned(), &logits);
            }
        }
        trace.into_stages()
    }

    /// The same weights outside of any graph, for evaluation. Shares memory with this model:
    /// drop it before the next optimizer step, which otherwise has to copy.
    #[must_use]
    pub fn without_graph(&self) -> Self {
        match self {
            Model::Gpt2(model) => Model::Gpt2(model.valid()),
        }
    }

    /// Every parameter, in the order of the model's fields.
    pub fn parameters(&self) -> Vec<Parameter> {
        match self {
            Model::Gpt2(model) => parameters::collect(model),
        }
    }

    /// Takes the gradient of every parameter out of `gradients`, by path.
    pub fn take_gradients(&self, gradients: Gradients) -> ParameterGradients {
        match self {
            Model::Gpt2(model) => parameters::take_gradients(model, gradients),
        }
    }

    /// Replaces every parameter by what `update` makes of it: path, shape and flat values
    /// outside of any graph. Consumes the model, so that values nobody else holds can be changed
    /// in place.
    #[must_use]
    pub fn update(self, update: impl FnMut(&str, &[usize], Tensor<1>) -> Tensor<1>) -> Self {
        match self {
            Model::Gpt2(model) => Model::Gpt2(parameters::update(model, update)),
        }
    }
}
