//! What a pass reports besides its logits: every intermediate result by name, to find the first one
//! that differs, or the inputs of the matrices, for quantization.

use config::{BlockStage, ForwardStage, StageValues};

use crate::layers::Linear;

/// The input of one or several matrices.
#[derive(Debug, Clone, Copy)]
pub struct MatrixInput<'a> {
    /// The tensors that share the input.
    pub tensors: &'a [&'a str],
    /// The number of the expert, if the tensors contain one matrix for each expert.
    pub expert: Option<usize>,
    /// Matrices in each of these tensors.
    pub matrices: usize,
    /// Columns of each matrix, `in`.
    pub width: usize,
    /// `[T, in]`; of an expert, the rows of the tokens that use it.
    pub rows: &'a [f32],
}

impl MatrixInput<'_> {
    /// Passes on the inputs of matrices that every token uses; those of experts are left out.
    pub(crate) fn hand_to(self, inputs: &mut dyn FnMut(&[&str], &[f32])) {
        if self.expert.is_none() {
            inputs(self.tensors, self.rows);
        }
    }
}

/// Takes the inputs of all matrices, one after the other.
pub(crate) type Inputs<'o> = dyn FnMut(MatrixInput<'_>) + 'o;

/// What a pass reports, and where to.
pub(crate) enum Trace<'o> {
    /// Nothing is reported.
    Off,
    /// Every intermediate result so far.
    Stages(Vec<StageValues>),
    /// Each matrix's input goes here, and nothing is kept.
    Inputs(&'o mut Inputs<'o>),
}

impl<'o> Trace<'o> {
    /// Whether intermediate results are kept.
    pub fn keeps_stages(&self) -> bool {
        matches!(self, Trace::Stages(_))
    }

    /// Adds a copy of `values`, which have `t` rows, if stages are kept.
    pub fn keep(&mut self, stage: ForwardStage, t: usize, values: &[f32]) {
        if let Trace::Stages(stages) = self {
            let shape = vec![t, values.len() / t];
            stages.push(StageValues { stage, shape, values: values.to_vec() });
        }
    }

    /// Reports the input of the matrix called `tensor`, `[T, in]`.
    pub fn input(&mut self, tensor: &str, width: usize, x: &[f32]) {
        if let Trace::Inputs(take) = self {
            take(MatrixInput { tensors: &[tensor], expert: None, matrices: 1, width, rows: x });
        }
    }

    /// The trace of one block, whose stages are `blk.LAYER.*`.
    pub fn block(&mut self, layer: usize) -> BlockTrace<'_, 'o> {
        BlockTrace { trace: self, layer }
    }

    /// The stages that were kept.
    pub fn into_stages(self) -> Vec<StageValues> {
        match self {
            Trace::Stages(stages) => stages,
            Trace::Off | Trace::Inputs(_) => Vec::new(),
        }
    }
}

/// The part of a [`Trace`] for one block.
pub(crate) struct BlockTrace<'a, 'o> {
    trace: &'a mut Trace<'o>,
    layer: usize,
}

impl BlockTrace<'_, '_> {
    /// Whether intermediate results are kept.
    pub fn keeps_stages(&self) -> bool {
        self.trace.keeps_stages()
    }

    /// As [`Trace::keep`].
    pub fn keep(&mut self, stage: BlockStage, t: usize, values: &[f32]) {
        self.trace.keep(ForwardStage::Block(self.layer, stage), t, values);
    }

    /// As [`BlockTrace::keep`], of values that are not `[T, width]`.
    pub fn keep_shaped(&mut self, stage: BlockStage, shape: [usize; 3], values: &[f32]) {
        if let Trace::Stages(stages) = self.trace {
            let stage = ForwardStage::Block(self.layer, stage);
            stages.push(StageValues { stage, shape: shape.to_vec(), values: values.to_vec() });
        }
    }

    /// Reports the input of these matrices, `[T, in]`.
    pub fn input<'m>(&mut self, matrices: impl IntoIterator<Item = &'m Linear>, x: &[f32]) {
        if let Trace::Inputs(take) = self.trace {
            let mut matrices = matrices.into_iter().peekable();
            let width = matrices.peek().map_or(1, |matrix| matrix.width());
            let tensors: Vec<&str> = matrices.map(Linear::tensor).collect();
            take(MatrixInput { tensors: &tensors, expert: None, matrices: 1, width, rows: x });
        }
    }

    /// Reports the input of the matrices of one expert.
    pub fn expert_input(&mut self, input: MatrixInput<'_>) {
        if let Trace::Inputs(take) = self.trace {
            take(input);
        }
    }
}
