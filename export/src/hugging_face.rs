//! A checkpoint as a clean Hugging Face folder.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use checkpoint::{HuggingFaceFiles, TOKENIZER_FILE, WEIGHTS_FILE, atomic, hash};

use crate::{Report, open};

/// What [`export_hugging_face`] is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HuggingFaceJob {
    /// Checkpoint, Hugging Face or run folder.
    pub input: PathBuf,
    /// The folder to write.
    pub output: PathBuf,
    /// Whether an existing model folder may be replaced.
    pub overwrite: bool,
}

/// Writes settings, weights and tokenizer of a checkpoint as a folder that `transformers` loads.
/// Weights are F32, the tokenizer is left out where the input has none.
///
/// # Errors
/// When the input is no checkpoint of a known architecture, or the folder cannot be written, is
/// the input, holds it or lies inside of it.
pub fn export_hugging_face(job: &HuggingFaceJob) -> anyhow::Result<Report> {
    let start = Instant::now();
    let checkpoint = open(&job.input)?;
    atomic::ensure_outside(checkpoint.dir(), &job.output)?;
    let has_tokenizer = checkpoint.dir().join(TOKENIZER_FILE).exists();
    let tokenizer_json = has_tokenizer.then(|| checkpoint.tokenizer_json()).transpose()?;
    let files = HuggingFaceFiles {
        config: checkpoint.config(),
        weights: checkpoint.weights(),
        tokenizer_json: tokenizer_json.as_deref(),
    };
    checkpoint::save_hugging_face(&job.output, job.overwrite, files)
        .with_context(|| format!("cannot export {}", job.input.display()))?;

    let weights = job.output.join(WEIGHTS_FILE);
    let digests = hash::hash_file(&weights)
        .with_context(|| format!("cannot read {} back", weights.display()))?;
    Ok(Report {
        output: job.output.clone(),
        format: "Hugging Face".to_owned(),
        tensors: checkpoint::Checkpoint::open(&job.output)?.weights().names().len(),
        size: digests.size,
        seconds: start.elapsed().as_secs_f64(),
        peak_rss_bytes: cli::memory::peak_resident(),
        sha256: digests.sha256,
        blake3: digests.blake3,
    })
}
