//! Every intermediate result by name, for finding the first one that differs.

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
pub(crate) enum Trace {
    /// Nobody asked.
    Off,
    /// Everything so far.
    On(Vec<Stage>),
}

impl Trace {
    /// Whether anybody asked.
    pub fn is_on(&self) -> bool {
        matches!(self, Trace::On(_))
    }

    /// Adds a copy of `data`; `name` is only built if anybody asked.
    pub fn keep(&mut self, name: impl FnOnce() -> String, shape: &[usize], data: &[f32]) {
        if let Trace::On(stages) = self {
            debug_assert_eq!(shape.iter().product::<usize>(), data.len());
            stages.push(Stage { name: name(), shape: shape.to_vec(), data: data.to_vec() });
        }
    }

    /// The steps of one block, under the name `h.LAYER.`.
    pub fn block(&mut self, layer: usize) -> BlockTrace<'_> {
        BlockTrace { trace: self, layer }
    }

    /// What was kept.
    pub fn into_stages(self) -> Vec<Stage> {
        match self {
            Trace::Off => Vec::new(),
            Trace::On(stages) => stages,
        }
    }
}

/// The part of a [`Trace`] that one block sees.
pub(crate) struct BlockTrace<'a> {
    trace: &'a mut Trace,
    layer: usize,
}

impl BlockTrace<'_> {
    /// Whether anybody asked.
    pub fn is_on(&self) -> bool {
        self.trace.is_on()
    }

    /// Adds a copy of `data`.
    pub fn keep(&mut self, step: &str, shape: &[usize], data: &[f32]) {
        self.trace.keep(|| format!("h.{}.{step}", self.layer), shape, data);
    }
}
