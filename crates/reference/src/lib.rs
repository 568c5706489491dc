//! A reference implementation of the forward pass in plain Rust.
//!
//! Training uses Burn, and devices use llama.cpp; this crate decides which is right if their
//! results differ. It does not share arithmetic with either: weights are dequantized to f32, every
//! sum is computed here, and each family ([`gpt2`](self), [`llama`](self)) is written in the order
//! of computation. It is slower than the others, but not slow, because its one hot loop
//! ([`matmul`]) uses the machine's vector registers.
//!
//! Letters used for shapes: `B` batch, `T` time, `C` channels, `H` heads of queries, `K` heads of
//! keys and values, `D` head width, `V` vocabulary, `F` feed-forward. All arrays are row-major f32.
//!
//! The result for one position does not depend on how many positions were computed together, nor
//! on the number of threads: every output element is the same sum in the same order. So a
//! [`Session`], which computes only what is new, gives the same bits as [`Model::logits`].
//!
//! ```no_run
//! # fn demo(source: &dyn gguf::TensorSource) -> Result<(), reference::ReferenceError> {
//! let model = reference::Model::load(source)?;
//! let mut session = model.session();
//! let next_token_logits = session.push(&[15496, 11, 995])?; // [V]
//! # Ok(()) }
//! ```

mod attention;
mod blockwise;
mod cache;
mod error;
mod experts;
mod gpt2;
mod layers;
mod llama;
pub mod matmul;
mod memory;
mod model;
pub mod ops;
mod rope;
mod trace;
mod weights;

pub use blockwise::{Blockwise, LoadedBlock, LoadedEmbedding, LoadedHead, LoadedNorm};
pub use error::ReferenceError;
pub use memory::MemorySource;
pub use model::{Model, Session};
pub use trace::MatrixInput;
