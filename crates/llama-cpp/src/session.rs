//! A text that llama.cpp reads bit by bit.

use std::num::NonZeroU32;
use std::thread::available_parallelism;

use llama_cpp_sys_2 as sys;

use crate::ffi::{Batch, Context, context_params};
use crate::{Cache, CacheType, Llama, LlamaError};

/// How llama.cpp computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// llama.cpp's defaults, which a device will use: keys and values in f16, flash attention
    /// where it helps.
    Default,
    /// The defaults, except for what keys and values are kept in.
    Cached(Cache),
    /// Keys and values in f32, no flash attention: what is measured are the weights. In batches, so
    /// that a long context does not take more memory.
    Plain,
    /// Nothing but the order of additions (and llama.cpp's f16 table for GELU) can differ from a
    /// plain f32 pass: keys and values in f32, no flash attention, one batch.
    Exact,
}

/// What a session is made for.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Tokens there is room for.
    pub context: usize,
    /// Threads that compute; 0 stands for all cores.
    pub threads: usize,
    /// How llama.cpp computes.
    pub arithmetic: Arithmetic,
}

/// Tokens read so far, as keys and values inside llama.cpp.
pub struct Session<'a> {
    context: Context<'a>,
    limit: usize,
    position: usize,
    vocab_size: usize,
}

impl Llama {
    /// A reading from the first position on.
    ///
    /// # Errors
    /// When llama.cpp gets no memory for it, or the model's heads do not fill the blocks of a
    /// quantized cache.
    pub fn session(&self, settings: Settings) -> Result<Session<'_>, LlamaError> {
        let limit = settings.context;
        let no_room = || LlamaError::NoRoom { path: self.path.clone(), context: limit };
        let size = i32::try_from(limit).ok().and_then(|n| NonZeroU32::new(n as u32));
        let size = size.ok_or_else(no_room)?;
        if let Arithmetic::Cached(cache) = settings.arithmetic {
            self.check_cache(cache)?;
        }
        let context = self.model.context(params(size, settings)).ok_or_else(no_room)?;
        Ok(Session { context, limit, position: 0, vocab_size: self.vocab_size })
    }
}

pub(crate) fn params(size: NonZeroU32, settings: Settings) -> sys::llama_context_params {
    let threads = match settings.threads {
        0 => available_parallelism().map_or(1, |n| n.get()),
        n => n,
    };
    let threads = i32::try_from(threads).unwrap_or(i32::MAX);
    let mut params = sys::llama_context_params {
        n_ctx: size.get(),
        n_batch: size.get(),
        n_seq_max: 1,
        n_threads: threads,
        n_threads_batch: threads,
        ..context_params()
    };
    let cache = match settings.arithmetic {
        Arithmetic::Default => return params,
        Arithmetic::Cached(cache) => cache,
        Arithmetic::Plain | Arithmetic::Exact => Cache::both(CacheType::F32),
    };
    params.type_k = cache.keys.as_llama();
    params.type_v = cache.values.as_llama();
    match settings.arithmetic {
        Arithmetic::Plain | Arithmetic::Exact => {
            params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_DISABLED;
        }
        _ if cache.values.is_quantized() => {
            params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_ENABLED;
        }
        _ => {}
    }
    if settings.arithmetic == Arithmetic::Exact {
        params.n_ubatch = size.get();
    }
    params
}

impl Session<'_> {
    /// Reads on and returns the logits `[V]` for the token after the last one.
    ///
    /// # Errors
    /// No tokens, more than there is room for, an id beyond the vocabulary, or a failure inside
    /// llama.cpp.
    pub fn push(&mut self, tokens: &[u32]) -> Result<Vec<f32>, LlamaError> {
        self.read(tokens, tokens.len().saturating_sub(1))?;
        Ok(self.row(tokens.len() - 1)?.to_vec())
    }

    /// Reads on and returns the logits after every token, `[T] -> [T, V]`, row-major.
    ///
    /// # Errors
    /// As [`Session::push`].
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, LlamaError> {
        self.logits_from(tokens, 0)
    }

    /// Reads on and returns the logits after the tokens from place `first` on,
    /// `[T] -> [T - first, V]`: llama.cpp leaves the head out for those before. None if `first` is
    /// past the end.
    ///
    /// # Errors
    /// As [`Session::push`].
    pub fn logits_from(&mut self, tokens: &[u32], first: usize) -> Result<Vec<f32>, LlamaError> {
        self.read(tokens, first)?;
        let wanted = tokens.len().saturating_sub(first);
        let mut logits = Vec::with_capacity(wanted * self.vocab_size);
        for place in (first..).take(wanted) {
            logits.extend_from_slice(self.row(place)?);
        }
        Ok(logits)
    }

    /// The logits `[V]` after a token of the last pass.
    fn row(&self, place: usize) -> Result<&[f32], LlamaError> {
        self.context.logits(place, self.vocab_size).ok_or(LlamaError::NoLogits { place })
    }

    /// Forgets what was read.
    pub fn clear(&mut self) {
        self.context.clear();
        self.position = 0;
    }

    /// Forgets all tokens but the first `tokens`.
    ///
    /// # Errors
    /// When the model cannot go back (recurrent layers).
    pub fn truncate(&mut self, tokens: usize) -> Result<(), LlamaError> {
        if tokens >= self.position {
            return Ok(());
        }
        // Positions are below the limit, which llama.cpp took as an i32.
        match self.context.remove(0, tokens as i32) {
            true => self.position = tokens,
            _ if tokens == 0 => self.clear(),
            _ => return Err(LlamaError::NoWayBack { position: self.position, wanted: tokens }),
        }
        Ok(())
    }

    /// Tokens read so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Tokens there is room for.
    pub fn context_length(&self) -> usize {
        self.limit
    }

    /// Reads on, with logits after the tokens from place `first` on.
    fn read(&mut self, tokens: &[u32], first: usize) -> Result<(), LlamaError> {
        let (wanted, limit) = (self.position + tokens.len(), self.limit);
        if tokens.is_empty() {
            return Err(LlamaError::NoTokens);
        }
        if wanted > limit {
            return Err(LlamaError::ContextOverflow { wanted, limit });
        }
        let mut batch = new_batch(tokens.len(), 1)?;
        for (i, &token) in tokens.iter().enumerate() {
            // llama.cpp checks ids itself, but only says that something was wrong.
            let id = i32::try_from(token).ok().filter(|_| (token as usize) < self.vocab_size);
            let vocab_size = self.vocab_size;
            let id = id.ok_or(LlamaError::TokenOutOfRange { token, vocab_size })?;
            // Positions are below the limit, which llama.cpp took as an i32.
            let at = (self.position + i) as i32;
            batch.add(id, at, &[0], i >= first);
        }
        self.context.decode(&batch).map_err(|code| LlamaError::Decode { code })?;
        self.position = wanted;
        Ok(())
    }
}

pub(crate) fn new_batch(tokens: usize, sequences: usize) -> Result<Batch, LlamaError> {
    Batch::new(tokens, sequences).ok_or(LlamaError::Batch { tokens, sequences })
}
