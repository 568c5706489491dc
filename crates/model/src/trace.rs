//! Keeps the intermediate results of a pass, to find the first one that differs. `crates/reference`
//! has the same stages.

use burn::tensor::Tensor;
use config::{BlockStage, ForwardStage, StageValues};

/// A list of intermediate results, which are added only if tracing is on.
#[derive(Debug, Clone)]
pub(crate) enum Trace {
    /// Off: nothing is copied.
    Off,
    /// On: all results so far.
    On(Vec<StageValues>),
}

impl Trace {
    /// Adds a copy of `tensor`.
    pub fn keep(&mut self, stage: ForwardStage, tensor: &Tensor<2>) {
        if let Trace::On(stages) = self {
            stages.push(values(stage, tensor));
        }
    }

    /// The trace of one block, whose stages are `blk.LAYER.*`.
    pub fn block(&mut self, layer: usize) -> BlockTrace<'_> {
        BlockTrace { trace: self, layer }
    }

    /// The results that were kept.
    pub fn into_stages(self) -> Vec<StageValues> {
        match self {
            Trace::Off => Vec::new(),
            Trace::On(stages) => stages,
        }
    }
}

/// The part of a [`Trace`] for one block.
pub(crate) struct BlockTrace<'a> {
    trace: &'a mut Trace,
    layer: usize,
}

impl BlockTrace<'_> {
    /// As [`Trace::keep`].
    pub fn keep(&mut self, stage: BlockStage, tensor: &Tensor<2>) {
        self.trace.keep(ForwardStage::Block(self.layer, stage), tensor);
    }

    /// As [`BlockTrace::keep`], of a tensor that only a trace needs, because the pass computes it
    /// inside of a kernel.
    pub fn keep_inner<const RANK: usize>(
        &mut self,
        stage: BlockStage,
        compute: impl FnOnce() -> Tensor<RANK>,
    ) {
        if let Trace::On(stages) = self.trace {
            stages.push(values(ForwardStage::Block(self.layer, stage), &compute()));
        }
    }
}

fn values<const RANK: usize>(stage: ForwardStage, tensor: &Tensor<RANK>) -> StageValues {
    let values = tensor.to_data().iter::<f32>().collect();
    StageValues { stage, shape: tensor.dims().to_vec(), values }
}
