//! A model by path: its tensors, its tokenizer and an engine that runs it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use checkpoint::{CheckpointError, TOKENIZER_JSON_KEY};
use data::Tokenizer;
use gguf::{Metadata, TensorSource};

use crate::engine::{EngineKind, LoadedModel};

/// The model and its engine.
#[derive(Debug, Clone)]
pub struct ModelJob {
    /// A checkpoint folder, a run folder, a GGUF file, a folder of fragments, or its address.
    pub path: PathBuf,
    /// A `tokenizer.json` to use instead of the model's own.
    pub tokenizer: Option<PathBuf>,
    /// The engine that computes the logits.
    pub engine: EngineKind,
    /// Threads for llama.cpp; 0 uses all cores. The reference pass always uses rayon's.
    pub threads: usize,
}

/// A loaded model with its tokenizer.
pub struct Ready {
    /// Computes the logits.
    pub model: LoadedModel,
    /// Converts between text and tokens.
    pub tokenizer: Tokenizer,
    /// The tokens that end a text.
    pub ends: Vec<u32>,
}

impl Ready {
    /// Loads model and tokenizer and checks that they match.
    ///
    /// # Errors
    /// When there is no model at the path, or the model has no tokenizer.
    pub fn load(job: &ModelJob) -> Result<Self> {
        let path = match job.engine {
            // llama.cpp maps one file.
            EngineKind::Llama => fragment::whole_file(&job.path)?,
            EngineKind::Reference => fragment::local(&job.path)?,
        };
        let path = checkpoint::locate(&path)?;
        ensure!(
            path.exists(),
            "{}: not found; expected a checkpoint folder, a GGUF file, a folder of fragments or an \
             address",
            path.display()
        );
        // The given tokenizer is used even if the folder's own is missing or damaged.
        let (tokenizer, source) = match &job.tokenizer {
            Some(file) => (Tokenizer::open(file)?, fragment::open_weights(&path)?),
            None => {
                let source = open_source(&path)?;
                (tokenizer_of(&path, source.metadata())?, source)
            }
        };
        let mut ends = tokenizer.ends().to_vec();
        if ends.is_empty() {
            ends.extend(end_in(source.metadata()));
        }
        let model = LoadedModel::load(job.engine, &path, source.as_ref(), job.threads)?;
        Ok(Ready { model, tokenizer, ends })
    }

    /// The prompt's tokens: [`Tokenizer::encode_prompt`].
    ///
    /// # Errors
    /// When there are none, when the vocabulary lacks a part of the prompt, or when the model lacks
    /// a row for one of its tokens.
    pub fn encode(&self, prompt: &str) -> Result<Vec<u32>> {
        ensure!(
            !prompt.is_empty(),
            "the prompt is empty: give at least one character to go on from"
        );
        let tokens = self.tokenizer.encode_prompt(prompt).context("the prompt")?;
        ensure!(!tokens.is_empty(), "the prompt {prompt:?} holds no token of this model");
        self.tokenizer.check_rows(&tokens, self.model.vocab_size())?;
        Ok(tokens)
    }
}

const WAY_OUT: &str = "pass --tokenizer FILE, the tokenizer.json that the model was trained with";

fn open_source(path: &Path) -> Result<Box<dyn TensorSource>> {
    fragment::open_source(path).map_err(|error| match error.downcast_ref::<CheckpointError>() {
        Some(CheckpointError::NoTokenizer { .. }) => error.context(WAY_OUT),
        _ => error,
    })
}

/// The tokenizer beside the model, or inside it.
fn tokenizer_of(path: &Path, metadata: &Metadata) -> Result<Tokenizer> {
    match path.join(checkpoint::CONFIG_FILE).is_file() {
        true => Tokenizer::from_folder(path),
        false => tokenizer_in(metadata, path),
    }
}

/// The tokenizer in a GGUF's metadata.
fn tokenizer_in(metadata: &Metadata, path: &Path) -> Result<Tokenizer> {
    let model = metadata
        .string("tokenizer.ggml.model")
        .with_context(|| format!("{} holds no tokenizer: {WAY_OUT}", path.display()))?;
    if model == "no_vocab" && metadata.get(TOKENIZER_JSON_KEY).is_none() {
        bail!("{} was written without a tokenizer: {WAY_OUT}", path.display());
    }
    Tokenizer::from_gguf(metadata)
        .with_context(|| format!("{}: the tokenizer inside cannot be used", path.display()))
}

fn end_in(metadata: &Metadata) -> Option<u32> {
    let id = metadata.unsigned("tokenizer.ggml.eos_token_id").ok()?;
    u32::try_from(id).ok()
}
