//! How tokens are drawn where nobody says: what `generate` and a bundle begin with.
//!
//! The values are llama.cpp's own (`common_params_sampling` in `common/common.h`), for the steps
//! that both programs have; llama.cpp's `min_p` of 0.05 has no counterpart here.

/// Divides the logits; 0 is greedy.
pub const TEMPERATURE: f64 = 0.8;
/// Likeliest tokens to choose from; 0 is all.
pub const TOP_K: usize = 40;
/// Smallest set of likeliest tokens whose probabilities reach this; 1 is all.
pub const TOP_P: f64 = 0.95;
/// Logits of tokens seen before are divided by this; 1 changes nothing.
pub const REPETITION_PENALTY: f64 = 1.0;
