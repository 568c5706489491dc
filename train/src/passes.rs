//! The forward and backward passes of one step, run in sequence or distributed over devices.
//!
//! With `D` devices, each computes every `D`-th pass on a copy of the weights that is made anew in
//! each step, and the gradients are summed on the first device. This is data-parallel training;
//! nanoGPT also divides its accumulation among processes. The dropout of each pass follows from the
//! number of the pass, so a step learns the same on any number of devices, up to the order of the
//! sums.
//!
//! A step's loss is the mean over all its trained tokens, so the mean of each pass counts by the
//! number of its trained tokens, as `num_items_in_batch` does in transformers. The loss of pairs of
//! answers is the mean over the pairs, of which every pass has as many.

use std::thread;

use anyhow::Context;
use burn::module::Module;
use burn::tensor::Device;
use config::{Kernels, RunFile};
use kernels::{Dropout, Pass, Precision, random};
use model::parameters::ParameterGradients;
use model::preference::PairRows;
use model::{Model, Teacher};

use crate::corpus::{Batch, Corpus, Split};
use crate::objective::StepLoss;
use crate::plan::StepPlan;
use crate::rewards::RewardSums;
use crate::teacher::Lessons;

/// The common inputs of the passes of a step.
#[derive(Clone, Copy)]
pub struct Passes<'a> {
    /// Seed, dropout and checkpointing.
    pub run_file: &'a RunFile,
    /// Where the windows come from.
    pub corpus: &'a Corpus,
    /// The number of passes, and their windows.
    pub plan: &'a StepPlan,
    /// Number format of matrix products.
    pub precision: Precision,
    /// Steps before this one.
    pub step: u64,
}

/// The result of the passes of one step.
pub struct StepGradients {
    /// Cross-entropy of the text, or the loss of the pairs, in nats.
    pub loss: f64,
    /// KL divergence from the teacher's predictions, in nats.
    pub teacher_divergence: Option<f64>,
    /// Rewards of the pairs, if there are any.
    pub rewards: RewardSums,
    /// Gradients of the mean over all trained tokens, or over all pairs.
    pub gradients: ParameterGradients,
}

/// One pass of a step.
struct Part {
    /// Its number in the step.
    number: usize,
    windows: Vec<usize>,
    /// Its trained tokens over those of the mean pass: exactly 1 if all passes train as many.
    weight: f64,
}

impl Passes<'_> {
    /// Runs all passes on `devices`; `model`, a teacher and the gradients are on the first.
    ///
    /// # Errors
    /// When the tokens cannot be read, or none of them trains.
    pub fn backward(
        self,
        model: &Model,
        loss: StepLoss<'_>,
        devices: &[Device],
    ) -> anyhow::Result<StepGradients> {
        let parts = self.parts()?;
        match devices {
            [device] => self.share(model, loss, device, &parts.iter().collect::<Vec<_>>()),
            _ => self.pull_from_all(model, loss, devices, &parts),
        }
    }

    /// All passes of the step.
    fn parts(&self) -> anyhow::Result<Vec<Part>> {
        let windows: Vec<_> = (0..self.plan.accumulation).map(|n| self.windows(n)).collect();
        let count = |windows: &Vec<usize>| match self.corpus.pairs() {
            0 => self.corpus.trained_tokens(Split::Train, windows),
            _ => windows.len(),
        };
        let trained: Vec<usize> = windows.iter().map(count).collect();
        let weights = weights(&trained).with_context(|| {
            format!(
                "step {}: none of the tokens in its {} windows trains; expected at least one",
                self.step + 1,
                windows.iter().map(Vec::len).sum::<usize>()
            )
        })?;
        let parts = windows.into_iter().zip(weights).enumerate();
        Ok(parts.map(|(number, (windows, weight))| Part { number, windows, weight }).collect())
    }

    /// Runs the passes on all devices at once, on copies of the weights.
    fn pull_from_all(
        self,
        model: &Model,
        loss: StepLoss<'_>,
        devices: &[Device],
        parts: &[Part],
    ) -> anyhow::Result<StepGradients> {
        let shares = thread::scope(|scope| {
            let workers: Vec<_> = devices
                .iter()
                .enumerate()
                .map(|(index, device)| {
                    let model = model.clone().fork(device);
                    let teacher = match loss {
                        StepLoss::Distilled(Lessons::Model(teacher), settings) => {
                            Some((teacher.clone().fork(&device.clone().inner()), settings))
                        }
                        _ => None,
                    };
                    scope.spawn(move || {
                        let loss = match &teacher {
                            Some((teacher, settings)) => {
                                StepLoss::Distilled(Lessons::Model(teacher), *settings)
                            }
                            None => loss,
                        };
                        let own: Vec<_> = parts.iter().skip(index).step_by(devices.len()).collect();
                        self.share_on_this_thread(&model, loss, device, &own)
                    })
                })
                .collect();
            // All threads are joined, even if one has failed: a scope panics if a thread that
            // panicked was not joined.
            let joined: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
            joined
        });
        let shares = shares.into_iter().map(|share| share.map_err(panicked)?);
        let shares: anyhow::Result<Vec<StepGradients>> = shares.collect();
        let first = devices.first().context("a run without a device")?.clone().inner();
        shares?
            .into_iter()
            .reduce(|sum, share| sum.plus(share, &first))
            .context("a step without passes")
    }

    /// [`Passes::share`] on a new thread, whose compute settings have not been set yet.
    fn share_on_this_thread(
        self,
        model: &Model,
        loss: StepLoss<'_>,
        device: &Device,
        parts: &[&Part],
    ) -> anyhow::Result<StepGradients> {
        let run = || self.share(model, loss, device, parts);
        match self.run_file.train.kernels {
            Kernels::Fused => run(),
            Kernels::Plain => kernels::with_plain_operations(run),
        }
    }

    /// Runs some of the passes on one device; losses and gradients are divided by the number of all
    /// passes.
    fn share(
        self,
        model: &Model,
        loss: StepLoss<'_>,
        device: &Device,
        parts: &[&Part],
    ) -> anyhow::Result<StepGradients> {
        let mut sum = Sum::new(model, loss, self.plan.accumulation);
        for Part { number, windows, weight } in parts.iter().filter(|part| part.weight > 0.0) {
            let batch = self.corpus.batch(Split::Train, windows)?;
            sum.add((&batch, windows), device, self.pass(*number), *weight)?;
        }
        Ok(sum.finish())
    }

    /// The windows of a pass.
    fn windows(&self, number: usize) -> Vec<usize> {
        let epoch = self.step / self.plan.steps_per_epoch;
        let places = self.plan.places(self.step, number);
        self.corpus.shuffled(self.run_file.run.seed, epoch, places)
    }

    /// The settings of a pass.
    fn pass(&self, number: usize) -> Pass {
        let key = |name| {
            let key = random::derive_named(self.run_file.run.seed, name);
            random::derive(random::derive(key, self.step), number as u64)
        };
        Pass {
            dropout: Dropout::new(self.run_file.model.dropout, key("dropout")),
            adapter_dropout: Dropout::new(self.run_file.lora.dropout, key("adapter dropout")),
            precision: self.precision,
            checkpointing: self.run_file.train.activation_checkpointing,
        }
    }
}

/// The trained tokens of each pass over those of the mean pass; `None` if no token trains.
fn weights(trained: &[usize]) -> Option<Vec<f64>> {
    let all: usize = trained.iter().sum();
    let weight = |&own: &usize| (own * trained.len()) as f64 / all as f64;
    (all > 0).then(|| trained.iter().map(weight).collect())
}

/// The passes of a step that have been run.
struct Sum<'a> {
    model: &'a Model,
    loss: StepLoss<'a>,
    /// One over the number of passes of the step.
    each: f64,
    /// Sum over passes, not yet divided by their number.
    total: f64,
    teacher_divergence: Option<f64>,
    rewards: RewardSums,
    gradients: ParameterGradients,
}

impl<'a> Sum<'a> {
    fn new(model: &'a Model, loss: StepLoss<'a>, passes: usize) -> Self {
        Sum {
            model,
            loss,
            each: 1.0 / passes as f64,
            total: 0.0,
            teacher_divergence: None,
            rewards: RewardSums::default(),
            gradients: ParameterGradients::new(),
        }
    }

    /// Runs a pass whose mean loss counts `weight` times as much as that of the mean pass.
    fn add(
        &mut self,
        (batch, windows): (&Batch, &[usize]),
        device: &Device,
        pass: Pass,
        weight: f64,
    ) -> anyhow::Result<()> {
        let input = batch.on(device);
        // The loss in the graph, and its value where that is known already.
        let (loss, value) = match self.loss {
            StepLoss::NextToken => (self.model.loss(input, pass), None),
            StepLoss::Distilled(lessons, settings) => {
                let teacher = match lessons {
                    Lessons::Model(model) => Teacher::Model(model),
                    Lessons::Recorded(recorded) => recorded.of(windows, device)?,
                };
                let found = self.model.distilled_loss(input, teacher, settings, pass);
                *self.teacher_divergence.get_or_insert(0.0) +=
                    found.divergence * (self.each * weight);
                (found.loss, Some(found.entropy))
            }
            StepLoss::Preference(preference, reference) => {
                let pairs = batch.pairs.as_ref().context("a batch without pairs")?;
                let reference = reference.of(&pairs.numbers);
                let rows = PairRows { trained: &pairs.trained, reference: &reference };
                let (found, loss) = self.model.preference_loss(input, rows, preference, pass);
                self.rewards.add(&found);
                (loss, Some(found.loss))
            }
        };
        let in_graph = loss.clone().inner();
        let before = std::mem::take(&mut self.gradients);
        let loss = self.model.accumulate(loss * (self.each * weight), before);
        self.gradients = self.model.take_gradients(loss.backward());
        // Reading waits for the device, which already has the backward pass queued.
        let value = match value {
            Some(value) => value,
            None => f64::from(in_graph.try_into_scalar::<f32>().context("the device failed")?),
        };
        self.total += value * weight;
        Ok(())
    }

    fn finish(self) -> StepGradients {
        StepGradients {
            loss: self.total * self.each,
            teacher_divergence: self.teacher_divergence,
            rewards: self.rewards,
            gradients: self.gradients,
        }
    }
}

impl StepGradients {
    /// The sum of both, on `device`.
    fn plus(mut self, other: StepGradients, device: &Device) -> Self {
        self.loss += other.loss;
        self.rewards.merge(other.rewards);
        if let Some(apart) = other.teacher_divergence {
            *self.teacher_divergence.get_or_insert(0.0) += apart;
        }
        for (path, gradient) in other.gradients {
            let gradient = gradient.to_device(device);
            let sum = match self.gradients.remove(&path) {
                Some(sum) => sum + gradient,
                None => gradient,
            };
            self.gradients.insert(path, sum);
        }
        self
    }
}

/// Converts a panic of a worker thread into an error of the step.
fn panicked(payload: Box<dyn std::any::Any + Send>) -> anyhow::Error {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    anyhow::anyhow!("a device failed: {}", text.as_deref().unwrap_or("a panic without a message"))
}
