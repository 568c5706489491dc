//! Error-compensated rounding: searches for codes whose errors compensate each other.
//!
//! llama-quantize rounds each block separately. However, the error that matters is that of the
//! outputs, `e X`, not that of a weight, and errors of weights with correlated inputs can cancel.
//! The search minimises `Σ e H eᵀ`, `H` the second moments of a matrix's inputs on a calibration
//! text, over everything that the format can store: the shared 16-bit floats of a block, the
//! integers of its groups, and the codes. The format does not change, and every llama.cpp reads it.
//!
//! | module | does |
//! |---|---|
//! | `calibrate` | reads the text block by block, and quantizes each on the way |
//! | `lockstep` | all windows through one block, stopping at each matrix |
//! | `inputs` | what reaches a matrix, and what its outputs are to be |
//! | `moments` | `H` and the mean of a matrix's inputs |
//! | `dense` | Cholesky factors with the same bits on every machine |
//! | `factor` | `H` in the form that rounding needs |
//! | `matrix` | the passes over a matrix: LDLQ first, then group by group |
//! | `block` | scales, offsets and codes of one block |
//! | `group` | the arithmetic of one group, 16 scales at a time |
//! | `target` | what is rounded, so that outputs stay those of the model as it was |
//! | `guard` | compares with plain rounding, on text that nothing was fitted to |
//! | `overlay` | the model with the tensors that are done |
//!
//! Sources: Frantar et al., "GPTQ" (2022); Chee et al., "QuIP" (2023), for LDLQ; Behdin et al.,
//! "QuantEase" (2023), for coordinate descent; Li et al., "GPTAQ" (2025), for the target. Not in
//! these papers: scales are searched for with the rounding inside, matrices that add to the
//! residual stream compensate everything that it has lost, tokens are weighted by the size of their
//! stream, and biases compensate the shift of the outputs' mean.

mod block;
mod calibrate;
mod dense;
mod factor;
mod group;
mod guard;
mod inputs;
mod lockstep;
mod matrix;
mod moments;
mod overlay;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use calibrate::{SearchJob, search_model};
pub(crate) use guard::Verdict;
pub(crate) use overlay::Overlay;
