//! Error-compensated rounding: codes that make up for each other's errors.
//!
//! llama-quantize rounds each block by itself. What counts, though, is not the error of a weight
//! but that of the outputs, `e X`, and errors of weights whose inputs go together can cancel. The
//! search minimises `Σ e H eᵀ`, `H` the second moments of a matrix's inputs on a calibration text,
//! over everything that the format can store: the shared 16-bit floats of a block, the integers of
//! its groups, and the codes. The bytes are the format's own, and every llama.cpp reads them.
//!
//! | module | does |
//! |---|---|
//! | `calibrate` | reads the text block by block, and quantizes each on the way |
//! | `lockstep` | all windows through one block, stopping at each matrix |
//! | `inputs` | what reaches a matrix, and what its outputs are to be |
//! | `moments` | `H` and the mean of a matrix's inputs |
//! | `factor` | `H` in the form that rounding needs |
//! | `matrix` | the passes over a matrix: LDLQ first, then group by group |
//! | `block` | scales, offsets and codes of one block |
//! | `group` | the arithmetic of one group, 16 scales at a time |
//! | `target` | what is rounded, so that outputs stay those of the model as it was |
//! | `guard` | compares with plain rounding, on text that nothing was fitted to |
//! | `overlay` | the model with the tensors that are done |
//!
//! Followed: Frantar et al., "GPTQ" (2022); Chee et al., "QuIP" (2023), for LDLQ; Behdin et al.,
//! "QuantEase" (2023), for coordinate descent; Li et al., "GPTAQ" (2025), for the target. What is
//! not in them: scales are searched for with the rounding inside, matrices that add to the residual
//! stream make up for all that it has lost, tokens count by the size of their stream, and biases take
//! up the shift of the outputs' mean.

mod block;
mod calibrate;
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
