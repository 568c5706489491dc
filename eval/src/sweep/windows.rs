//! A text, divided into windows as in `llama-perplexity`.
//!
//! The text is tokenized as a whole, after the token that begins a text if the model was trained
//! with one, and divided into windows of equal length; the rest is not used. In every window the
//! first token is then replaced by the one that begins a text. The positions from the middle on are
//! scored, so that each has half a window before it (`tools/perplexity/perplexity.cpp`).

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::base::{BaseEngine, Identity};

/// Largest text that is read, in bytes.
const TEXT_LIMIT: u64 = 1 << 30;
/// A window with fewer tokens does not have a scored position.
const SHORTEST: usize = 4;

/// The windows that every pass reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    windows: Vec<Vec<u32>>,
}

impl Windows {
    /// Divides the first `limit` tokens of `text` (all if 0) into windows of `context` tokens.
    ///
    /// # Errors
    /// When the tokens do not fill a window, or a window is longer than the model's context.
    pub fn cut(
        text: &str,
        tokenizer: &data::Tokenizer,
        limit: usize,
        context: usize,
        context_length: usize,
    ) -> Result<Self> {
        ensure!(
            (SHORTEST..=context_length).contains(&context),
            "--context {context}: expected from {SHORTEST} to the model's context of \
             {context_length}"
        );
        let mut tokens = data::perplexity_tokens(tokenizer, text)?;
        let found = tokens.len();
        if limit > 0 {
            tokens.truncate(limit);
        }
        ensure!(
            tokens.len() >= context,
            "{} tokens (of {found} in the text) do not fill one window of {context}: give a \
             longer text, a larger --tokens or a smaller --context",
            tokens.len()
        );
        let windows = data::perplexity_windows(&tokens, context, tokenizer.begin_of_text());
        Ok(Windows { windows })
    }

    /// [`Windows::cut`] of the file at `path`.
    ///
    /// # Errors
    /// As there, and when the file cannot be read or is not UTF-8.
    pub fn read(
        path: &Path,
        tokenizer: &data::Tokenizer,
        limit: usize,
        context: usize,
        context_length: usize,
    ) -> Result<Self> {
        let place = || format!("--text {}", path.display());
        let text = checkpoint::read_text(path, TEXT_LIMIT).with_context(place)?;
        Windows::cut(&text, tokenizer, limit, context, context_length).with_context(place)
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Tokens in a window.
    pub fn context(&self) -> usize {
        self.windows.first().map_or(0, Vec::len)
    }

    /// The tokens of a window, `[T]`.
    pub fn window(&self, index: usize) -> &[u32] {
        &self.windows[index]
    }

    /// Some of the windows.
    ///
    /// # Panics
    /// As for a slice.
    pub fn part(&self, range: Range<usize>) -> Self {
        Windows { windows: self.windows[range].to_vec() }
    }

    /// The identity of the base of these windows, for a model whose file has the hash `model`.
    ///
    /// # Errors
    /// When a size exceeds the limits of the format.
    pub fn identity(
        &self,
        vocab_size: usize,
        engine: BaseEngine,
        model: [u8; 32],
    ) -> Result<Identity> {
        let mut hasher = blake3::Hasher::new();
        for token in self.windows.iter().flatten() {
            hasher.update(&token.to_le_bytes());
        }
        Ok(Identity {
            vocab_size: u32::try_from(vocab_size)?,
            context: u32::try_from(self.context())?,
            windows: u32::try_from(self.len())?,
            engine,
            model,
            tokens: *hasher.finalize().as_bytes(),
        })
    }
}
