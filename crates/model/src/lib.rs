//! Language models as Burn modules.
//!
//! Two files, each written in the order of computation: [`gpt2`] for GPT-2 and GPT-NeoX, [`llama`]
//! for LLaMA and the families derived from it. Training uses [`Model`], which is one of the two.
//! Shared by both are [`layers`] (parameters with their shapes), [`parameters`] (access to them by
//! path), `initial` (their initial values) and [`lora`] (adapters on them).
//!
//! Letters in shapes: `B` batch, `T` time, `N = B * T`, `C` channels, `H` heads, `K` heads of keys
//! and values, `D` head width, `V` vocabulary, `F` feed-forward.

mod batch;
mod family;
pub mod gpt2;
mod initial;
pub mod layers;
pub mod llama;
pub mod lora;
pub mod parameters;
pub mod preference;
mod trace;

use std::convert::Infallible;

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Gradients, Int, Tensor};
use config::{ForwardStage, Initialization, ModelConfig, StageValues};
use kernels::{
    Distillation, DistilledLoss, Documents, OutputHead, Pass, Precision, Predictions,
    distilled_head_loss,
};

pub use crate::batch::Batch;
use crate::family::Family;
use crate::gpt2::Gpt2;
use crate::layers::Loader;
use crate::llama::Llama;
use crate::parameters::{Parameter, ParameterGradients};
use crate::trace::Trace;

/// Whose predictions a model learns.
#[derive(Debug, Clone)]
pub enum Teacher<'a> {
    /// Those of another model.
    Model(&'a Model),
    /// Recorded ones of the positions of a batch that train.
    Recorded(Box<Predictions>),
}

/// A model of any architecture.
#[derive(Module, Debug)]
pub enum Model {
    /// GPT-2 and GPT-NeoX.
    Gpt2(Gpt2),
    /// LLaMA and the families derived from it.
    Llama(Llama),
}

impl Model {
    /// A model with new weights: the same seed gives the same weights on every device.
    pub fn init(
        config: &ModelConfig,
        initialization: Initialization,
        seed: u64,
        device: &Device,
    ) -> Self {
        let loaded = Self::load(config, device, |path, shape| {
            Ok::<_, Infallible>(initial::values(config, initialization, seed, path, shape))
        });
        match loaded {
            Ok(model) => model,
            Err(impossible) => match impossible {},
        }
    }

    /// A model with the weights that `read` returns for each path and shape, row-major and in
    /// Burn's orientation. Its parameters require gradients if `device` is an autodiff device.
    ///
    /// # Errors
    /// The first error of `read`.
    ///
    /// # Panics
    /// If `read` returns a wrong number of values.
    pub fn load<E>(
        config: &ModelConfig,
        device: &Device,
        mut read: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let mut loader = Loader::new(device, &mut read);
        match config.architecture.is_gated() {
            false => Gpt2::load(config, &mut loader).map(Model::Gpt2),
            true => Llama::load(config, &mut loader).map(Model::Llama),
        }
    }

    /// The model without its head.
    fn family(&self) -> &dyn Family {
        match self {
            Model::Gpt2(model) => model,
            Model::Llama(model) => model,
        }
    }

    /// The settings that determine the shapes.
    pub fn config(&self) -> &ModelConfig {
        self.family().config()
    }

    /// Logits for the token after each position.
    ///
    /// # Shapes
    /// `tokens [B, T]`, `T` at most the model's context length -> `[B * T, V]`.
    pub fn forward(&self, tokens: Tensor<2, Int>, pass: Pass) -> Tensor<2> {
        self.head(self.hidden(tokens, None, pass), pass.precision)
    }

    /// Logits for the token after the end of each row; the head is not computed for other
    /// positions.
    ///
    /// # Shapes
    /// `tokens [B, T]` -> `[B, V]`.
    pub fn next_logits(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        let [b, t] = tokens.dims();
        let last = Tensor::arange_step(t as i64 - 1..(b * t) as i64, t, &tokens.device());
        let hidden = self.hidden(tokens, None, Pass::default());
        self.head(hidden.select(0, last), Precision::F32)
    }

    /// Mean cross-entropy of the targets in nats, `[1]`, without storing all logits at once. The
    /// head is computed for the trained positions only.
    ///
    /// # Panics
    /// When no position trains, since there is no mean; and when the parts of the batch do not fit
    /// each other.
    pub fn loss(&self, batch: Batch, pass: Pass) -> Tensor<1> {
        let targets = batch.targets.clone();
        let OutputHead { x, weight, tied } = self.before_head(batch, pass);
        kernels::head_loss(x, weight, tied, targets, pass.precision)
    }

    /// The divergence from the predictions of a teacher and [`Model::loss`], weighted as `settings`
    /// say. A model as teacher has the same vocabulary, is outside of any graph, and is run without
    /// dropout.
    ///
    /// # Panics
    /// As [`Model::loss`].
    pub fn distilled_loss(
        &self,
        batch: Batch,
        teacher: Teacher<'_>,
        settings: Distillation,
        pass: Pass,
    ) -> DistilledLoss {
        let predictions = match teacher {
            Teacher::Model(teacher) => {
                let taught = Pass { precision: pass.precision, ..Pass::default() };
                Predictions::Head(teacher.before_head(batch.clone().inner(), taught))
            }
            Teacher::Recorded(predictions) => *predictions,
        };
        let targets = batch.targets.clone();
        let student = self.before_head(batch, pass);
        distilled_head_loss(student, predictions, targets, settings, pass.precision)
    }

    /// The `k` likeliest tokens at each position of a batch that trains, and the logarithms of their
    /// probabilities at a temperature. The model is outside of any graph.
    ///
    /// # Shapes
    /// -> `[M, k]`, `[M, k]`, the likeliest first.
    ///
    /// # Panics
    /// As [`Model::loss`], and when the vocabulary has fewer than `k` tokens.
    pub fn likeliest(
        &self,
        batch: Batch,
        k: usize,
        temperature: f32,
        pass: Pass,
    ) -> (Tensor<2, Int>, Tensor<2>) {
        let logits = self.before_head(batch, pass).logits(pass.precision);
        let (log_probabilities, ids) = log_softmax(logits / temperature, 1).topk_with_indices(k, 1);
        (ids, log_probabilities)
    }

    /// The head and its input at the trained positions of a batch.
    fn before_head(&self, batch: Batch, pass: Pass) -> OutputHead {
        let Batch { tokens, documents, trained, targets } = batch;
        let [m] = targets.dims();
        assert!(m > 0, "a batch with a position that trains");
        let x = self.hidden(tokens, documents, pass);
        let x = match trained {
            Some(trained) => kernels::embedding(x, trained, pass.precision), // [M, C]
            None => x,
        };
        assert_eq!(x.dims()[0], m, "a target for each position that trains");
        let (weight, tied) = match self.family().lm_head() {
            Some(head) => (head.weight.val(), false),
            None => (self.family().wte().weight.val(), true),
        };
        OutputHead { x, weight, tied }
    }

    /// Every intermediate result of a forward pass without dropout. The first dimension is
    /// `N = B * T`, or `B * H` of attention's weights.
    pub fn stages(&self, tokens: Tensor<2, Int>) -> Vec<StageValues> {
        let mut trace = Trace::On(Vec::new());
        let hidden = self.family().hidden(tokens, None, Pass::default(), &mut trace);
        let logits = self.head(hidden, Precision::F32);
        trace.keep(ForwardStage::Logits, &logits);
        trace.into_stages()
    }

    /// `tokens [B, T]` -> `[N, C]`.
    fn hidden(
        &self,
        tokens: Tensor<2, Int>,
        documents: Option<Documents>,
        pass: Pass,
    ) -> Tensor<2> {
        // One document in each row is what a model computes without documents, only slower.
        let documents = documents.filter(Documents::divide_rows);
        self.family().hidden(tokens, documents, pass, &mut Trace::Off)
    }

    /// `x [N, C]` -> `[N, V]`.
    fn head(&self, x: Tensor<2>, precision: Precision) -> Tensor<2> {
        match self.family().lm_head() {
            Some(head) => head.forward(x, Pass { precision, ..Pass::default() }),
            None => {
                let wte = self.family().wte().weight.val();
                kernels::linear(x, wte.transpose(), None, precision)
            }
        }
    }

    /// The same weights outside of any graph, for evaluation. Shares memory with this model:
    /// drop it before the next optimizer step, which otherwise has to copy.
    #[must_use]
    pub fn without_graph(&self) -> Self {
        self.valid()
    }

    /// Every parameter, in the order of the model's fields.
    pub fn parameters(&self) -> Vec<Parameter> {
        parameters::collect(self)
    }

    /// The parameters that training changes: the adapters if there are any, otherwise all.
    pub fn trainable(&self) -> Vec<Parameter> {
        let mut parameters = self.parameters();
        let is_adapter = |parameter: &Parameter| lora::adapted(&parameter.path).is_some();
        if parameters.iter().any(is_adapter) {
            parameters.retain(is_adapter);
        }
        parameters
    }

    /// Takes the gradient of every parameter out of `gradients`, by path.
    pub fn take_gradients(&self, gradients: Gradients) -> ParameterGradients {
        parameters::take_gradients(self, gradients)
    }

    /// Returns `loss` unchanged; its backward pass adds to `gradients` instead of starting from
    /// zero.
    #[must_use]
    pub fn accumulate(&self, loss: Tensor<1>, gradients: ParameterGradients) -> Tensor<1> {
        parameters::accumulate(self, loss, gradients)
    }

    /// Replaces every parameter by the result of `update`, which gets path, shape and flat values
    /// outside of any graph. Consumes the model, so that values without another owner can be
    /// changed in place.
    #[must_use]
    pub fn update(self, update: impl FnMut(&str, &[usize], Tensor<1>) -> Tensor<1>) -> Self {
        parameters::update(self, update)
    }
}
