//! Initial values of weights.

use config::{Initialization, ModelConfig};
use kernels::random;

/// Standard deviation of the weights with [`Initialization::Gpt2`].
const DEVIATION: f32 = 0.02;

/// The values of the parameter at a Burn path. Scales start at 1 and shifts at 0; for the rest see
/// [`Initialization`].
///
/// [`Initialization::Gpt2`]: the standard deviation of the projections into the residual stream is
/// divided by `sqrt(2 n_layer)`, so that the stream's variance does not increase with the depth;
/// biases are 0 (Radford et al., 2019, 2.3; nanoGPT's `model.py`).
pub(crate) fn values(
    config: &ModelConfig,
    initialization: Initialization,
    seed: u64,
    path: &str,
    shape: &[usize],
) -> Vec<f32> {
    let len = shape.iter().product();
    let key = random::derive_named(seed, path);
    let name = path.rsplit('.').next();
    match (name, initialization) {
        (Some("gamma"), _) => vec![1.0 - config.architecture.block().norm_weight.offset(); len],
        (Some("beta"), _) | (Some("bias"), Initialization::Gpt2) => vec![0.0; len],
        (_, Initialization::Gpt2) if ends_in_residual_stream(path) => {
            random::normal(key, len, DEVIATION / (2.0 * config.n_layer as f32).sqrt())
        }
        (_, Initialization::Gpt2) => random::normal(key, len, DEVIATION),
        _ if path.starts_with("wte.") || path.starts_with("wpe.") => random::normal(key, len, 1.0),
        _ => {
            let inputs = match path {
                _ if leaves_feed_forward(path) => config.n_inner,
                _ if path.contains("attn.output.") => config.q_width(),
                _ => config.n_embd,
            };
            random::uniform_within(key, len, 1.0 / (inputs as f32).sqrt())
        }
    }
}

fn ends_in_residual_stream(path: &str) -> bool {
    let matrices = ["attn.c_proj.weight", "attn.output.weight"];
    matrices.iter().any(|end| path.ends_with(end))
        || (leaves_feed_forward(path) && path.ends_with(".weight"))
}

/// Whether this is the projection from `F` down to `C`, or its bias.
fn leaves_feed_forward(path: &str) -> bool {
    path.contains("mlp.c_proj.") || path.contains("mlp.down.")
}
