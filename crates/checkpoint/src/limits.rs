//! Sizes that a file states, held against what is believed; and files read with a cap.

use std::io::Read;
use std::path::Path;

use config::{Experts, HasExperts, ModelConfig, RopeScaling, limits};

use crate::CheckpointError;

/// `config.json` and its like.
pub(crate) const SMALL_JSON_BYTES: u64 = 1 << 20;

/// `tokenizer.json`: GPT-2's has 1.4 MB, the largest vocabularies in use about 30 MB.
pub(crate) const TOKENIZER_BYTES: u64 = 256 << 20;

/// Reads a text file of at most `limit` bytes.
///
/// # Errors
/// When it cannot be read, is longer, is no UTF-8, or is a Git LFS pointer.
pub fn read_text(path: &Path, limit: u64) -> Result<String, CheckpointError> {
    let file = plain_file::open_stream(path).map_err(CheckpointError::io(path))?;
    let too_large = |size| Err(CheckpointError::TooLarge { path: path.to_owned(), size, limit });
    let size = file.metadata().map_err(CheckpointError::io(path))?.len();
    if size > limit {
        return too_large(size);
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(CheckpointError::io(path))?;
    // A pipe does not say how long it is, and a file may grow meanwhile.
    if bytes.len() as u64 > limit {
        return too_large(bytes.len() as u64);
    }
    let no_text = |error| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    let text = String::from_utf8(bytes).map_err(no_text).map_err(CheckpointError::io(path))?;
    check_fetched(path, text.as_bytes())?;
    Ok(text)
}

/// Refuses a file that begins as a Git LFS pointer does: a repository was cloned without the large
/// files.
///
/// # Errors
/// When it is one.
pub fn check_fetched(path: &Path, start: &[u8]) -> Result<(), CheckpointError> {
    match start.starts_with(gguf::GIT_LFS_POINTER) {
        true => Err(CheckpointError::GitLfsPointer { path: path.to_owned() }),
        false => Ok(()),
    }
}

/// Refuses a model whose sizes are zero, contradict each other, or would overflow when they are
/// multiplied. `place` names the file; `keys` are the names that its settings have there.
pub(crate) fn check(
    config: &ModelConfig,
    place: &Path,
    keys: &SizeKeys,
) -> Result<(), CheckpointError> {
    let refuse = |key: &str, value: String, expected: String| {
        let (place, key) = (place.to_owned(), key.to_owned());
        Err(CheckpointError::Setting { place, key, value, expected })
    };
    for (key, value, most) in [
        (&keys.vocab_size, config.vocab_size, limits::VOCAB_SIZE),
        (&keys.context_length, config.context_length, limits::CONTEXT_LENGTH),
        (&keys.n_layer, config.n_layer, limits::N_LAYER),
        (&keys.n_head, config.n_head, limits::N_HEAD),
        (&keys.n_embd, config.n_embd, limits::N_EMBD),
        (&keys.n_inner, config.n_inner, limits::N_INNER),
    ] {
        if !(1..=most).contains(&value) {
            return refuse(key, value.to_string(), format!("1 to {most}"));
        }
    }
    check_experts(config, place, keys)?;
    if config.attention.head_width.is_none() && !config.n_embd.is_multiple_of(config.n_head) {
        let expected = format!("a divisor of {} = {}", keys.n_embd, config.n_embd);
        return refuse(&keys.n_head, config.n_head.to_string(), expected);
    }
    let kv = config.n_kv_head;
    if kv == 0 || !config.n_head.is_multiple_of(kv) {
        let expected = format!("a divisor of {} = {}", keys.n_head, config.n_head);
        return refuse(&keys.n_kv_head, kv.to_string(), expected);
    }
    if !config.architecture.is_gated() && kv != config.n_head {
        let expected = format!("{} = {}, as all of this family", keys.n_head, config.n_head);
        return refuse(&keys.n_kv_head, kv.to_string(), expected);
    }
    let width = config.head_width();
    if config.attention.head_width.is_some() && !config.architecture.block().own_head_width {
        let expected = format!("{} / {}, as all of this family", keys.n_embd, keys.n_head);
        return refuse(&keys.head_width, width.to_string(), expected);
    }
    if !(1..=limits::HEAD_WIDTH).contains(&width) {
        let expected = format!("1 to {}", limits::HEAD_WIDTH);
        return refuse(&keys.head_width, width.to_string(), expected);
    }
    if config.architecture.rope_pairs().is_some() {
        if !width.is_multiple_of(2) {
            let (key, value, found) = match config.attention.head_width {
                Some(_) => (&keys.head_width, width, width.to_string()),
                None => {
                    let found = format!("{} / {} = {width}", config.n_embd, config.n_head);
                    (&keys.n_head, config.n_head, found)
                }
            };
            let expected = format!("heads of an even width, found {found}");
            return refuse(key, value.to_string(), expected);
        }
        let rotated = config.rotated_width();
        if !rotated.is_multiple_of(2) || !(1..=width).contains(&rotated) {
            let expected = format!("an even number up to the head's width {width}");
            return refuse(&keys.rotated_width, rotated.to_string(), expected);
        }
        let scaling = &config.attention.rope_scaling;
        if let Some((name, value, expected)) = scaling.objection(rotated / 2) {
            let key = match scaling {
                RopeScaling::Factors { .. } => "rope_freqs.weight".to_owned(),
                _ => format!("{}.{name}", keys.rope_scaling),
            };
            return refuse(&key, value, expected);
        }
        if let Some(window) = config.attention.window {
            let base = window.rope_base.unwrap_or(config.rope_base);
            if window.size == 0 || !(base.is_finite() && base > 1.0) {
                let found = format!("{} positions, base {base}", window.size);
                let expected = "at least one position, and a base above 1".to_owned();
                return refuse(&keys.window, found, expected);
            }
        }
        let base = config.rope_base;
        if !(base.is_finite() && base > 1.0) {
            return refuse(&keys.rope_base, base.to_string(), "a number above 1".to_owned());
        }
    }
    if let Some(setting) = config.attention.misplaced(config.architecture) {
        let expected = format!("nothing in a {}", config.architecture.name());
        return refuse(setting, "(something)".to_owned(), expected);
    }
    let epsilon = config.norm_epsilon;
    if !(epsilon.is_finite() && epsilon > 0.0) {
        return refuse(&keys.norm_epsilon, epsilon.to_string(), "a positive number".to_owned());
    }
    if !(0.0..1.0).contains(&config.dropout) {
        let expected = "0 to below 1".to_owned();
        return refuse(&keys.dropout, config.dropout.to_string(), expected);
    }
    Ok(())
}

fn check_experts(
    config: &ModelConfig,
    place: &Path,
    keys: &SizeKeys,
) -> Result<(), CheckpointError> {
    let refuse = |key: &str, value: usize, expected: String| {
        let (place, key, value) = (place.to_owned(), key.to_owned(), value.to_string());
        Err(CheckpointError::Setting { place, key, value, expected })
    };
    let Experts { count, used } = config.experts.unwrap_or(Experts { count: 0, used: 0 });
    match (config.architecture.block().experts, config.experts) {
        (HasExperts::Never, Some(_)) => {
            let family = config.architecture.name();
            return refuse(&keys.experts, count, format!("0: a {family} has no experts"));
        }
        (HasExperts::Never | HasExperts::Sometimes, None) => return Ok(()),
        (HasExperts::Sometimes | HasExperts::Always, _) => {}
    }
    if !(1..=limits::EXPERTS).contains(&count) {
        return refuse(&keys.experts, count, format!("1 to {}", limits::EXPERTS));
    }
    if count * config.n_layer > limits::ALL_EXPERTS {
        let expected = format!("at most {} in all layers together", limits::ALL_EXPERTS);
        return refuse(&keys.experts, count, expected);
    }
    if !(1..=count).contains(&used) {
        return refuse(&keys.experts_used, used, format!("1 to {} = {count}", keys.experts));
    }
    Ok(())
}

/// What a format calls the settings of a model.
pub(crate) struct SizeKeys {
    pub vocab_size: String,
    pub context_length: String,
    pub n_layer: String,
    pub n_head: String,
    pub n_kv_head: String,
    pub n_embd: String,
    pub n_inner: String,
    pub head_width: String,
    pub rotated_width: String,
    pub rope_scaling: String,
    pub window: String,
    pub experts: String,
    pub experts_used: String,
    pub norm_epsilon: String,
    pub rope_base: String,
    pub dropout: String,
}
