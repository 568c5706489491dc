//! A model as a clean Hugging Face folder.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};
use checkpoint::{Checkpoint, WEIGHTS_FILE, hash};

use crate::input::Model;
use crate::tokenizer_file::NO_TOKENIZER;
use crate::{Input, Report};

/// The settings of [`export_hugging_face`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HuggingFaceJob {
    /// The model.
    pub input: Input,
    /// The folder to write.
    pub output: PathBuf,
    /// Whether an existing model folder may be replaced.
    pub overwrite: bool,
}

/// Writes settings, weights and tokenizer of a model as a folder that `transformers` loads. Weights
/// keep their types; the tokenizer is omitted if the input has none.
///
/// # Errors
/// When the input is not a model of a known architecture, or the folder cannot be written, is the
/// input, contains it or lies inside of it.
pub fn export_hugging_face(job: &HuggingFaceJob) -> anyhow::Result<Report> {
    let start = Instant::now();
    let model = Model::open(&job.input)?;
    let is_none = job.input.tokenizer.as_ref().is_some_and(|name| name.as_os_str() == NO_TOKENIZER);
    ensure!(
        is_none || job.input.has_own_tokenizer(),
        "a Hugging Face folder keeps its own tokenizer or none: --tokenizer none leaves it out"
    );
    model
        .save_hugging_face(&job.output, job.overwrite, !is_none)
        .with_context(|| format!("cannot export {}", job.input.path.display()))?;

    let weights = job.output.join(WEIGHTS_FILE);
    let digests = hash::hash_file(&weights)
        .with_context(|| format!("cannot read {} back", weights.display()))?;
    Ok(Report {
        output: job.output.clone(),
        format: "Hugging Face".to_owned(),
        tokenizer: None,
        tensors: Checkpoint::open(&job.output)?.weights().names().len(),
        size: digests.size,
        seconds: start.elapsed().as_secs_f64(),
        peak_rss_bytes: cli::memory::peak_resident(),
        sha256: digests.sha256,
        blake3: digests.blake3,
    })
}
