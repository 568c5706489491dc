//! The engines that compute the logits: our own reference pass, and llama.cpp.

use std::path::Path;

use anyhow::{Context, Result};
use gguf::TensorSource;
use llama_cpp::{Arithmetic, Llama, Settings};
use serde::Serialize;

/// Reads tokens and returns the logits of the next token.
pub trait Engine {
    /// Reads more tokens and returns the logits `[V]` for the token after the last one.
    ///
    /// # Errors
    /// When the tokens do not fit in the context, or an id is not in the vocabulary.
    fn push(&mut self, tokens: &[u32]) -> Result<Vec<f32>>;

    /// Forgets all tokens but the first `tokens`.
    ///
    /// # Errors
    /// When the model cannot go back.
    fn truncate(&mut self, tokens: usize) -> Result<()>;

    /// Tokens read so far.
    fn position(&self) -> usize;

    /// Most tokens that can be read.
    fn context_length(&self) -> usize;
}

impl Engine for reference::Session {
    fn push(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        Ok(reference::Session::push(self, tokens)?)
    }

    fn truncate(&mut self, tokens: usize) -> Result<()> {
        reference::Session::truncate(self, tokens);
        Ok(())
    }

    fn position(&self) -> usize {
        reference::Session::position(self)
    }

    fn context_length(&self) -> usize {
        self.model().config().context_length
    }
}

impl Engine for llama_cpp::Session<'_> {
    fn push(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        Ok(llama_cpp::Session::push(self, tokens)?)
    }

    fn truncate(&mut self, tokens: usize) -> Result<()> {
        Ok(llama_cpp::Session::truncate(self, tokens)?)
    }

    fn position(&self) -> usize {
        llama_cpp::Session::position(self)
    }

    fn context_length(&self) -> usize {
        llama_cpp::Session::context_length(self)
    }
}

/// Which engine to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Our own pass in f32: checkpoints, GGUF files and fragments.
    Reference,
    /// llama.cpp in this process: GGUF files, and fragments, which are joined into the cache.
    Llama,
}

impl std::fmt::Display for EngineKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            EngineKind::Reference => "reference",
            EngineKind::Llama => "llama",
        })
    }
}

/// A model in memory.
pub enum LoadedModel {
    /// In our own pass.
    Reference(reference::Model),
    /// In llama.cpp, with the number of threads to use (0: all cores).
    Llama(Llama, usize),
}

impl LoadedModel {
    /// Loads the model at `path`, whose tensors are in `source`, into an engine that uses `threads`
    /// threads (0: all cores).
    ///
    /// # Errors
    /// When the engine refuses the model; llama.cpp reads GGUF files only.
    pub fn load(
        kind: EngineKind,
        path: &Path,
        source: &dyn TensorSource,
        threads: usize,
    ) -> Result<Self> {
        match kind {
            EngineKind::Reference => {
                let model = reference::Model::load(source)
                    .with_context(|| format!("cannot load {}", path.display()))?;
                Ok(LoadedModel::Reference(model))
            }
            EngineKind::Llama => {
                Ok(LoadedModel::Llama(Llama::load(&gguf::first_part(path))?, threads))
            }
        }
    }

    /// A reading from the first position on, with capacity for the whole context that the model was
    /// trained on.
    ///
    /// # Errors
    /// When there is not enough memory for its keys and values.
    pub fn session(&self) -> Result<Box<dyn Engine + '_>> {
        match self {
            LoadedModel::Reference(model) => Ok(Box::new(model.session())),
            &LoadedModel::Llama(ref model, threads) => {
                let (context, arithmetic) = (model.context_length(), Arithmetic::Default);
                Ok(Box::new(model.session(Settings { context, threads, arithmetic })?))
            }
        }
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        match self {
            LoadedModel::Reference(model) => model.config().vocab_size,
            LoadedModel::Llama(model, _) => model.vocab_size(),
        }
    }
}
