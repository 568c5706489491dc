//! Default settings of sampling: `generate` and a bundle start with them.
//!
//! The values are llama.cpp's own (`common_params_sampling` in `common/common.h`) for the steps
//! that both programs have; llama.cpp's `min_p` of 0.05 has no counterpart here.

/// Divisor of the logits; 0 is greedy.
pub const TEMPERATURE: f64 = 0.8;
/// Number of most likely tokens to choose from; 0 is all.
pub const TOP_K: usize = 40;
/// Smallest set of most likely tokens whose probabilities reach this; 1 is all.
pub const TOP_P: f64 = 0.95;
/// Divisor of the logits of tokens in the context; 1 changes nothing.
pub const REPETITION_PENALTY: f64 = 1.0;
