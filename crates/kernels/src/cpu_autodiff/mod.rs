//! The operations of [`crate::cpu`] as nodes of Burn's graph, for tensors on Flex.
//!
//! Each function takes and returns Burn tensors and runs the operation on their slices. If a
//! gradient is needed, it adds a node with the backward pass to the graph. [`crate::dispatch`]
//! decides whether these functions are used.

/// Evaluates an expression with the arithmetic of a [`Precision`](crate::Precision) on the best
/// instruction set.
macro_rules! with_math {
    ($precision:expr, |$math:ident| $work:expr) => {{
        let isa = ::isa::Isa::best();
        match $precision {
            $crate::Precision::F32 => {
                let $math = $crate::cpu::arithmetic::F32(isa);
                $work
            }
            $crate::Precision::Bf16 => {
                let $math = $crate::cpu::arithmetic::Bf16(isa);
                $work
            }
        }
    }};
}

use burn::backend::Flex;

mod attention;
mod embedding;
mod head;
mod linear;
mod norm;
mod pointwise;
mod rewrite;
mod rope;

pub(crate) use attention::{causal_attention, grouped_attention};
pub(crate) use embedding::embedding;
pub(crate) use head::{distilled_head_loss, head_loss, head_losses};
pub(crate) use linear::{gelu_linear, linear, swiglu_linear};
pub(crate) use norm::{layer_norm, rms_norm};
pub(crate) use pointwise::{dropout, gelu, swiglu};
pub(crate) use rewrite::rewrite;
pub(crate) use rope::rope;

use crate::graph;

/// The parts of a tensor on Flex.
type Operand = graph::Operand<Flex>;
/// Flex's own tensor.
type Raw = graph::Raw<Flex>;
/// Flex's tensor in an autodiff graph.
type Tracked = graph::Tracked<Flex>;
