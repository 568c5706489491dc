//! Quantization-aware training: from a given step on, forward passes use the weights that the
//! quantized file will hold, and the optimizer updates the unrounded ones.
//!
//! ```text
//! weights w --round--> w' --forward, backward--> dL/dw' --AdamW--> w
//! ```
//!
//! Rounding has no useful derivative, so the gradient of `w` is taken to be that of `w'`: the
//! straight-through estimator of Bengio, Léonard and Courville ("Estimating or propagating
//! gradients through stochastic neurons", 2013), used for whole networks by Jacob et al.
//! ("Quantization and training of neural networks for efficient integer-arithmetic-only inference",
//! 2018). The gradient is never cut off: the scale of a block follows its weights, so no weight is
//! outside of its range by more than one step.
//!
//! `w'` is a second model, rounded again after each step of the optimizer. Forward passes, also
//! with accumulation or recomputation, use this model without further changes.

mod rounding;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

use anyhow::{Context, ensure};
use burn::tensor::{Device, Tensor};
use checkpoint::TrainerState;
use checkpoint::names::{Orientation, Source, TensorName};
use config::{ModelConfig, RunFile};
use gguf::TensorType;
use model::Model;
use model::parameters::ParameterGradients;
use quantize::Recipe;

use self::rounding::{Lie, Rounding, Scratch};

/// The settings of the rounding, and the rounded weights.
pub struct Qat {
    recipe: Recipe,
    start: u64,
    plan: RoundingPlan,
    scratch: Scratch,
    /// `None` before rounding begins.
    rounded: Option<Model>,
}

impl Qat {
    /// Reads `[train.qat]`, if it is set, for a run of `total_steps` steps of a model of `config`.
    /// Once rounding has begun, `state` holds the step where it did.
    ///
    /// # Errors
    /// For a recipe that does not exist, and for a start after the end of the run.
    pub fn new(
        run_file: &RunFile,
        config: &ModelConfig,
        total_steps: u64,
        state: &TrainerState,
    ) -> anyhow::Result<Option<Self>> {
        let Some(settings) = &run_file.train.qat else { return Ok(None) };
        let recipe: Recipe = settings.format.parse().context("train.qat.format")?;
        ensure!(
            !recipe.needs_importance(),
            "train.qat.format: {recipe} needs importance data, which changes with the weights; \
             take Q2_K"
        );
        let begun = state.qat_start.filter(|&start| start < state.step);
        let from_a_model = run_file.train.init_from.is_some();
        let start = begun.unwrap_or_else(|| settings.start_step(total_steps, from_a_model));
        ensure!(
            start < total_steps,
            "train.qat.start: weights would be rounded after {start} steps, and the run has \
             {total_steps}; expected an earlier start"
        );
        let exported: TensorType =
            run_file.export.tensor_type.parse().context("export.tensor_type")?;
        let plan = RoundingPlan::new(config, exported, recipe)?;
        Ok(Some(Qat { recipe, start, plan, scratch: Scratch::default(), rounded: None }))
    }

    /// The recipe of the file that the run trains for.
    pub fn recipe(&self) -> Recipe {
        self.recipe
    }

    /// The first step, counted from 0, whose forward passes use rounded weights.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The rounded model, once it exists.
    pub fn model(&self) -> Option<&Model> {
        self.rounded.as_ref()
    }

    /// Rounds the weights of `model` again.
    ///
    /// # Errors
    /// For a weight that its type cannot hold; the error names the tensor.
    pub fn refresh(&mut self, model: &Model, device: &Device) -> anyhow::Result<()> {
        let weights: HashMap<String, Tensor<1>> =
            model.parameters().into_iter().map(|p| (p.path, p.values)).collect();
        let rounded = self.rounded.take().unwrap_or_else(|| blank(&self.plan.config, device));
        let (mut failure, rules, scratch) = (None, &self.plan.rules, &mut self.scratch);
        let rounded = rounded.update(|path, _, target| {
            let Some((rule, weights)) =
                rules.get(path).and_then(|rule| Some((rule, weights.get(&rule.source)?)))
            else {
                failure = Some(anyhow::anyhow!("{path} is in no file of this model"));
                return target;
            };
            let round = |from: &[f32], to: &mut [f32]| rule.rounding.round(from, to, scratch);
            kernels::rewrite(weights, target, round).unwrap_or_else(|error| {
                failure = Some(anyhow::Error::from(error).context(rule.gguf.clone()));
                weights.zeros_like()
            })
        });
        self.rounded = Some(rounded);
        failure.map_or(Ok(()), |error| {
            Err(error.context(format!("cannot round the weights to {}", self.recipe)))
        })
    }

    /// The gradients of the unrounded weights from those of the rounded ones. They are equal; if
    /// two tensors of the file are one tensor of the model, their sum is taken.
    pub fn straight_through(&self, mut gradients: ParameterGradients) -> ParameterGradients {
        for (path, rule) in self.plan.rules.iter().filter(|(path, rule)| **path != rule.source) {
            let Some(extra) = gradients.remove(path) else { continue };
            let extra = rule.turned_to_source(extra);
            let sum = match gradients.remove(&rule.source) {
                Some(gradient) => gradient + extra,
                None => extra,
            };
            gradients.insert(rule.source.clone(), sum);
        }
        gradients
    }
}

/// A model of zeros, to be filled.
fn blank(config: &ModelConfig, device: &Device) -> Model {
    let zeros = |_: &str, shape: &[usize]| Ok::<_, Infallible>(vec![0.0; shape.iter().product()]);
    match Model::load(config, device, zeros) {
        Ok(model) => model,
        Err(impossible) => match impossible {},
    }
}

/// How the rounded model is made.
struct RoundingPlan {
    /// Its shape: that of the trained model, with a separate head if the file has one.
    config: ModelConfig,
    /// The rules by path in the rounded model.
    rules: BTreeMap<String, Rule>,
}

/// The source of a parameter of the rounded model.
struct Rule {
    /// Path in the trained model.
    source: String,
    /// Name in the file.
    gguf: String,
    rounding: Rounding,
}

impl RoundingPlan {
    fn new(config: &ModelConfig, exported: TensorType, recipe: Recipe) -> anyhow::Result<Self> {
        let tensors = quantize::planned(config, exported, recipe)?;
        let by_name: HashMap<&str, &TensorName> =
            tensors.iter().map(|t| (t.name.hugging_face.as_str(), &t.name)).collect();
        let mut plan = RoundingPlan { config: config.clone(), rules: BTreeMap::new() };
        for tensor in &tensors {
            let name = &tensor.name;
            let source = match &name.source {
                Source::Repeat(repeated) => by_name[repeated.as_str()],
                Source::Model => name,
                Source::Zeros | Source::Settings(_) => continue,
            };
            // Only a tied head is in a file twice.
            plan.config.tie_embeddings &= name.repeats().is_none();
            let mut types = vec![tensor.exported, tensor.quantized];
            types.dedup();
            types.retain(|&tensor_type| tensor_type != TensorType::F32);
            let row_len = name.gguf_shape()[0] as usize;
            let rounding = Rounding { types, row_len, from: lie(source), to: lie(name) };
            let rule = Rule { source: source.burn.clone(), gguf: name.gguf.clone(), rounding };
            plan.rules.insert(name.burn.clone(), rule);
        }
        Ok(plan)
    }
}

impl Rule {
    /// Converts values from the memory order of the rounded parameter to that of the trained one.
    fn turned_to_source(&self, values: Tensor<1>) -> Tensor<1> {
        transposed(values, self.rounding.row_len, self.rounding.to, self.rounding.from)
    }
}

/// Rows of `row_len` values, converted from one memory order to another.
fn transposed(values: Tensor<1>, row_len: usize, from: Lie, to: Lie) -> Tensor<1> {
    let [len] = values.dims();
    let rows = len / row_len;
    let shape = if from == Lie::Rows { [rows, row_len] } else { [row_len, rows] };
    if from == to { values } else { values.reshape(shape).transpose().reshape([len]) }
}

fn lie(name: &TensorName) -> Lie {
    match name.orientation {
        Orientation::Same => Lie::Rows,
        Orientation::InputFirst | Orientation::OutputFirst => Lie::Columns,
    }
}

#[cfg(test)]
mod tests;
