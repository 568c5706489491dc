//! Losses without dropout, and the logits that later stages are compared with.

use anyhow::Context;
use burn::module::Module;
use burn::tensor::Device;
use checkpoint::Golden;
use cli::{Interrupt, Interrupted};
use kernels::{Pass, Precision};
use model::Model;

use crate::corpus::{Corpus, Split};

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

/// The mean loss over the trained tokens of a split. `None` if there are none, as in a split that is
/// shorter than one window.
///
/// # Errors
/// [`Interrupted`], or when the tokens cannot be read.
pub fn mean_loss(
    model: &Model,
    corpus: &Corpus,
    split: Split,
    reading: &Reading<'_>,
    device: &Device,
) -> anyhow::Result<Option<f64>> {
    let &Reading { limit, batch_size, precision, interrupt } = reading;
    let windows = corpus.windows(split).min(limit.unwrap_or(usize::MAX));
    let model = model.without_graph();
    let (mut sum, mut weights) = (0.0, 0.0);
    let indices: Vec<usize> = (0..windows).collect();
    for indices in indices.chunks(batch_size) {
        if interrupt.requested() {
            return Err(Interrupted.into());
        }
        let batch = corpus.batch(split, indices)?;
        // In units of whole windows: small exact numbers where every token trains.
        let weight = batch.trained_tokens() as f64 / corpus.context() as f64;
        if weight == 0.0 {
            continue;
        }
        let batch = batch.on(&device.clone().inner());
        let loss = model.loss(batch, Pass { precision, ..Pass::default() });
        let loss: f32 = loss.try_into_scalar().context("the device failed")?;
        sum += f64::from(loss) * weight;
        weights += weight;
    }
    Ok((weights > 0.0).then(|| sum / weights))
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
        let batch = corpus.batch(split, &[index])?;
        let inputs = batch.on(&processor).tokens;
        tokens.extend(batch.inputs.iter().copied());
        logits.extend(model.forward(inputs, Pass::default()).into_data().iter::<f32>()); // [T, V]
    }
    let vocab_size = model.config().vocab_size;
    Ok(Golden { tokens, logits, windows, context: corpus.context(), vocab_size })
}
