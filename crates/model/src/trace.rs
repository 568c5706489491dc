//! Every intermediate result by name, to find the first one that differs.

use burn::tensor::Tensor;

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

/// A list of intermediate results, which are added only if tracing is on.
#[derive(Debug, Clone)]
pub enum Trace {
    /// Off: nothing is copied.
    Off,
    /// On: all results so far.
    On(Vec<Stage>),
}

impl Trace {
    /// Whether tracing is on.
    pub fn is_on(&self) -> bool {
        matches!(self, Trace::On(_))
    }

    /// Adds a copy of `tensor`; `name` is only built if tracing is on.
    pub fn keep<const RANK: usize>(
        &mut self,
        name: impl FnOnce() -> String,
        tensor: &Tensor<RANK>,
    ) {
        if let Trace::On(stages) = self {
            let shape = tensor.dims().to_vec();
            let data = tensor.to_data().iter::<f32>().collect();
            stages.push(Stage { name: name(), shape, data });
        }
    }

    /// The results that were kept.
    pub fn into_stages(self) -> Vec<Stage> {
        match self {
            Trace::Off => Vec::new(),
            Trace::On(stages) => stages,
        }
    }
}
