//! What each family of models implements; [`crate::Model`] does the rest for all of them.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use config::{ModelConfig, Rotation};
use kernels::{CausalMask, Documents, Pass, Rope, checkpointed, rope, rope_first};

use crate::layers::{Embedding, Linear};
use crate::trace::{BlockTrace, Trace};

/// A model without its head.
pub(crate) trait Family {
    /// The settings that determine the shapes.
    fn config(&self) -> &ModelConfig;

    /// Token embedding `[V, C]`.
    fn wte(&self) -> &Embedding;

    /// The output head `[C, V]`, without bias; `None` if the head is `wte` transposed.
    fn lm_head(&self) -> Option<&Linear>;

    /// The residual stream after the last normalisation, which is the input of the head.
    ///
    /// # Shapes
    /// `tokens [B, T]` -> `[N, C]`. Without `documents`, each row is one.
    fn hidden(
        &self,
        tokens: Tensor<2, Int>,
        documents: Option<Documents>,
        pass: Pass,
        trace: &mut Trace,
    ) -> Tensor<2>;
}

/// A block's forward pass. The arguments are the block, `x [N, C]`, its frame, the pass for its
/// site and its trace.
type Forward<B> = fn(&B, Tensor<2>, &Frame, Pass, BlockTrace<'_>) -> Tensor<2>;

/// Runs `x [N, C]` through all blocks, each with its own entry of `frames`; `pass` determines what
/// they keep for the backward pass.
pub(crate) fn through<B: Module + 'static>(
    blocks: &[B],
    mut x: Tensor<2>,
    forward: Forward<B>,
    frames: &[Frame],
    pass: Pass,
    trace: &mut Trace,
) -> Tensor<2> {
    for (i, (block, frame)) in blocks.iter().zip(frames).enumerate() {
        let pass = pass.at(i as u64 + 1);
        x = if pass.checkpointing {
            let frame = frame.clone();
            let again = move |block: &B, x| forward(block, x, &frame, pass, Trace::Off.block(i));
            checkpointed(block, x, again)
        } else {
            forward(block, x, frame, pass, trace.block(i))
        };
    }
    x
}

/// The mask and the rotation of a block. Blocks with the same mask or rotation share it.
#[derive(Clone)]
pub(crate) struct Frame {
    mask: CausalMask,
    rope: Option<Rope>,
}

impl Frame {
    /// One for each block, for tokens `[B, T]`, on the device of `wte`, without autodiff because
    /// nothing here needs a gradient.
    ///
    /// Rotations count positions from the start of the row in each document: scores depend on the
    /// difference of two angles only, which is the same from wherever they are counted. This holds
    /// for scaled angles too (Llama 3, linear), which are multiples of the position. LongRoPE
    /// chooses among two scalings by the length of a text, which is here the longest document of
    /// the batch, as in transformers, where position ids that begin anew decide.
    pub fn of_layers(
        config: &ModelConfig,
        shape: [usize; 2],
        documents: Option<&Documents>,
        wte: &Embedding,
    ) -> Vec<Self> {
        let (device, [_, time]) = (wte.weight.device().inner(), shape);
        let longest = documents.map_or(time, Documents::longest);
        let rope = |rotation| config.rope(rotation, longest).map(|shape| Rope::new(time, &shape));
        let [global, local] = [Rotation::Global, Rotation::Local].map(rope);
        let within = |mask: CausalMask| mask.within(documents.cloned());
        let all = within(CausalMask::new(time, &device));
        let window = config.attention.window;
        let last = window.map(|window| CausalMask::with_window(time, window.size, &device));
        let last = last.map(within);
        let frame = |layer| {
            let attention = config.layer_attention(layer);
            let rope = attention.rotation.and_then(|rotation| match rotation {
                Rotation::Global => global.clone(),
                Rotation::Local => local.clone(),
            });
            let mask = attention.window.and_then(|_| last.clone()).unwrap_or_else(|| all.clone());
            Frame { mask, rope }
        };
        (0..config.n_layer).map(frame).collect()
    }

    /// The mask that hides later positions, those before the window and those of other documents.
    pub fn mask(&self) -> &CausalMask {
        &self.mask
    }

    /// Whether the layer has a rotation.
    pub fn rotates(&self) -> bool {
        self.rope.is_some()
    }

    /// Rotates each head by the angles of its position; does nothing if the layer has no rotation.
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
