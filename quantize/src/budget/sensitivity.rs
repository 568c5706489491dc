//! Measures how sensitive the model is to each tensor: the KL divergence of the next token when
//! only this tensor is quantized.
//!
//! The model reads some windows once, and the residual stream before every block is stored. For
//! each tensor the pass is repeated from its block on, with that tensor rounded to one type, the
//! probe. For small errors the divergence is proportional to the square of the output's error, so
//! the values for other types are scaled by their weighted squared error. To save time in the
//! vocabulary head, the divergence is computed at every fourth position.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use gguf::{TensorInfo, TensorSource, TensorType, blocks, read_f32};
use rayon::prelude::*;
use reference::Blockwise;

use crate::divergence::{log_probabilities, mean_divergence};
use crate::search::Overlay;

/// The divergence is computed at every `STRIDE`-th position.
const STRIDE: usize = 4;

/// Types that a row of whole 256-blocks can get, smallest first.
const LARGE_BLOCKS: [TensorType; 8] = [
    TensorType::Q2_K,
    TensorType::Q3_K,
    TensorType::IQ4_XS,
    TensorType::Q4_K,
    TensorType::Q5_K,
    TensorType::Q6_K,
    TensorType::Q8_0,
    TensorType::F16,
];

/// The same for rows of whole 32-blocks.
const SMALL_BLOCKS: [TensorType; 5] =
    [TensorType::IQ4_NL, TensorType::Q5_0, TensorType::Q5_1, TensorType::Q8_0, TensorType::F16];

/// The cost of a tensor in each type that it could get.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sensitivity {
    /// The tensor.
    pub tensor: String,
    /// Expected KL divergence in nats, by type, smallest type first.
    pub damage: Vec<(TensorType, f64)>,
}

/// The types that rows of this length can get.
fn candidates(row_len: usize) -> &'static [TensorType] {
    if row_len.is_multiple_of(256) {
        &LARGE_BLOCKS
    } else if row_len.is_multiple_of(32) {
        &SMALL_BLOCKS
    } else {
        &[TensorType::F16]
    }
}

/// Measures every tensor of `names`; `done` is called after each one.
///
/// # Errors
/// For a model that the reference pass does not know, windows too short to measure with, a weight
/// that is not finite, and any error of `done`.
pub(super) fn measure(
    source: &dyn TensorSource,
    names: &[String],
    windows: &[Vec<u32>],
    scratch: &Path,
    done: &dyn Fn(&str) -> Result<()>,
) -> Result<Vec<Sensitivity>> {
    ensure!(
        !windows.is_empty() && windows.iter().all(|window| window.len() >= STRIDE),
        "there is no text to measure with: a window needs {STRIDE} tokens"
    );
    let base = Base::read(source, windows)?;
    names
        .iter()
        .map(|name| {
            let sensitivity = base
                .sensitivity(source.tensor(name)?, scratch)
                .with_context(|| format!("tensor {name}"))?;
            done(name)?;
            Ok(sensitivity)
        })
        .collect()
}

/// The original model on the windows.
struct Base<'a> {
    source: &'a dyn TensorSource,
    windows: &'a [Vec<u32>],
    /// Before each block and after the last: `[L + 1][W]` of `[T, C]`.
    streams: Vec<Vec<Vec<f32>>>,
    /// Log-probabilities at every fourth position, `[W]` of `[T / 4, V]`.
    expected: Vec<Vec<f32>>,
    /// Mean square of each input column, by tensor.
    importance: HashMap<String, Vec<f32>>,
}

impl<'a> Base<'a> {
    fn read(source: &'a dyn TensorSource, windows: &'a [Vec<u32>]) -> Result<Self> {
        let model = Blockwise::new(source)?;
        let embedding = model.embedding()?;
        let mut stream: Vec<Vec<f32>> =
            windows.iter().map(|w| embedding.embed(w)).collect::<Result<_, _>>()?;
        let mut sums = HashMap::new();
        let mut streams = Vec::new();
        for layer in 0..model.config().n_layer {
            streams.push(stream.clone());
            let block = model.block(layer)?;
            for x in &mut stream {
                let rows = x.len() / model.config().n_embd;
                block.observe(x, &mut |names, inputs| {
                    add_squares(&mut sums, names, inputs, rows);
                })?;
            }
        }
        let norm = model.last_norm()?;
        for x in &stream {
            let rows = x.len() / model.config().n_embd;
            add_squares(&mut sums, &[model.head_tensor()], &norm.forward(x), rows);
        }
        streams.push(stream);
        let mut base = Base { source, windows, streams, expected: Vec::new(), importance: sums };
        let last = base.streams.len() - 1;
        base.expected = log_probabilities(&model, &base.streams[last], STRIDE)?;
        Ok(base)
    }

    fn sensitivity(&self, tensor: &TensorInfo, scratch: &Path) -> Result<Sensitivity> {
        let weights = read_f32(self.source, tensor)?;
        let types = candidates(tensor.row_len());
        let row_len = tensor.row_len();
        let flat = vec![1.0; row_len];
        let importance = self.importance.get(&tensor.name).unwrap_or(&flat);
        let errors: Vec<(TensorType, f64)> = types
            .iter()
            .map(|&to| Ok((to, weighted_error(to, &weights, importance)?.1)))
            .collect::<Result<_>>()?;
        // Three bits (or the fewest available): its errors are well above the rounding errors of
        // the pass.
        let probe = types[1.min(types.len() - 1)];
        let (bytes, probe_error) = weighted_error(probe, &weights, importance)?;
        let divergence = match probe_error > 0.0 {
            true => self.divergence(tensor, probe, &bytes, scratch)?,
            false => 0.0,
        };
        let scale = if probe_error > 0.0 { divergence / probe_error } else { 0.0 };
        let damage = errors.into_iter().map(|(to, error)| (to, error * scale)).collect();
        Ok(Sensitivity { tensor: tensor.name.clone(), damage })
    }

    /// Mean KL divergence with one tensor replaced.
    fn divergence(
        &self,
        tensor: &TensorInfo,
        to: TensorType,
        bytes: &[u8],
        scratch: &Path,
    ) -> Result<f64> {
        let mut overlay = Overlay::new(self.source, scratch)?;
        overlay.replace(&tensor.name, to, bytes)?;
        let model = Blockwise::new(&overlay)?;
        let layers = self.streams.len() - 1;
        let layer_of = tensor.name.strip_prefix("blk.").and_then(|rest| rest.split('.').next());
        let first = match layer_of {
            Some(layer) => layer.parse().context("a layer that is no number")?,
            None if tensor.name.starts_with("output") => layers,
            None => 0,
        };
        let mut stream = if layer_of.is_none() && first == 0 {
            let embedding = model.embedding()?;
            self.windows.iter().map(|w| embedding.embed(w)).collect::<Result<_, _>>()?
        } else {
            self.streams[first].clone()
        };
        for layer in first..layers {
            let block = model.block(layer)?;
            stream.iter_mut().try_for_each(|x| block.forward(x))?;
        }
        let found = log_probabilities(&model, &stream, STRIDE)?;
        Ok(mean_divergence(&self.expected, &found, model.config().vocab_size))
    }
}

/// Adds the mean squares of an input's columns, over its rows.
fn add_squares(sums: &mut HashMap<String, Vec<f32>>, names: &[&str], inputs: &[f32], rows: usize) {
    let width = inputs.len() / rows.max(1);
    for name in names {
        let sum = sums.entry((*name).to_owned()).or_insert_with(|| vec![0.0; width]);
        for row in inputs.chunks_exact(width) {
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
        }
    }
}

/// The tensor in a type, and `Σ p (w' - w)²`.
fn weighted_error(to: TensorType, weights: &[f32], importance: &[f32]) -> Result<(Vec<u8>, f64)> {
    let row_len = importance.len();
    let mut bytes = vec![0; weights.len() / to.block_len() * to.block_bytes()];
    blocks::quantize(to, weights, row_len, to.is_quantized().then_some(importance), &mut bytes)?;
    let mut read = vec![0.0; weights.len()];
    blocks::dequantize(to, &bytes, &mut read)?;
    let error = weights
        .par_chunks(row_len)
        .zip(read.par_chunks(row_len))
        .map(|(row, read)| {
            let columns = row.iter().zip(read).zip(importance);
            columns.map(|((w, r), &p)| f64::from(p) * f64::from(r - w).powi(2)).sum::<f64>()
        })
        .collect::<Vec<f64>>()
        .iter()
        .sum();
    Ok((bytes, error))
}
