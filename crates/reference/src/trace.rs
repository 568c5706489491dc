//! What a pass tells besides its logits: every intermediate result by name, for finding the first
//! one that differs, or the inputs of the matrices, for those who quantize them.

use crate::layers::Linear;

/// One intermediate result.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// For example `h.0.attn.weights`; names follow minGPT and Hugging Face.
    pub name: String,
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    /// Row-major.
    pub data: Vec<f32>,
}

/// What some matrices are about to be multiplied with.
#[derive(Debug, Clone, Copy)]
pub struct MatrixInput<'a> {
    /// The tensors that share the input.
    pub tensors: &'a [&'a str],
    /// Which of the matrices in these tensors it is for, where they hold one for each expert.
    pub expert: Option<usize>,
    /// Matrices in each of these tensors.
    pub matrices: usize,
    /// Columns of each matrix, `in`.
    pub width: usize,
    /// `[T, in]`; of an expert, the rows of the tokens that use it.
    pub rows: &'a [f32],
}

impl MatrixInput<'_> {
    /// Hands on what every token meets; what is for one expert is left out.
    pub(crate) fn hand_to(self, inputs: &mut dyn FnMut(&[&str], &[f32])) {
        if self.expert.is_none() {
            inputs(self.tensors, self.rows);
        }
    }
}

/// Takes the inputs of all matrices, one after the other.
pub(crate) type Inputs<'o> = dyn FnMut(MatrixInput<'_>) + 'o;

/// Where a pass reports what it comes by, if anybody asked.
pub(crate) enum Trace<'o> {
    /// Nobody asked.
    Off,
    /// Every intermediate result so far.
    Stages(Vec<Stage>),
    /// Each matrix's input goes here, and nothing is kept.
    Inputs(&'o mut Inputs<'o>),
}

impl<'o> Trace<'o> {
    /// Whether intermediate results are kept.
    pub fn keeps_stages(&self) -> bool {
        matches!(self, Trace::Stages(_))
    }

    /// Adds a copy of `data`; `name` is only built if anybody asked.
    pub fn keep(&mut self, name: impl FnOnce() -> String, shape: &[usize], data: &[f32]) {
        if let Trace::Stages(stages) = self {
            debug_assert_eq!(shape.iter().product::<usize>(), data.len());
            stages.push(Stage { name: name(), shape: shape.to_vec(), data: data.to_vec() });
        }
    }

    /// Shows what the matrix called `tensor` is about to be multiplied with, `[T, in]`.
    pub fn input(&mut self, tensor: &str, width: usize, x: &[f32]) {
        if let Trace::Inputs(take) = self {
            take(MatrixInput { tensors: &[tensor], expert: None, matrices: 1, width, rows: x });
        }
    }

    /// The steps of one block, under the name `h.LAYER.`.
    pub fn block(&mut self, layer: usize) -> BlockTrace<'_, 'o> {
        BlockTrace { trace: self, layer }
    }

    /// What was kept.
    pub fn into_stages(self) -> Vec<Stage> {
        match self {
            Trace::Stages(stages) => stages,
            Trace::Off | Trace::Inputs(_) => Vec::new(),
        }
    }
}

/// The part of a [`Trace`] that one block sees.
pub(crate) struct BlockTrace<'a, 'o> {
    trace: &'a mut Trace<'o>,
    layer: usize,
}

impl BlockTrace<'_, '_> {
    /// Whether intermediate results are kept.
    pub fn keeps_stages(&self) -> bool {
        self.trace.keeps_stages()
    }

    /// Adds a copy of `data`.
    pub fn keep(&mut self, step: &str, shape: &[usize], data: &[f32]) {
        self.trace.keep(|| format!("h.{}.{step}", self.layer), shape, data);
    }

    /// Shows what these matrices are about to be multiplied with, `[T, in]`.
    pub fn input<'m>(&mut self, matrices: impl IntoIterator<Item = &'m Linear>, x: &[f32]) {
        if let Trace::Inputs(take) = self.trace {
            let mut matrices = matrices.into_iter().peekable();
            let width = matrices.peek().map_or(1, |matrix| matrix.width());
            let tensors: Vec<&str> = matrices.map(Linear::tensor).collect();
            take(MatrixInput { tensors: &tensors, expert: None, matrices: 1, width, rows: x });
        }
    }

    /// Shows what the matrices of one expert are about to be multiplied with.
    pub fn expert_input(&mut self, input: MatrixInput<'_>) {
        if let Trace::Inputs(take) = self.trace {
            take(input);
        }
    }
}
