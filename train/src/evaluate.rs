//! Losses without dropout, and the logits that later stages are compared with.

use anyhow::Context;
use burn::module::Module;
use burn::tensor::Device;
use checkpoint::Golden;
use cli::{Interrupt, Interrupted};
use kernels::{Pass, Precision};
use model::Model;

use crate::corpus::{Batch, Corpus, Split, integers};
use crate::objective::StepLoss;
use crate::rewards::{RewardSums, Rewards};

/// Settings of an evaluation.
pub struct Reading<'a> {
    /// Read only the first `limit` windows; all if `None`.
    pub limit: Option<usize>,
    /// Windows in one forward pass.
    pub batch_size: usize,
    /// Number format of matrix products.
    pub precision: Precision,
    /// Checked before each pass, since a long text takes hours.
    pub interrupt: &'a Interrupt,
}

/// What a split says of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Mean loss, in nats.
    pub loss: f64,
    /// Of pairs of answers.
    pub rewards: Option<Rewards>,
}

/// The mean loss over the trained tokens, or over the pairs, of a split. `None` if there are none, as in
/// a split that is shorter than one window. A teacher has no part in it.
///
/// # Errors
/// [`Interrupted`], or when the tokens cannot be read.
pub fn evaluate(
    model: &Model,
    corpus: &Corpus,
    split: Split,
    loss: StepLoss<'_>,
    reading: &Reading<'_>,
    device: &Device,
) -> anyhow::Result<Option<Evaluation>> {
    let &Reading { limit, batch_size, interrupt, .. } = reading;
    let windows = corpus.windows(split).min(limit.unwrap_or(usize::MAX));
    let model = model.without_graph();
    let (mut sum, mut weights, mut rewards) = (0.0, 0.0, RewardSums::default());
    let indices: Vec<usize> = (0..windows).collect();
    for indices in indices.chunks(batch_size) {
        if interrupt.requested() {
            return Err(Interrupted.into());
        }
        let batch = corpus.batch(split, indices)?;
        let weight = match &batch.pairs {
            Some(pairs) => pairs.numbers.len() as f64,
            // In units of whole windows: small exact numbers where every token trains.
            None => batch.trained_tokens() as f64 / corpus.context() as f64,
        };
        if weight == 0.0 {
            continue;
        }
        sum += batch_loss(&model, &batch, loss, &mut rewards, reading, device)? * weight;
        weights += weight;
    }
    let mean = || Evaluation { loss: sum / weights, rewards: rewards.means() };
    Ok((weights > 0.0).then(mean))
}

/// The mean loss of a batch; adds the rewards of its pairs.
fn batch_loss(
    model: &Model,
    batch: &Batch,
    loss: StepLoss<'_>,
    rewards: &mut RewardSums,
    reading: &Reading<'_>,
    device: &Device,
) -> anyhow::Result<f64> {
    let pass = Pass { precision: reading.precision, ..Pass::default() };
    let input = batch.on(&device.clone().inner());
    if let (StepLoss::Preference(preference, reference), Some(pairs)) = (loss, &batch.pairs) {
        let found = model.log_probabilities(input, &pairs.trained, pass);
        let found = preference.loss(&found, &reference.of(&pairs.numbers));
        rewards.add(&found);
        return Ok(found.loss);
    }
    let loss: f32 = model.loss(input, pass).try_into_scalar().context("the device failed")?;
    Ok(f64::from(loss))
}

/// The split that golden windows are taken from, and their number: the validation split if it has
/// `wanted` windows, otherwise the training split.
pub fn golden_windows(corpus: &Corpus, wanted: usize) -> (Split, usize) {
    let split = match corpus.windows(Split::Validation) >= wanted {
        true => Split::Validation,
        false => Split::Train,
    };
    (split, wanted.min(corpus.windows(split)))
}

/// The logits of the first windows of a split, in f32 on the CPU: graphics cards multiply f32
/// numbers with less precision than the comparison with the reference requires.
///
/// # Errors
/// When the tokens cannot be read.
pub fn golden(
    model: &Model,
    corpus: &Corpus,
    (split, windows): (Split, usize),
    device: &Device,
) -> anyhow::Result<Golden> {
    let processor = Device::flex();
    let model = model.without_graph();
    let model = match device.clone().inner() == processor {
        true => model,
        false => model.fork(&processor),
    };
    let (mut tokens, mut logits) = (Vec::new(), Vec::new());
    for index in 0..windows {
        let window = corpus.whole_window(split, index)?;
        let inputs = integers(&window, &processor).reshape([1, window.len()]);
        tokens.extend(window);
        logits.extend(model.forward(inputs, Pass::default()).into_data().iter::<f32>()); // [T, V]
    }
    let vocab_size = model.config().vocab_size;
    Ok(Golden { tokens, logits, windows, context: corpus.context(), vocab_size })
}
