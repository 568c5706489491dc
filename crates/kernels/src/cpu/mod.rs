//! The operations on the CPU, each in one pass over memory, on slices and without a tensor library.
//!
//! Each file contains one operation with its gradient, and begins with the formulas. Products of
//! matrices are vectorised by hand ([`matmul`]); everything else is written so that the compiler
//! vectorises it, once for each instruction set (`isa::vectorised`). Every function takes the
//! instruction set, or an [`arithmetic::Arithmetic`] that contains one.

pub mod arithmetic;
pub mod attention;
pub mod distillation;
pub mod elementwise;
pub mod embedding;
pub mod head;
pub mod layer_norm;
mod limited;
pub mod linear;
pub mod matmul;
pub mod rms_norm;
pub mod rope;
pub mod simd;
pub mod swiglu;
#[cfg(test)]
mod testing;
