//! The model read once over the calibration text, block after block, each quantized on the way.
//!
//! A block sees the inputs that the quantized blocks before it will give it, beside those it had in
//! the model as it was, so it is fitted to what it will meet. Of a matrix's inputs only moments are
//! kept; memory holds one block's weights and moments and the residual streams of all tokens.
//! (Moments taken anew after each matrix of a block were tried: no better, for twice the time.)

use anyhow::{Context, Result, bail, ensure};
use gguf::grid::Grid;
use gguf::{TensorSource, TensorType, blocks, read_f32};
use reference::Blockwise;

use super::factor::Factors;
use super::matrix::{Encoded, encode_matrix};
use super::moments::Moments;
use super::overlay::Overlay;
use super::target::{corrected_bias, target};

/// The tensor that turns tokens into vectors.
const EMBEDDING: &str = "token_embd.weight";

/// What the matrices of a model are to become.
pub(crate) struct SearchJob<'a> {
    /// The type that a tensor is to get.
    pub wanted: &'a dyn Fn(&str) -> Option<TensorType>,
    /// The calibration text, `[W][T]`.
    pub windows: &'a [Vec<u32>],
    /// Told the name of each tensor that is done.
    pub done: &'a dyn Fn(&str),
    /// Asked before each block.
    pub interrupt: &'a cli::Interrupt,
}

/// Replaces every matrix that is to get a quantized type, with codes found for the windows.
///
/// # Errors
/// A model that the reference pass does not know, a weight that is not finite, a full disk, Ctrl-C.
pub(crate) fn search_model(overlay: &mut Overlay<'_>, job: &SearchJob<'_>) -> Result<()> {
    let text = job.windows.iter().any(|window| !window.is_empty());
    ensure!(text, "there is no text to calibrate with");
    let mut search = Search { overlay, job };
    search.refuse_what_is_not_finite()?;
    search.embedding()?;
    let mut streams = Streams {
        original: embed(search.overlay.source(), job.windows)?,
        now: embed(search.overlay, job.windows)?,
    };
    let model = Blockwise::new(search.overlay)?;
    let (layers, head) = (model.config().n_layer, model.head_tensor());
    for layer in 0..layers {
        if job.interrupt.requested() {
            return Err(cli::Interrupted.into());
        }
        search.block(layer, &mut streams)?;
    }
    if head != EMBEDDING && search.grid(head).is_some() {
        let moments = search.head_moments(&streams)?;
        search.matrix(head, &moments)?;
    }
    Ok(())
}

/// The residual stream of every window, `[W]` of `[T, C]`.
struct Streams {
    /// In the model as it was.
    original: Vec<Vec<f32>>,
    /// In the model with what is quantized so far.
    now: Vec<Vec<f32>>,
}

fn embed(source: &dyn TensorSource, windows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
    let model = Blockwise::new(source)?;
    let embedding = model.embedding()?;
    Ok(windows.iter().map(|window| embedding.embed(window)).collect::<Result<_, _>>()?)
}

struct Search<'a, 'b> {
    overlay: &'a mut Overlay<'b>,
    job: &'a SearchJob<'a>,
}

impl Search<'_, '_> {
    /// The grid of a tensor that is to be searched for.
    fn grid(&self, name: &str) -> Option<Grid> {
        (self.job.wanted)(name).and_then(Grid::of)
    }

    /// The token embedding, before anything that is computed with it. One that is also the head is
    /// fitted to what reaches the head of the model as it was; one that is not is looked up row by
    /// row, where every column counts the same.
    fn embedding(&mut self) -> Result<()> {
        if self.grid(EMBEDDING).is_none() {
            return Ok(());
        }
        let model = Blockwise::new(self.overlay)?;
        if model.head_tensor() != EMBEDDING {
            return self.matrix(EMBEDDING, &Moments::new(model.config().n_embd));
        }
        let mut stream = embed(self.overlay, self.job.windows)?;
        for layer in 0..model.config().n_layer {
            let block = model.block(layer)?;
            stream.iter_mut().for_each(|x| block.forward(x));
        }
        let norm = model.last_norm()?;
        let mut moments = Moments::new(model.config().n_embd);
        stream.iter().for_each(|x| moments.add(&norm.forward(x)));
        self.matrix(EMBEDDING, &moments)
    }

    fn head_moments(&self, streams: &Streams) -> Result<Moments> {
        let model = Blockwise::new(self.overlay)?;
        let norm = model.last_norm()?;
        let mut moments = Moments::new(model.config().n_embd);
        for (original, now) in streams.original.iter().zip(&streams.now) {
            let x = norm.forward(now);
            moments.add(&x);
            moments.add_drift(&norm.forward(original), &x);
        }
        Ok(moments)
    }

    /// Quantizes a block, and moves the streams past it.
    fn block(&mut self, layer: usize, streams: &mut Streams) -> Result<()> {
        for (names, moments) in self.block_moments(layer, streams)? {
            for name in &names {
                self.matrix(name, &moments)?;
            }
        }
        let model = Blockwise::new(self.overlay)?;
        let block = model.block(layer)?;
        streams.now.iter_mut().for_each(|x| block.forward(x));
        Ok(())
    }

    /// The moments of each input of a block, with the tensors that are multiplied with it. Moves
    /// the original stream past the block.
    fn block_moments(
        &self,
        layer: usize,
        streams: &mut Streams,
    ) -> Result<Vec<(Vec<String>, Moments)>> {
        let model = Blockwise::new(self.overlay)?;
        let block = model.block(layer)?;
        let mut all: Vec<(Vec<String>, Moments)> = Vec::new();
        for (original, now) in streams.original.iter_mut().zip(&streams.now) {
            let rows = now.len() / model.config().n_embd;
            let mut originals: Vec<Vec<f32>> = Vec::new();
            block.observe(original, &mut |_, inputs| originals.push(inputs.to_vec()));
            let mut originals = originals.into_iter().enumerate();
            block.observe(&mut now.clone(), &mut |names, inputs| {
                let Some((stage, original)) = originals.next() else { return };
                if stage == all.len() {
                    let names = names.iter().map(|&name| name.to_owned()).collect();
                    all.push((names, Moments::new(inputs.len() / rows)));
                }
                all[stage].1.add(inputs);
                all[stage].1.add_drift(&original, inputs);
            });
        }
        Ok(all)
    }

    /// Encodes one matrix, and lets its bias keep the mean of its outputs.
    fn matrix(&mut self, name: &str, moments: &Moments) -> Result<()> {
        let Some(grid) = self.grid(name) else { return Ok(()) };
        let weights = read_f32(self.overlay, self.overlay.tensor(name)?)?;
        let bias_name = format!("{}.bias", name.strip_suffix(".weight").unwrap_or(name));
        let bias = self.overlay.tensor(&bias_name).ok().cloned();
        let encoded = encode(&grid, &weights, moments, bias.is_some())
            .with_context(|| format!("tensor {name}"))?;
        self.overlay.replace(name, grid.tensor_type, &encoded.bytes)?;
        if let Some(bias) = bias {
            let bias = read_f32(self.overlay, &bias)?;
            let bias = corrected_bias(&bias, &weights, &encoded.stored, moments);
            let bytes: Vec<u8> = bias.iter().flat_map(|b| b.to_le_bytes()).collect();
            self.overlay.replace(&bias_name, TensorType::F32, &bytes)?;
        }
        (self.job.done)(name);
        Ok(())
    }

    /// One weight that is no number makes every input behind it none, so it is looked for first.
    fn refuse_what_is_not_finite(&self) -> Result<()> {
        let source = self.overlay.source();
        for tensor in source.tensors().iter().filter(|tensor| self.grid(&tensor.name).is_some()) {
            let weights = read_f32(source, tensor)?;
            if let Some(at) = weights.iter().position(|w| !w.is_finite()) {
                let (name, value) = (&tensor.name, weights[at]);
                bail!(
                    "tensor {name}: weight {at} is {value}; only finite weights can be quantized"
                );
            }
            source.release(tensor);
        }
        Ok(())
    }
}

fn encode(grid: &Grid, weights: &[f32], moments: &Moments, has_bias: bool) -> Result<Encoded> {
    let target = target(weights, moments, has_bias)?;
    let h = moments.matrix(has_bias);
    let encoded = match grid.group_len {
        16 => encode_matrix(grid, &Factors::<16>::new(h)?, &target),
        _ => encode_matrix(grid, &Factors::<32>::new(h)?, &target),
    };
    blocks::check_scales(grid.tensor_type, &encoded.bytes)?;
    Ok(encoded)
}
