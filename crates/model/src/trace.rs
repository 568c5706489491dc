//! Every intermediate result by name, for finding the first one that differs.

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

/// A list that intermediate results are added to, if anybody asked for them.
#[derive(Debug, Clone)]
pub enum Trace {
    /// Nobody asked: nothing is copied.
    Off,
    /// Everything so far.
    On(Vec<Stage>),
}

impl Trace {
    /// Whether anybody asked.
    pub fn is_on(&self) -> bool {
        matches!(self, Trace::On(_))
    }

    /// Adds a copy of `tensor`; `name` is only built if anybody asked.
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

    /// What was kept.
    pub fn into_stages(self) -> Vec<Stage> {
        match self {
            Trace::Off => Vec::new(),
            Trace::On(stages) => stages,
        }
    }
}
