//! What a family of models has to say for itself; [`crate::Model`] does the rest for all of them.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use config::ModelConfig;
use kernels::{CausalMask, Pass, Rope, checkpointed, rope, rope_first};

use crate::layers::{Embedding, Linear};
use crate::trace::Trace;

/// A model up to its head.
pub(crate) trait Family {
    /// What the shapes follow from.
    fn config(&self) -> &ModelConfig;

    /// Token embedding `[V, C]`.
    fn wte(&self) -> &Embedding;

    /// The output head `[C, V]`, without bias; where there is none, `wte` turned.
    fn lm_head(&self) -> Option<&Linear>;

    /// The residual stream after the last normalisation, which the head turns into logits.
    ///
    /// # Shapes
    /// `tokens [B, T]` -> `[N, C]`.
    fn hidden(&self, tokens: Tensor<2, Int>, pass: Pass, trace: &mut Trace) -> Tensor<2>;
}

/// A block's forward pass: block, `x [N, C]`, what all blocks share, the pass at its site, its
/// number, the trace.
type Forward<B> = fn(&B, Tensor<2>, &Frame, Pass, usize, &mut Trace) -> Tensor<2>;

/// `x [N, C]` through all blocks, which keep for the backward pass what `pass` asks for.
pub(crate) fn through<B: Module + 'static>(
    blocks: &[B],
    mut x: Tensor<2>,
    forward: Forward<B>,
    frame: &Frame,
    pass: Pass,
    trace: &mut Trace,
) -> Tensor<2> {
    for (i, block) in blocks.iter().enumerate() {
        let pass = pass.at(i as u64 + 1);
        x = if pass.checkpointing {
            let frame = frame.clone();
            let again = move |block: &B, x| forward(block, x, &frame, pass, i, &mut Trace::Off);
            checkpointed(block, x, again)
        } else {
            forward(block, x, frame, pass, i, trace)
        };
    }
    x
}

/// What all blocks of one forward pass share: how positions see each other and where they are.
#[derive(Clone)]
pub(crate) struct Frame {
    shape: [usize; 2],
    mask: CausalMask,
    rope: Option<Rope>,
}

impl Frame {
    /// For tokens `[B, T]`, on the device of `wte`, without autodiff: nothing here wants a gradient.
    pub fn new(config: &ModelConfig, [batch, time]: [usize; 2], wte: &Embedding) -> Self {
        let device = wte.weight.device().inner();
        let rope = config
            .architecture
            .rope_pairs()
            .map(|pairs| Rope::new(time, config.head_width(), config.rope_base, pairs));
        Frame { shape: [batch, time], mask: CausalMask::new(time, &device), rope }
    }

    /// `B` and `T`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// What keeps a position from looking ahead.
    pub fn mask(&self) -> &CausalMask {
        &self.mask
    }

    /// Turns each head by the angles of its position; where positions are learned, does nothing.
    ///
    /// # Shapes
    /// `x [N, heads * D]` -> the same.
    pub fn rotate(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.rope {
            Some(table) => rope(x, table),
            None => x,
        }
    }

    /// [`Frame::rotate`] of the first `columns` of `x [N, all]`.
    pub fn rotate_first(&self, x: Tensor<2>, columns: usize) -> Tensor<2> {
        match &self.rope {
            Some(table) => rope_first(x, columns, table),
            None => x,
        }
    }
}
