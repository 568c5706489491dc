//! The forward and backward passes of one step, run in sequence or distributed over devices.
//!
//! With `D` devices, each computes every `D`-th pass on a copy of the weights that is made anew in
//! each step, and the gradients are summed on the first device. This is data-parallel training;
//! nanoGPT also divides its accumulation among processes. The dropout of each pass follows from the
//! number of the pass, so a step learns the same on any number of devices, up to the order of the
//! sums.

use std::thread;

use anyhow::Context;
use burn::module::Module;
use burn::tensor::Device;
use config::{Kernels, RunFile};
use kernels::{Dropout, Pass, Precision, random};
use model::Model;
use model::parameters::ParameterGradients;

use crate::corpus::{Corpus, Split};
use crate::plan::StepPlan;

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
    /// Cross-entropy of the text, in nats.
    pub loss: f64,
    /// KL divergence from the teacher's predictions, in nats.
    pub teacher_divergence: Option<f64>,
    /// Gradients of the mean over all passes.
    pub gradients: ParameterGradients,
}

/// The model whose predictions are learned, and the weight of its loss.
type Teacher<'a> = (&'a Model, f32);

impl Passes<'_> {
    /// Runs all passes on `devices`; `model`, `teacher` and the gradients are on the first.
    ///
    /// # Errors
    /// When the tokens cannot be read.
    pub fn backward(
        self,
        model: &Model,
        teacher: Option<Teacher<'_>>,
        devices: &[Device],
    ) -> anyhow::Result<StepGradients> {
        match devices {
            [device] => self.share(model, teacher, device, (0, 1)),
            _ => self.pull_from_all(model, teacher, devices),
        }
    }

    /// Runs the passes on all devices at once, on copies of the weights.
    fn pull_from_all(
        self,
        model: &Model,
        teacher: Option<Teacher<'_>>,
        devices: &[Device],
    ) -> anyhow::Result<StepGradients> {
        let shares = thread::scope(|scope| {
            let workers: Vec<_> = devices
                .iter()
                .enumerate()
                .map(|(index, device)| {
                    let model = model.clone().fork(device);
                    let teacher = teacher.map(|(teacher, weight)| {
                        (teacher.clone().fork(&device.clone().inner()), weight)
                    });
                    scope.spawn(move || {
                        let teacher = teacher.as_ref().map(|(model, weight)| (model, *weight));
                        self.share_on_this_thread(&model, teacher, device, (index, devices.len()))
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
        teacher: Option<Teacher<'_>>,
        device: &Device,
        part: (usize, usize),
    ) -> anyhow::Result<StepGradients> {
        let run = || self.share(model, teacher, device, part);
        match self.run_file.train.kernels {
            Kernels::Fused => run(),
            Kernels::Plain => kernels::with_plain_operations(run),
        }
    }

    /// Runs every `count`-th pass on one device, starting with pass `first`; losses and gradients
    /// are divided by the number of all passes.
    fn share(
        self,
        model: &Model,
        teacher: Option<Teacher<'_>>,
        device: &Device,
        (first, count): (usize, usize),
    ) -> anyhow::Result<StepGradients> {
        let all = 1.0 / self.plan.accumulation as f64;
        let (mut sum, mut apart, mut gradients) = (0.0, None, ParameterGradients::new());
        for number in (first..self.plan.accumulation).step_by(count) {
            let windows = self.windows(number);
            let batch = self.corpus.batch(Split::Train, &windows)?;
            let (inputs, targets) = batch.tensors(device);
            let loss = match teacher {
                Some((teacher, weight)) => {
                    let found =
                        model.distilled_loss(inputs, targets, teacher, weight, self.pass(number));
                    sum += found.entropy;
                    *apart.get_or_insert(0.0) += found.divergence * all;
                    found.loss
                }
                None => model.loss(inputs, targets, self.pass(number)),
            };
            let value = loss.clone().inner();
            let loss = model.accumulate(loss * all, gradients);
            gradients = model.take_gradients(loss.backward());
            if teacher.is_none() {
                // Reading waits for the device, which already has the backward pass queued.
                sum += f64::from(value.try_into_scalar::<f32>().context("the device failed")?);
            }
        }
        Ok(StepGradients { loss: sum * all, teacher_divergence: apart, gradients })
    }

    /// The windows of a pass.
    fn windows(&self, number: usize) -> Vec<usize> {
        let epoch = self.step / self.plan.steps_per_epoch;
        let places = self.plan.places(self.step, number);
        self.corpus.shuffled(self.run_file.run.seed, epoch, places)
    }

    /// The settings of a pass.
    fn pass(&self, number: usize) -> Pass {
        let key = random::derive_named(self.run_file.run.seed, "dropout");
        let key = random::derive(random::derive(key, self.step), number as u64);
        Pass {
            dropout: Dropout::new(self.run_file.model.dropout, key),
            precision: self.precision,
            checkpointing: self.run_file.train.activation_checkpointing,
        }
    }
}

impl StepGradients {
    /// The sum of both, on `device`.
    fn plus(mut self, other: StepGradients, device: &Device) -> Self {
        self.loss += other.loss;
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
