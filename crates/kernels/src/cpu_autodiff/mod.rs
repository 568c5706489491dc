//! The operations of [`crate::cpu`] as nodes of Burn's graph, for tensors on Flex.
//!
//! Each function here takes and gives Burn tensors, runs the slices' operation, and where a
//! gradient is wanted leaves behind a node that knows its backward pass. [`crate::dispatch`]
//! decides whether they run.

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
pub(crate) use head::{distilled_head_loss, head_loss};
pub(crate) use linear::{gelu_linear, linear, swiglu_linear};
pub(crate) use norm::{layer_norm, rms_norm};
pub(crate) use pointwise::{dropout, gelu, swiglu};
pub(crate) use rewrite::rewrite;
pub(crate) use rope::rope;

use crate::graph;

/// A tensor on Flex, taken apart.
type Operand = graph::Operand<Flex>;
/// Flex's own tensor.
type Raw = graph::Raw<Flex>;
/// Flex's tensor in a graph.
type Tracked = graph::Tracked<Flex>;
