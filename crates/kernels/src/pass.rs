//! How a forward pass computes, besides what it computes.

use crate::dropout::Dropout;

/// Number format of matrix products and of what they read; everything else is f32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Operands and sums in f32.
    #[default]
    F32,
    /// Operands rounded to bf16, sums in f32. Plain operations compute in f32 all the same.
    Bf16,
}

/// What one forward pass does: the default is evaluation in f32.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pass {
    /// What is dropped; nothing outside of training.
    pub dropout: Option<Dropout>,
    /// Number format of matrix products.
    pub precision: Precision,
    /// Whether the backward pass computes each block again in place of keeping its insides.
    pub checkpointing: bool,
}

impl Pass {
    /// The same pass at one site: a layer, or a place in a layer.
    #[must_use]
    pub fn at(self, site: u64) -> Self {
        Pass { dropout: self.dropout.map(|dropout| dropout.at(site)), ..self }
    }
}
