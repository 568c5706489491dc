//! The operations of [`crate::cpu`] as nodes of Burn's graph, for tensors on Flex.
//!
//! Each function here takes and gives Burn tensors, runs the slices' operation, and where a
//! gradient is wanted leaves behind a node that knows its backward pass. [`on_flex`] says whether a
//! tensor's device is one that these functions take.

mod attention;
mod graph;
mod head;
mod layer_norm;
mod linear;
mod pointwise;

pub(crate) use attention::causal_attention;
pub(crate) use graph::on_flex;
pub(crate) use head::head_loss;
pub(crate) use layer_norm::layer_norm;
pub(crate) use linear::linear;
pub(crate) use pointwise::{dropout, gelu};
