//! Reads the calibration text once with the model, block after block, and quantizes each block on
//! the way.
//!
//! A block is fitted to the inputs that the quantized blocks before it will give it, and those of
//! the original model are known as well. Only the moments of a matrix's inputs are stored; memory
//! holds one block's weights and its intermediate results for all tokens.
//!
//! Some windows are not used to fit. On them the result is compared with plain rounding, matrix by
//! matrix, block by block and at the end (see `guard`). A result that is not nearer to the original
//! model is replaced by rounding.

use anyhow::{Context, Result, bail};
use gguf::grid::Grid;
use gguf::{TensorInfo, TensorSource, TensorType, blocks, read_f32};
use reference::Blockwise;

use super::factor::Factors;
use super::guard::{self, Compared, Streams, Verdict};
use super::inputs::{BlockFit, MatrixInputs, Place, Stored, Writers, difference};
use super::lockstep;
use super::matrix::{Encoded, encode_matrix};
use super::moments::{Drift, Moments};
use super::overlay::Overlay;
use super::target::{corrected_bias, target};
use crate::Importance;
use crate::encode::{Encode, Rounding, Slab};

/// The token embedding.
const EMBEDDING: &str = "token_embd.weight";

/// Windows that a tied embedding is fitted to: the inputs of the head need a separate pass.
const HEAD_WINDOWS: usize = 4;

/// If its type has more codes than this, a tied embedding is rounded: for SmolLM2-135M in Q8_0 the
/// search was not better than rounding.
const FINE: usize = 32;

/// The settings of a search over a model.
pub(crate) struct SearchJob<'a> {
    /// The type that a tensor is to get.
    pub wanted: &'a dyn Fn(&str) -> Option<TensorType>,
    /// The calibration text, `[W][T]`.
    pub windows: &'a [Vec<u32>],
    /// Called with the name of each finished tensor.
    pub done: &'a dyn Fn(&str),
    /// Checked before each block.
    pub interrupt: &'a cli::Interrupt,
}

/// Finds codes from weights `[R, N]` and the moments of their inputs; the last argument says
/// whether a bias compensates the mean of the errors.
pub(super) type EncodeMatrix = dyn Fn(&Grid, &[f32], &Moments, bool) -> Result<Encoded>;

/// Replaces every matrix that is to get a quantized type. `searched` gets codes found for the
/// windows, or rounded weights if the codes were not better; `plain` gets weights rounded with the
/// importance of their columns on the same windows.
///
/// # Errors
/// For a model that the reference pass does not know, a weight that is not finite, a full disk, and
/// Ctrl-C.
pub(crate) fn search_model<'a>(
    searched: &mut Overlay<'a>,
    plain: &mut Overlay<'a>,
    job: &SearchJob<'_>,
) -> Result<Verdict> {
    search_with(searched, plain, job, &encode)
}

/// [`search_model`] with another function from the moments to codes.
pub(super) fn search_with<'a>(
    searched: &mut Overlay<'a>,
    plain: &mut Overlay<'a>,
    job: &SearchJob<'_>,
    encode: &EncodeMatrix,
) -> Result<Verdict> {
    let windows = guard::at_least_two(job.windows)?;
    let mut search =
        Search { searched, plain, job, encode, windows: &windows, rounded: Vec::new() };
    search.refuse_what_is_not_finite()?;
    search.embedding()?;
    let mut streams = Streams::embed(search.searched, search.plain, search.windows)?;
    let model = Blockwise::new(search.searched)?;
    let (layers, head) = (model.config().n_layer, model.head_tensor());
    for layer in 0..layers {
        if job.interrupt.requested() {
            return Err(cli::Interrupted.into());
        }
        search.block(layer, &mut streams)?;
    }
    if head != EMBEDDING && search.grid(head).is_some() {
        let inputs = search.head_inputs(&streams)?;
        search.matrix(head, &inputs)?;
    }
    let divergence = streams.divergence(search.searched, search.plain)?;
    Ok(Verdict::new(search.rounded, streams.held_tokens(), divergence))
}

struct Search<'a, 'b> {
    searched: &'a mut Overlay<'b>,
    plain: &'a mut Overlay<'b>,
    job: &'a SearchJob<'a>,
    /// The function that finds the codes of one matrix.
    encode: &'a EncodeMatrix,
    windows: &'a [Vec<u32>],
    /// Tensors that are rounded in `searched` as well.
    rounded: Vec<String>,
}

impl Search<'_, '_> {
    /// The grid of a tensor that is to be searched.
    fn grid(&self, name: &str) -> Option<Grid> {
        (self.job.wanted)(name).and_then(Grid::of)
    }

    /// Quantizes the token embedding, before anything that is computed with it. If it is also the
    /// head, it is fitted to the head's inputs in the original model, which needs a pass, unless
    /// its type is so fine that rounding is as good. If it is not the head, it is looked up row by
    /// row, and every column has the same weight.
    fn embedding(&mut self) -> Result<()> {
        let Some(grid) = self.grid(EMBEDDING) else { return Ok(()) };
        let model = Blockwise::new(self.searched)?;
        if model.head_tensor() == EMBEDDING && grid.codebook.len() > FINE {
            return self.round(EMBEDDING, &grid);
        }
        let mut inputs = MatrixInputs::new(model.config().n_embd, Drift::OfInputs);
        if model.head_tensor() == EMBEDDING {
            let some = guard::some_of_both(self.windows, HEAD_WINDOWS);
            let embedding = model.embedding()?;
            let mut stream: Vec<Vec<f32>> =
                some.iter().map(|(window, _)| embedding.embed(window)).collect::<Result<_, _>>()?;
            for layer in 0..model.config().n_layer {
                let block = model.block(layer)?;
                stream.iter_mut().try_for_each(|x| block.forward(x))?;
            }
            let norm = model.last_norm()?;
            for (x, (_, held)) in stream.iter().zip(&some) {
                let x = norm.forward(x);
                inputs.add_drifted(&x, &x, *held);
            }
            // llama-imatrix does not measure the head.
            inputs.squares.counts[0] = 0.0;
        }
        self.matrix(EMBEDDING, &inputs)?;
        Ok(())
    }

    fn head_inputs(&self, streams: &Streams) -> Result<MatrixInputs> {
        let model = Blockwise::new(self.searched)?;
        let norm = model.last_norm()?;
        let mut inputs = MatrixInputs::new(model.config().n_embd, Drift::OfInputs);
        for window in &streams.windows {
            let (original, now) = (norm.forward(&window.original), norm.forward(&window.now));
            inputs.add_drifted(&original, &now, window.held());
        }
        inputs.squares.counts[0] = 0.0;
        Ok(inputs)
    }

    /// Quantizes a block, and computes the streams after it.
    fn block(&mut self, layer: usize, streams: &mut Streams) -> Result<()> {
        let source = self.searched.source();
        let model = Blockwise::new(source)?;
        let block = model.block(layer)?;
        let writers = Writers::of(source, layer);
        let before: Vec<Vec<f32>> = streams.windows.iter().map(|w| w.now.clone()).collect();
        let rounded_before = self.rounded.len();

        let mut fit = BlockFit::observe(&block, streams, model.config().n_embd)?;
        let mut names = Vec::new();
        let windows = streams.windows.iter_mut().map(|window| window.now.as_mut_slice()).collect();
        lockstep::forward(&block, windows, &mut |tensors, inputs| {
            names.extend_from_slice(tensors);
            let place = writers.place(tensors);
            let matrix_inputs = fit.take_in(&block, tensors, inputs, place);
            for tensor in tensors {
                let Some(stored) = self.matrix(tensor, &matrix_inputs)? else { continue };
                if place == Some(Place::First) {
                    fit.lose(&block, tensor, &stored, inputs);
                }
                block.replace(tensor, stored.weights, stored.bias);
            }
            Ok(())
        })?;
        drop(block);

        let compared = streams.compare(layer, &before, self.plain)?;
        if !compared.is_nearer() {
            self.rounded.truncate(rounded_before);
            for name in &names {
                self.round_instead(name)?;
            }
            streams.go_back(before, layer, self.plain)?;
        }
        streams.advance_plain(layer, self.plain)
    }

    /// Encodes one matrix both ways, and keeps the codes of the search if they are better on the
    /// windows that were held back.
    fn matrix(&mut self, name: &str, inputs: &MatrixInputs) -> Result<Option<Stored>> {
        let Some(grid) = self.grid(name) else { return Ok(None) };
        let tensor = self.searched.tensor(name)?.clone();
        let in_tensor = || format!("tensor {name}");
        let weights = read_f32(self.searched, &tensor)?;
        let rounded = rounded(&grid, &tensor, &weights, inputs).with_context(in_tensor)?;
        self.plain.replace(name, grid.tensor_type, &rounded)?;

        let bias = self.bias(name)?;
        let found = (self.encode)(&grid, &weights, &inputs.moments, bias.is_some());
        let found = found.with_context(in_tensor)?;
        let bias_now = bias
            .as_ref()
            .map(|(_, bias)| corrected_bias(bias, &weights, &found.stored, &inputs.moments));
        let mut plain = vec![0.0; weights.len()];
        blocks::dequantize(grid.tensor_type, &rounded, &mut plain)?;
        let bias_was = bias.as_ref().map(|(_, bias)| bias.as_slice());
        let error = |stored: &[f32], bias: Option<&[f32]>| {
            inputs.held.error((&weights, bias_was), (stored, bias))
        };
        let compared = Compared {
            searched: error(&found.stored, bias_now.as_deref()),
            rounded: error(&plain, bias_was),
        };
        let bias = bias.map(|(bias_name, bias)| (bias_name, bias, bias_now.unwrap_or_default()));
        let stored = if compared.is_nearer() {
            self.searched.replace(name, grid.tensor_type, &found.bytes)?;
            if let Some((bias_name, _, bias)) = &bias {
                let bytes: Vec<u8> = bias.iter().flat_map(|b| b.to_le_bytes()).collect();
                self.searched.replace(bias_name, TensorType::F32, &bytes)?;
            }
            let lost_bias = bias.as_ref().map(|(_, was, is)| difference(was, is));
            Stored { weights: found.stored, bias: bias.map(|(_, _, bias)| bias), lost_bias }
        } else {
            self.round_instead(name)?;
            Stored { weights: plain, bias: bias.map(|(_, bias, _)| bias), lost_bias: None }
        };
        (self.job.done)(name);
        Ok(Some(stored))
    }

    /// Rounds a matrix without column weights in both models.
    fn round(&mut self, name: &str, grid: &Grid) -> Result<()> {
        let tensor = self.searched.tensor(name)?.clone();
        let weights = read_f32(self.searched, &tensor)?;
        let inputs = MatrixInputs::new(tensor.row_len(), Drift::OfInputs);
        let rounded =
            rounded(grid, &tensor, &weights, &inputs).with_context(|| format!("tensor {name}"))?;
        self.plain.replace(name, grid.tensor_type, &rounded)?;
        self.searched.replace(name, grid.tensor_type, &rounded)?;
        (self.job.done)(name);
        Ok(())
    }

    /// The bias of a matrix with its name, if it has one.
    fn bias(&self, name: &str) -> Result<Option<(String, Vec<f32>)>> {
        let source = self.searched.source();
        let name = format!("{}.bias", name.strip_suffix(".weight").unwrap_or(name));
        let Ok(tensor) = source.tensor(&name) else { return Ok(None) };
        let bias = read_f32(source, tensor)?;
        Ok(Some((name, bias)))
    }

    /// Discards the result of the search for a matrix and its bias.
    fn round_instead(&mut self, name: &str) -> Result<()> {
        if let Some((bias, _)) = self.bias(name)? {
            self.searched.restore(&bias);
        }
        let Some(grid) = self.grid(name) else { return Ok(()) };
        let bytes = self.plain.read(self.plain.tensor(name)?)?;
        self.searched.replace(name, grid.tensor_type, &bytes)?;
        self.rounded.push(name.to_owned());
        Ok(())
    }

    /// One NaN weight makes every later input NaN, so weights are checked first.
    fn refuse_what_is_not_finite(&self) -> Result<()> {
        let source = self.searched.source();
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

/// The bytes that `quantize --imatrix` writes for a tensor with importance data of the same text.
fn rounded(
    grid: &Grid,
    tensor: &TensorInfo,
    weights: &[f32],
    inputs: &MatrixInputs,
) -> Result<Vec<u8>> {
    let importance = (inputs.squares.counts[0] > 0.0)
        .then(|| Importance::of_tensor(&tensor.name, inputs.squares.clone()));
    let to = grid.tensor_type;
    let mut bytes = vec![0; weights.len() / to.block_len() * to.block_bytes()];
    Rounding { importance: importance.as_ref() }
        .encode(&Slab { tensor, to, first_row: 0, rows: weights }, &mut bytes)?;
    Ok(bytes)
}

/// The search: codes that make the error of the outputs small.
pub(super) fn encode(
    grid: &Grid,
    weights: &[f32],
    moments: &Moments,
    has_bias: bool,
) -> Result<Encoded> {
    let target = target(weights, moments, has_bias)?;
    let h = moments.matrix(has_bias);
    let encoded = match grid.group_len {
        16 => encode_matrix(grid, &Factors::<16>::new(h)?, &target),
        _ => encode_matrix(grid, &Factors::<32>::new(h)?, &target),
    };
    blocks::check_scales(grid.tensor_type, &encoded.bytes)?;
    Ok(encoded)
}
