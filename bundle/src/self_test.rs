//! The self-test: the model in the fragments must continue a prompt as it did when it was packed.
//!
//! The continuation is greedy and computed by `reference`, whose sums do not depend on the number
//! of threads, so the tokens are the same on every machine of one kind.

use anyhow::{Context, bail};
use gguf::TensorSource;
use reference::Model;
use reference::ops::argmax;

/// The `count` tokens that follow `prompt`, each the most likely one. They end early with a token
/// of `ends`, as in llama.cpp on the device.
///
/// # Errors
/// When the model cannot be loaded, the tokens do not fit its context or vocabulary, or a logit is
/// not finite, so that the tokens cannot be ranked.
pub fn continuation(
    source: &dyn TensorSource,
    prompt: &[u32],
    count: usize,
    ends: &[u32],
) -> anyhow::Result<Vec<u32>> {
    let config = checkpoint::gguf_config(source)?;
    // A device allocates memory for the whole context.
    let room = config.context_length;
    let model = Model::from_parts(config.with_rotation_for(room), source)
        .context("the model does not load")?;
    let mut session = model.session();
    let mut logits = session.push(prompt)?;
    let mut tokens = Vec::with_capacity(count);
    while tokens.len() < count {
        check_finite(&logits, tokens.len())?;
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

fn check_finite(logits: &[f32], position: usize) -> anyhow::Result<()> {
    match logits.iter().enumerate().find(|(_, logit)| !logit.is_finite()) {
        None => Ok(()),
        Some((token, logit)) => bail!(
            "the logit of token {token} is {logit} at position {position} after the prompt: expected \
             a finite number; the weights are damaged"
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails says where")]
mod tests {
    use super::check_finite;

    #[test]
    fn what_is_no_number_is_named() {
        check_finite(&[0.0, -1e30], 0).unwrap();
        for logit in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = check_finite(&[0.0, logit], 3).unwrap_err().to_string();
            assert!(error.contains("the logit of token 1 is") && error.contains("position 3"));
        }
    }
}
