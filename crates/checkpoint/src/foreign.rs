//! The same weights as others write them, seen as our own table of names has them.
//!
//! OpenAI's GPT-2 on Hugging Face is a bare `GPT2Model`: its names lack the `transformer.` that
//! `GPT2LMHeadModel` puts before them. Other writers store a tied head a second time.

use config::{Architecture, ModelConfig};

use crate::{CheckpointError, Weights};

const PREFIX: &str = "transformer.";
const EMBEDDING: &str = "transformer.wte.weight";
const HEAD: &str = "lm_head.weight";

/// Weights that are compared at a time.
const PIECE: usize = 4 << 20;

/// Renames tensors to those of our table and forgets those that repeat another.
///
/// A file that has some names with the prefix and some without is left as it is, so that the
/// check against the table names one of them.
pub(crate) fn adapt(weights: &mut Weights, config: &ModelConfig) -> Result<(), CheckpointError> {
    match config.architecture {
        Architecture::Gpt2 => gpt2(weights, config),
        _ => unimplemented!("tables of this family"),
    }
}

fn gpt2(weights: &mut Weights, config: &ModelConfig) -> Result<(), CheckpointError> {
    if !weights.names().any(|name| name.starts_with(PREFIX)) {
        weights.rename(|name| match name.starts_with("lm_head.") {
            true => name.to_owned(),
            false => format!("{PREFIX}{name}"),
        });
    }
    if config.tie_embeddings && weights.contains(HEAD) && weights.contains(EMBEDDING) {
        check_same(weights)?;
        weights.remove(HEAD);
    }
    Ok(())
}

/// A tied model has one matrix; a head beside it that differs is another model's.
fn check_same(weights: &Weights) -> Result<(), CheckpointError> {
    let refuse = |what: String| CheckpointError::Content {
        path: weights.path().to_owned(),
        reason: format!(
            "{what}, but config.json ties the two; set \"tie_word_embeddings\": false if the \
             model has a head of its own"
        ),
    };
    let (head, embedding) = (weights.shape(HEAD)?, weights.shape(EMBEDDING)?);
    if head != embedding {
        return Err(refuse(format!("{HEAD} has shape {head:?} and {EMBEDDING} {embedding:?}")));
    }
    let elements: usize = head.iter().product();
    let mut pieces = [vec![0.0; PIECE.min(elements)], vec![0.0; PIECE.min(elements)]];
    for first in (0..elements).step_by(PIECE) {
        let length = PIECE.min(elements - first);
        let [head, embedding] = pieces.each_mut().map(|piece| &mut piece[..length]);
        weights.read_f32_at(HEAD, first, head)?;
        weights.read_f32_at(EMBEDDING, first, embedding)?;
        if let Some(at) = (0..length).find(|&i| head[i] != embedding[i]) {
            return Err(refuse(format!(
                "{HEAD} and {EMBEDDING} differ at position {}",
                first + at
            )));
        }
    }
    Ok(())
}
