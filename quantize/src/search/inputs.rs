//! The inputs of a matrix, and the outputs that it should have.

use gguf::TensorSource;
use reference::matmul::{Rows, linear};
use reference::{LoadedBlock, ReferenceError};

use super::guard::{HeldInputs, Streams, Window};
use super::moments::{Drift, Moments, token_weights};
use crate::importance::{Sums, squares};

/// The inputs of some matrices that are multiplied with the same input.
pub(super) struct MatrixInputs {
    /// Moments of the windows to fit to.
    pub moments: Moments,
    /// `Σ x²` by column, in the original model, of all windows.
    pub squares: Sums,
    /// Inputs of the windows that are held back.
    pub held: HeldInputs,
}

impl MatrixInputs {
    /// Empty, without tokens; inputs are `width` wide.
    pub fn new(width: usize, drift_of: Drift) -> Self {
        MatrixInputs {
            moments: Moments::new(width, drift_of),
            squares: Sums { squares: vec![0.0; width], counts: vec![0.0] },
            held: HeldInputs::new(drift_of),
        }
    }

    /// Adds one window, for which the outputs for the original inputs are wanted.
    pub fn add_drifted(&mut self, original: &[f32], x: &[f32], held: bool) {
        let weights = &token_weights(original, self.squares.squares.len());
        let drift = &difference(original, x);
        self.add(&WindowInputs { original, x, drift, weights, held });
    }

    /// Adds one window.
    pub fn add(&mut self, window: &WindowInputs<'_>) {
        let WindowInputs { original, x, drift, weights, held } = window;
        let width = self.squares.squares.len();
        self.squares.add(&squares(original, width), weights.len());
        if *held {
            self.held.add(drift, x, weights);
        } else {
            self.moments.add(x, weights);
            self.moments.add_drift(drift, x, weights);
        }
    }
}

/// The inputs of a matrix in one window.
pub(super) struct WindowInputs<'a> {
    /// In the original model, `[T, N]`.
    pub original: &'a [f32],
    /// In the current model.
    pub x: &'a [f32],
    /// The difference that the inputs, or the outputs, are missing, `[T, M]`.
    pub drift: &'a [f32],
    /// The weight of each token.
    pub weights: &'a [f32],
    /// Whether the window is held back from the fit.
    pub held: bool,
}

/// `a - b`
pub(super) fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// One block during its quantization: the inputs of its matrices in the original model, and the
/// difference that the residual streams are missing so far.
pub(super) struct BlockFit {
    /// For each input of a matrix in the order of the pass, in each window, `[T, N]`.
    originals: std::vec::IntoIter<Vec<Vec<f32>>>,
    /// `h₀ - h` in each window, `[T, C]`.
    drift: Vec<Vec<f32>>,
    /// The weight of each token, by the stream before the block, in each window.
    weights_before: Vec<Vec<f32>>,
    /// The same by the stream after the block.
    weights_behind: Vec<Vec<f32>>,
    /// Whether each window is held back.
    held: Vec<bool>,
}

impl BlockFit {
    /// Computes the original streams after the block; `c` is their width.
    ///
    /// # Errors
    /// When the block cannot be computed.
    pub fn observe(
        block: &LoadedBlock<'_>,
        streams: &mut Streams,
        c: usize,
    ) -> Result<Self, ReferenceError> {
        let windows = &mut streams.windows;
        let weights = |windows: &[Window]| {
            windows.iter().map(|window| token_weights(&window.original, c)).collect()
        };
        let weights_before = weights(windows);
        let drift =
            windows.iter().map(|window| difference(&window.original, &window.now)).collect();
        let mut originals: Vec<Vec<Vec<f32>>> = Vec::new();
        for window in windows.iter_mut() {
            let mut stage = 0;
            block.observe(&mut window.original, &mut |_, x| {
                if stage == originals.len() {
                    originals.push(Vec::new());
                }
                originals[stage].push(x.to_vec());
                stage += 1;
            })?;
        }
        Ok(BlockFit {
            originals: originals.into_iter(),
            drift,
            weights_before,
            weights_behind: weights(windows),
            held: windows.iter().map(Window::held).collect(),
        })
    }

    /// The next inputs of the pass, in every window. A matrix that adds to the stream should
    /// restore the original stream; every other one should have its original outputs.
    pub fn take_in(
        &mut self,
        block: &LoadedBlock<'_>,
        tensors: &[String],
        inputs: &[Vec<f32>],
        place: Option<Place>,
    ) -> MatrixInputs {
        let originals = self.originals.next().unwrap_or_default();
        let width = |w: usize| inputs[w].len() / self.weights_before[w].len();
        let drift_of = if place.is_some() { Drift::OfOutputs } else { Drift::OfInputs };
        let mut all = MatrixInputs::new(width(0), drift_of);
        for (w, (original, x)) in originals.iter().zip(inputs).enumerate() {
            let held = self.held[w];
            let weights = match place {
                None => {
                    all.add_drifted(original, x, held);
                    continue;
                }
                Some(Place::First) => &self.weights_before[w],
                Some(Place::Last) => &self.weights_behind[w],
            };
            let own = block.matrix(&tensors[0]).unwrap_or_default();
            let lost = difference(original, x);
            let lost = linear(Rows::new(&lost, width(w)), Rows::new(own, width(w)), None);
            add(&mut self.drift[w], &lost);
            all.add(&WindowInputs { original, x, drift: &self.drift[w], weights, held });
        }
        all
    }

    /// Accounts for the difference in what a matrix adds to the stream.
    pub fn lose(
        &mut self,
        block: &LoadedBlock<'_>,
        tensor: &str,
        stored: &Stored,
        inputs: &[Vec<f32>],
    ) {
        let own = block.matrix(tensor).unwrap_or_default();
        let change = difference(own, &stored.weights);
        let bias = stored.lost_bias.as_deref();
        for ((drift, x), weights) in self.drift.iter_mut().zip(inputs).zip(&self.weights_before) {
            let width = x.len() / weights.len();
            add(drift, &linear(Rows::new(x, width), Rows::new(&change, width), bias));
        }
    }
}

/// `a += b`
fn add(a: &mut [f32], b: &[f32]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
}

/// Which of a block's matrices add to the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The attention's.
    First,
    /// The feed-forward layer's; nothing is added after it.
    Last,
}

/// The matrices of one block whose outputs are added to the residual stream as they are.
pub(super) struct Writers {
    attention: Option<String>,
    feed_forward: Option<String>,
}

impl Writers {
    /// A norm after a matrix changes what it adds, so there the matrix only has to keep its
    /// outputs.
    pub fn of(source: &dyn TensorSource, layer: usize) -> Self {
        let part = |part: &str| format!("blk.{layer}.{part}.weight");
        let unless =
            |norm: &str, writer: &str| source.tensor(&part(norm)).is_err().then(|| part(writer));
        Writers {
            attention: unless("post_attention_norm", "attn_output"),
            feed_forward: unless("post_ffw_norm", "ffn_down"),
        }
    }

    /// Where the matrix of these tensors adds to the stream, if it does.
    pub fn place(&self, names: &[String]) -> Option<Place> {
        let [name] = names else { return None };
        if self.attention.as_ref() == Some(name) {
            return Some(Place::First);
        }
        (self.feed_forward.as_ref() == Some(name)).then_some(Place::Last)
    }
}

/// A matrix `[R, N]` with the values that are read back, and its bias `[R]` if it has one.
pub(super) struct Stored {
    pub weights: Vec<f32>,
    pub bias: Option<Vec<f32>>,
    /// The original bias minus the new one.
    pub lost_bias: Option<Vec<f32>>,
}
