//! A model that reads windows and hands over the logits that are scored.

use anyhow::Result;
use llama::{Arithmetic, Cache, Llama, Session, Settings};
use reference::Model;

/// Tokens that go through llama.cpp at once, its own default, and most rows of logits in memory.
const BATCH: usize = 512;

/// A forward pass over windows.
pub enum Reader<'a> {
    /// llama.cpp with its defaults, except for the cache.
    Llama {
        /// Its keys and values.
        session: Session<'a>,
    },
    /// The plain Rust pass, keys and values in f32.
    Reference {
        /// The weights.
        model: &'a Model,
    },
}

impl<'a> Reader<'a> {
    /// llama.cpp with room for a window of `context` tokens.
    ///
    /// # Errors
    /// When llama.cpp has no memory for it, or the cache does not suit the model.
    pub fn llama(llama: &'a Llama, context: usize, cache: Cache, threads: usize) -> Result<Self> {
        let settings = Settings { context, threads, arithmetic: Arithmetic::Cached(cache) };
        Ok(Reader::Llama { session: llama.session(settings)? })
    }

    /// Reads a window and gives the logits of its positions from `first` to the last but one to
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
            Reader::Reference { model } => {
                let logits = model.logits(window)?;
                let vocab_size = model.config().vocab_size;
                take(&logits[first * vocab_size..scored * vocab_size])
            }
            Reader::Llama { session } => {
                session.clear();
                // The last token is read by nobody: nothing that is scored comes after it.
                for (index, tokens) in window[..scored].chunks(BATCH).enumerate() {
                    let start = index * BATCH;
                    let logits = session.logits_from(tokens, first.saturating_sub(start))?;
                    take(&logits)?;
                }
                Ok(())
            }
        }
    }
}
