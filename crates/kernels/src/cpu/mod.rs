//! The operations themselves, each in one pass over memory: slices in, slices out, no tensor library.
//!
//! Each file holds one operation with its gradient, headed by the mathematics it does. Products
//! of matrices are vectorised by hand ([`matmul`]); everything else is written so that the
//! compiler vectorises it, once for each instruction set (`isa::vectorised`). Every function takes
//! the instruction set, or an [`arithmetic::Arithmetic`] that has one.

pub mod arithmetic;
pub mod attention;
pub mod distillation;
pub mod elementwise;
pub mod embedding;
pub mod head;
pub mod layer_norm;
pub mod linear;
pub mod matmul;
pub mod rms_norm;
pub mod rope;
pub mod simd;
pub mod swiglu;
#[cfg(test)]
mod testing;
