//! The size of a model that is not trained yet, computed from its run file.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use checkpoint::names;
use checkpoint::{Checkpoint, TOKENIZER_FILE};
use config::{ModelConfig, RunFile, TokenizerKind, limits};
use gguf::TensorType;
use quantize::Recipe;

use crate::planned::{Candidate, Planned};
use crate::training::TrainingNeed;

/// Tokens of GPT-2's vocabulary, which a run file with that tokenizer implies.
const GPT2_VOCABULARY: usize = 50257;

/// The sizes F32, F16, Q8_0 and Q4_K_M of the model of a run file, and what training it takes.
pub(crate) fn from_run_file(path: &Path, vocab_size: Option<usize>) -> anyhow::Result<Planned> {
    let run_file = RunFile::load(path, &[])?;
    let config =
        model(&run_file, vocab_size).with_context(|| format!("cannot plan {}", path.display()))?;
    if let Some(objection) = config.training_objection() {
        bail!("cannot plan {}: train.init_from has {objection}", path.display());
    }
    let sizes = [
        ("F32", plain_bytes(&config, TensorType::F32)?),
        ("F16", plain_bytes(&config, TensorType::F16)?),
        ("Q8_0", quantized_bytes(&config, Recipe::Q8_0)?),
        ("Q4_K_M", quantized_bytes(&config, Recipe::Q4_K_M)?),
    ];
    let candidate = |(recipe, weights): (&str, u64)| Candidate {
        recipe: recipe.to_owned(),
        weights,
        estimated: true,
    };
    let candidates = sizes.into_iter().map(candidate).collect();
    let training = Some(TrainingNeed::of(&run_file, &config));
    Ok(Planned { config, candidates, training })
}

/// The model's settings: those of the folder `train.init_from`, if it exists, or the run file's.
fn model(run_file: &RunFile, vocab_size: Option<usize>) -> anyhow::Result<ModelConfig> {
    let folder = run_file.train.init_from.as_deref();
    if let Some(folder) = folder.filter(|folder| folder.is_dir()) {
        return Ok(Checkpoint::open(&checkpoint::locate(folder)?)?.config().clone());
    }
    let known = match vocab_size {
        Some(size) => Some(size),
        None => implied_vocabulary(run_file)?,
    };
    let size = known.context(
        "the vocabulary depends on a text or a folder that is not there; give --vocab-size",
    )?;
    ensure!(
        (1..=limits::VOCAB_SIZE).contains(&size),
        "--vocab-size {size}: expected 1 to {}",
        limits::VOCAB_SIZE
    );
    Ok(run_file.model.config(size))
}

/// The size of the vocabulary, if it follows from the run file alone.
fn implied_vocabulary(run_file: &RunFile) -> anyhow::Result<Option<usize>> {
    if run_file.train.init_from.is_some() {
        return Ok(None);
    }
    let data = &run_file.data;
    match (data.tokenizer, &data.tokenizer_path) {
        (TokenizerKind::Gpt2, _) => Ok(Some(GPT2_VOCABULARY)),
        (TokenizerKind::Trained, _) => Ok(Some(data.vocab_size)),
        (TokenizerKind::HuggingFace, Some(path))
            if path.is_file() || path.join(TOKENIZER_FILE).is_file() =>
        {
            Ok(Some(data::Tokenizer::open(path)?.vocab_size()))
        }
        (TokenizerKind::HuggingFace | TokenizerKind::Simple, _) => Ok(None),
    }
}

/// Bytes of all tensors with matrices in `matrices`, as export writes them.
fn plain_bytes(config: &ModelConfig, matrices: TensorType) -> anyhow::Result<u64> {
    let sizes = names::stored_tensors(config, matrices)
        .map(|(_, shape, tensor_type)| tensor_type.size_of(&shape));
    sum(sizes)
}

/// Bytes of all tensors after `quantize`, which decides by name and shape alone.
fn quantized_bytes(config: &ModelConfig, recipe: Recipe) -> anyhow::Result<u64> {
    let tensors = quantize::planned(config, TensorType::F32, recipe)?;
    sum(tensors.iter().map(|tensor| tensor.quantized.size_of(&tensor.name.gguf_shape())))
}

fn sum(mut sizes: impl Iterator<Item = Option<u64>>) -> anyhow::Result<u64> {
    sizes
        .try_fold(0_u64, |sum, size| sum.checked_add(size?))
        .context("the model is larger than any file can be")
}
