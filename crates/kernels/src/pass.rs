//! Settings of a forward pass.

use crate::dropout::Dropout;

/// Number format of matrix products and of their inputs; everything else is always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Operands and sums in f32.
    #[default]
    F32,
    /// Operands rounded to bf16, sums in f32. Plain operations still compute in f32.
    Bf16,
}

/// The settings of one forward pass; the default is evaluation in f32.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pass {
    /// The dropout; `None` outside of training.
    pub dropout: Option<Dropout>,
    /// The dropout on the inputs of adapters; `None` outside of their training.
    pub adapter_dropout: Option<Dropout>,
    /// Number format of matrix products.
    pub precision: Precision,
    /// Whether the backward pass computes each block again instead of keeping its activations.
    pub checkpointing: bool,
}

impl Pass {
    /// The same settings for one site, that is, for a layer or a place in a layer.
    #[must_use]
    pub fn at(self, site: u64) -> Self {
        let [dropout, adapter_dropout] =
            [self.dropout, self.adapter_dropout].map(|dropout| Some(dropout?.at(site)));
        Pass { dropout, adapter_dropout, ..self }
    }
}
