//! Does the model in these fragments still say what it said when it was packed?
//!
//! The answer is greedy and comes from `reference`, whose sums do not depend on the number of
//! threads, so it is the same tokens on every machine of one kind.

use anyhow::Context;
use gguf::TensorSource;
use reference::Model;
use reference::ops::argmax;

/// The `count` tokens that follow `prompt`, each the likeliest; fewer, if one of `ends` is among
/// them, which is the last then. So llama.cpp on the device does it.
///
/// # Errors
/// When the model cannot be loaded or the tokens do not fit its context or vocabulary.
pub fn continuation(
    source: &dyn TensorSource,
    prompt: &[u32],
    count: usize,
    ends: &[u32],
) -> anyhow::Result<Vec<u32>> {
    let config = checkpoint::gguf_config(source)?;
    // A device makes room for the whole context.
    let room = config.context_length;
    let model = Model::from_parts(config.with_rotation_for(room), source)
        .context("the model does not load")?;
    let mut session = model.session();
    let mut logits = session.push(prompt)?;
    let mut tokens = Vec::with_capacity(count);
    while tokens.len() < count {
        let next = argmax(&logits) as u32;
        tokens.push(next);
        if ends.contains(&next) {
            break;
        }
        if tokens.len() < count {
            logits = session.push(&[next])?;
        }
    }
    Ok(tokens)
}
