//! Checks on held-out windows of the calibration text whether the result of the search is nearer to
//! the original model than plain rounding.
//!
//! It checks three times, so that a bad fit is found where it occurs: the outputs of a matrix, the
//! residual stream after a block, and the predictions of the whole model. Plain rounding is the
//! result of `quantize --imatrix` with importance data of the same windows.

use std::borrow::Cow;

use anyhow::{Result, ensure};
use gguf::TensorSource;
use reference::Blockwise;
use reference::matmul::{Rows, linear};

use super::moments::Drift;
use super::overlay::Overlay;
use crate::divergence::{log_probabilities, mean_divergence};

/// One window of this many is held back.
const HELD_SHARE: usize = 8;

/// Most windows that are held back.
const MOST_HELD: usize = 4;

/// Most positions at which the predictions of the whole model are compared.
const POSITIONS: usize = 1024;

/// The windows, or the halves of a single one: some to fit to, the others to evaluate on.
///
/// # Errors
/// When there are fewer than two tokens.
pub(super) fn at_least_two(windows: &[Vec<u32>]) -> Result<Cow<'_, [Vec<u32>]>> {
    match windows {
        [] => anyhow::bail!("there is no text to calibrate with"),
        [only] => {
            ensure!(only.len() >= 2, "there is no text to calibrate with: {} tokens", only.len());
            let (first, second) = only.split_at(only.len() / 2);
            Ok(Cow::Owned(vec![first.to_vec(), second.to_vec()]))
        }
        windows => Ok(Cow::Borrowed(windows)),
    }
}

/// For each of `count` windows, whether it is held back: spread evenly over the text.
fn held_back(count: usize) -> Vec<bool> {
    let held = (count / HELD_SHARE).clamp(1, MOST_HELD);
    let mut all = vec![false; count];
    (0..held).for_each(|k| all[(k + 1) * count / held - 1] = true);
    all
}

/// At most `count` of the windows to fit to, spread over the text, and one that is held back, each
/// with a flag that is true for the latter.
pub(super) fn some_of_both(windows: &[Vec<u32>], count: usize) -> Vec<(&Vec<u32>, bool)> {
    let held = held_back(windows.len());
    let all = || windows.iter().zip(held.iter().copied());
    let fit: Vec<_> = all().filter(|(_, held)| !held).collect();
    let step = fit.len().div_ceil(count).max(1);
    fit.iter().copied().step_by(step).chain(all().find(|(_, held)| *held)).collect()
}

/// Inputs of a matrix in the windows that are held back.
#[derive(Debug)]
pub(super) struct HeldInputs {
    /// In the current model, `[T, N]`.
    x: Vec<f32>,
    /// The difference that the inputs, or the outputs, are missing, `[T, M]`.
    drift: Vec<f32>,
    drift_of: Drift,
    /// The weight of each token, `[T]`.
    weights: Vec<f32>,
}

/// A matrix `[R, N]`, and its bias `[R]` if it has one.
type MatrixAndBias<'a> = (&'a [f32], Option<&'a [f32]>);

impl HeldInputs {
    /// Empty inputs, without tokens.
    pub fn new(drift_of: Drift) -> Self {
        HeldInputs { x: Vec::new(), drift: Vec::new(), drift_of, weights: Vec::new() }
    }

    /// Adds more tokens.
    pub fn add(&mut self, drift: &[f32], x: &[f32], weights: &[f32]) {
        self.x.extend_from_slice(x);
        self.drift.extend_from_slice(drift);
        self.weights.extend_from_slice(weights);
    }

    /// `Σ p |W' x - W x - d|²`, or `Σ p |W' x - W (x + d)|²`: the difference of the outputs of a
    /// stored matrix from the wanted ones. Without inputs, the difference of the weights.
    pub fn error(&self, matrix: MatrixAndBias<'_>, stored: MatrixAndBias<'_>) -> f64 {
        let square = |a: &f32, b: &f32| f64::from(a - b).powi(2);
        if self.weights.is_empty() {
            return matrix.0.iter().zip(stored.0).map(|(a, b)| square(a, b)).sum();
        }
        let width = self.x.len() / self.weights.len();
        let outputs = |x: &[f32], (w, bias)| linear(Rows::new(x, width), Rows::new(w, width), bias);
        let plus_drift =
            |x: &[f32]| -> Vec<f32> { x.iter().zip(&self.drift).map(|(x, d)| x + d).collect() };
        let wanted: Vec<f32> = match self.drift_of {
            Drift::OfInputs => outputs(&plus_drift(&self.x), matrix),
            Drift::OfOutputs => plus_drift(&outputs(&self.x, matrix)),
        };
        let found = outputs(&self.x, stored);
        let rows = wanted.len() / self.weights.len();
        let tokens = wanted.chunks_exact(rows).zip(found.chunks_exact(rows)).zip(&self.weights);
        tokens
            .map(|((a, b), &weight)| {
                f64::from(weight) * a.iter().zip(b).map(|(a, b)| square(a, b)).sum::<f64>()
            })
            .sum()
    }
}

/// The same error measured for the searched weights and for rounded ones in their place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Compared {
    pub searched: f64,
    pub rounded: f64,
}

impl Compared {
    /// Whether the search was better; a NaN is not.
    pub fn is_nearer(&self) -> bool {
        self.searched < self.rounded
    }
}

/// The residual stream of one window, `[T, C]` each.
pub(super) struct Window {
    /// In the original model.
    pub original: Vec<f32>,
    /// In the model with the tensors quantized so far.
    pub now: Vec<f32>,
    /// In the model that is rounded throughout; only if the window is held back.
    plain: Option<Vec<f32>>,
}

impl Window {
    /// Whether the window is held back from the fit.
    pub fn held(&self) -> bool {
        self.plain.is_some()
    }
}

/// A mean over tokens.
#[derive(Default)]
struct Mean {
    sum: f64,
    tokens: usize,
}

impl Mean {
    /// `|h - h₀|² / |h₀|²` for each token: all tokens have the same weight, whatever their size.
    fn add_errors(&mut self, original: &[f32], found: &[f32], width: usize) {
        let square = |x: f32| f64::from(x).powi(2);
        for (was, is) in original.chunks_exact(width).zip(found.chunks_exact(width)) {
            let size: f64 = was.iter().map(|&x| square(x)).sum();
            let error: f64 = was.iter().zip(is).map(|(a, b)| square(a - b)).sum();
            self.sum += error / size.max(f64::MIN_POSITIVE);
            self.tokens += 1;
        }
    }

    fn value(&self) -> f64 {
        self.sum / self.tokens.max(1) as f64
    }
}

/// The residual streams of all windows.
pub(super) struct Streams {
    pub windows: Vec<Window>,
    /// `C`
    width: usize,
}

impl Streams {
    /// The streams before the first block.
    ///
    /// # Errors
    /// When a source cannot be read, or a token is not in the vocabulary.
    pub fn embed(
        searched: &Overlay<'_>,
        plain: &Overlay<'_>,
        windows: &[Vec<u32>],
    ) -> Result<Self> {
        let (was, now) = (Blockwise::new(searched.source())?, Blockwise::new(searched)?);
        let plain = Blockwise::new(plain)?;
        let (was_embedding, now_embedding) = (was.embedding()?, now.embedding()?);
        let plain_embedding = plain.embedding()?;
        let embed = |(window, held): (&Vec<u32>, bool)| -> Result<Window> {
            Ok(Window {
                original: was_embedding.embed(window)?,
                now: now_embedding.embed(window)?,
                plain: held.then(|| plain_embedding.embed(window)).transpose()?,
            })
        };
        let held = held_back(windows.len());
        Ok(Streams {
            windows: windows.iter().zip(held).map(embed).collect::<Result<_>>()?,
            width: was.config().n_embd,
        })
    }

    /// Tokens that are held back.
    pub fn held_tokens(&self) -> usize {
        let held = self.windows.iter().filter(|window| window.held());
        held.map(|window| window.now.len() / self.width).sum()
    }

    /// The distance of the stream after a block from that of the original model, with the searched
    /// weights and with a rounded block in their place; `before` are the streams before the block.
    /// The other streams are already after it.
    ///
    /// # Errors
    /// When a source cannot be read.
    pub fn compare(
        &self,
        layer: usize,
        before: &[Vec<f32>],
        plain: &Overlay<'_>,
    ) -> Result<Compared> {
        let model = Blockwise::new(plain)?;
        let block = model.block(layer)?;
        let (mut searched, mut rounded) = (Mean::default(), Mean::default());
        for (window, before) in self.windows.iter().zip(before).filter(|(w, _)| w.held()) {
            let mut other = before.clone();
            block.forward(&mut other)?;
            searched.add_errors(&window.original, &window.now, self.width);
            rounded.add_errors(&window.original, &other, self.width);
        }
        Ok(Compared { searched: searched.value(), rounded: rounded.value() })
    }

    /// Discards the search for a block: the streams `before` it are computed through the rounded
    /// block.
    ///
    /// # Errors
    /// When a source cannot be read.
    pub fn go_back(
        &mut self,
        before: Vec<Vec<f32>>,
        layer: usize,
        plain: &Overlay<'_>,
    ) -> Result<()> {
        let model = Blockwise::new(plain)?;
        let block = model.block(layer)?;
        for (window, before) in self.windows.iter_mut().zip(before) {
            window.now = before;
            block.forward(&mut window.now)?;
        }
        Ok(())
    }

    /// Computes the streams of the rounded model after a block.
    ///
    /// # Errors
    /// When a source cannot be read.
    pub fn advance_plain(&mut self, layer: usize, plain: &Overlay<'_>) -> Result<()> {
        let model = Blockwise::new(plain)?;
        let block = model.block(layer)?;
        let mut held = self.windows.iter_mut().filter_map(|window| window.plain.as_mut());
        held.try_for_each(|x| block.forward(x))?;
        Ok(())
    }

    /// The mean KL divergence of the next token from the original model, after the last block.
    ///
    /// # Errors
    /// When a source cannot be read.
    pub fn divergence(&self, searched: &Overlay<'_>, plain: &Overlay<'_>) -> Result<Compared> {
        let positions = self.held_tokens();
        let stride = positions.div_ceil(POSITIONS).max(1);
        let held = || self.windows.iter().filter(|window| window.held());
        let vocab_size = Blockwise::new(searched.source())?.config().vocab_size;
        let predicted = |source: &dyn TensorSource, streams: Vec<&[f32]>| {
            log_probabilities(&Blockwise::new(source)?, &streams, stride)
        };
        let original = held().map(|window| window.original.as_slice()).collect();
        let original = predicted(searched.source(), original)?;
        let now = predicted(searched, held().map(|window| window.now.as_slice()).collect())?;
        let divergence = mean_divergence(&original, &now, vocab_size);
        drop(now);
        let rounded = held().filter_map(|window| window.plain.as_deref()).collect();
        let rounded = predicted(plain, rounded)?;
        Ok(Compared {
            searched: divergence,
            rounded: mean_divergence(&original, &rounded, vocab_size),
        })
    }
}

/// The results of the comparisons.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    /// Tensors that are rounded, since the search was not better for them.
    pub rounded: Vec<String>,
    /// Tokens of the calibration text that were held back.
    pub held_tokens: usize,
    /// Mean KL divergence on them, in nats, with the search.
    pub divergence: f64,
    /// The same with all tensors rounded.
    pub rounded_divergence: f64,
}

impl Verdict {
    pub(super) fn new(rounded: Vec<String>, held_tokens: usize, divergence: Compared) -> Self {
        let Compared { searched, rounded: without, .. } = divergence;
        Verdict { rounded, held_tokens, divergence: searched, rounded_divergence: without }
    }

    /// Whether to write the searched weights: not if rounded ones predict better, or if the result
    /// is NaN.
    pub fn holds(&self) -> bool {
        self.divergence <= self.rounded_divergence
    }
}
