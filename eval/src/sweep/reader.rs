//! A model in memory that reads windows and returns the scored logits.

use std::path::Path;

use anyhow::{Context, Result};
use gguf::GgufParts;
use llama_cpp::{Arithmetic, Cache, Llama, Session, Settings};
use reference::Model;

use super::SweepEngine;

/// Tokens that llama.cpp computes at once, its own default, and the most rows of logits in memory.
const BATCH: usize = 512;

/// A model in memory.
pub enum Loaded {
    /// Mapped by llama.cpp.
    Llama(Llama),
    /// Dequantized.
    Reference(Model),
}

impl Loaded {
    /// Loads the GGUF at `path`.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub fn open(path: &Path, engine: SweepEngine) -> Result<Self> {
        match engine {
            SweepEngine::Llama => Ok(Loaded::Llama(Llama::load(&gguf::first_part(path))?)),
            SweepEngine::Reference => {
                let place = || format!("{}", path.display());
                let file = GgufParts::open(path).with_context(place)?;
                Ok(Loaded::Reference(Model::load(&file).with_context(place)?))
            }
        }
    }

    /// `V`
    pub fn vocab_size(&self) -> usize {
        match self {
            Loaded::Llama(llama) => llama.vocab_size(),
            Loaded::Reference(model) => model.config().vocab_size,
        }
    }

    /// Context length that the model was trained with.
    pub fn context_length(&self) -> usize {
        match self {
            Loaded::Llama(llama) => llama.context_length(),
            Loaded::Reference(model) => model.config().context_length,
        }
    }

    /// Bytes of the keys and values of a window, if llama.cpp keeps them.
    pub fn cache_bytes(&self, context: usize, cache: Cache) -> Option<u64> {
        match self {
            Loaded::Llama(llama) => Some(llama.cache_bytes(context, cache)),
            Loaded::Reference(_) => None,
        }
    }

    /// A pass over windows of `context` tokens.
    ///
    /// # Errors
    /// When llama.cpp does not get enough memory, or the cache does not suit the model.
    pub fn reader(&self, context: usize, cache: Cache, threads: usize) -> Result<Reader<'_>> {
        match self {
            Loaded::Llama(llama) => {
                let arithmetic = Arithmetic::Cached(cache);
                let session = llama.session(Settings { context, threads, arithmetic })?;
                Ok(Reader::Llama(session))
            }
            Loaded::Reference(model) => Ok(Reader::Reference(model)),
        }
    }
}

/// A forward pass over windows.
pub enum Reader<'a> {
    /// llama.cpp with its defaults, except for the cache.
    Llama(Session<'a>),
    /// The plain Rust pass, keys and values in f32.
    Reference(&'a Model),
}

impl Reader<'_> {
    /// Reads a window and passes the logits of its positions from `first` to the last but one to
    /// `take`, some rows `[N, V]` at a time, in order.
    ///
    /// # Errors
    /// Those of the engine and of `take`.
    pub fn read(
        &mut self,
        window: &[u32],
        first: usize,
        mut take: impl FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let scored = window.len().saturating_sub(1);
        match self {
            Reader::Reference(model) => {
                let logits = model.logits(window)?;
                let vocab_size = model.config().vocab_size;
                take(&logits[first * vocab_size..scored * vocab_size])
            }
            Reader::Llama(session) => {
                session.clear();
                // The last token is not computed: no scored token comes after it.
                for (index, tokens) in window[..scored].chunks(BATCH).enumerate() {
                    let start = index * BATCH;
                    take(&session.logits_from(tokens, first.saturating_sub(start))?)?;
                }
                Ok(())
            }
        }
    }
}
