//! llama.cpp in this process: the judge that everything built on it will agree with.
//!
//! Set up so that nothing but the order of additions (and llama.cpp's f16 table for GELU) can
//! differ from a plain f32 pass: keys and values are cached in f32, flash attention is off, and
//! a window goes through in one batch.

use std::num::NonZeroU32;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};

/// `LLAMA_FLASH_ATTN_TYPE_DISABLED` of `llama.h`.
const FLASH_ATTENTION_OFF: i32 = 0;

/// A GGUF loaded by llama.cpp. A process can have one at a time.
pub struct Llama {
    // Dropped in this order: a model must go before the backend does.
    model: LlamaModel,
    backend: LlamaBackend,
    vocab_size: usize,
}

impl Llama {
    /// Maps the file at `path`. llama.cpp's own log goes to `tracing` where `RUST_LOG=debug` asks
    /// for it, and nowhere otherwise.
    ///
    /// # Errors
    /// When llama.cpp refuses the file, or another [`Llama`] is alive in this process.
    pub fn load(path: &Path) -> Result<Self> {
        let mut backend = LlamaBackend::init().context("llama.cpp cannot be started")?;
        if tracing::enabled!(tracing::Level::DEBUG) {
            send_logs_to_tracing(LogOptions::default());
        } else {
            backend.void_logs();
        }
        let params = LlamaModelParams::default().with_n_gpu_layers(0);
        let model = LlamaModel::load_from_file(&backend, path, &params).with_context(|| {
            format!("llama.cpp refuses {}: RUST_LOG=debug shows why", path.display())
        })?;
        let vocab_size = usize::try_from(model.n_vocab())
            .with_context(|| format!("{}: llama.cpp finds no vocabulary", path.display()))?;
        Ok(Llama { model, backend, vocab_size })
    }

    /// Entries in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Makes ready for windows of at most `window` tokens.
    ///
    /// # Errors
    /// When there is no memory for the cache and the buffers.
    pub fn reader(&self, window: usize) -> Result<Reader<'_>> {
        let size = u32::try_from(window).ok().and_then(NonZeroU32::new);
        let size = size.context("a window for llama.cpp holds from 1 to 2^32 - 1 tokens")?;
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads = i32::try_from(threads).unwrap_or(i32::MAX);
        let params = LlamaContextParams::default()
            .with_n_ctx(Some(size))
            .with_n_batch(size.get())
            .with_n_ubatch(size.get())
            .with_n_seq_max(1)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_type_k(KvCacheType::F32)
            .with_type_v(KvCacheType::F32)
            .with_flash_attention_policy(FLASH_ATTENTION_OFF);
        let context = self
            .model
            .new_context(&self.backend, params)
            .with_context(|| format!("llama.cpp has no room for a context of {window} tokens"))?;
        let batch = LlamaBatch::new(window, 1);
        Ok(Reader { context, batch, window, vocab_size: self.vocab_size })
    }
}

/// Passes over windows, each from an empty cache.
pub struct Reader<'a> {
    context: LlamaContext<'a>,
    batch: LlamaBatch<'a>,
    window: usize,
    vocab_size: usize,
}

impl Reader<'_> {
    /// One causal pass: token ids `[T]` to logits `[T, V]`, row-major.
    ///
    /// # Errors
    /// Too many tokens, an id beyond the vocabulary, or a failure inside llama.cpp.
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        ensure!(
            (1..=self.window).contains(&tokens.len()),
            "{} tokens in a window of {}",
            tokens.len(),
            self.window
        );
        let tokens = tokens
            .iter()
            .map(|&token| match i32::try_from(token) {
                Ok(id) if (token as usize) < self.vocab_size => Ok(LlamaToken::new(id)),
                _ => anyhow::bail!("token {token} is not in the vocabulary of {}", self.vocab_size),
            })
            .collect::<Result<Vec<_>>>()?;
        self.context.clear_kv_cache();
        self.batch.clear();
        self.batch.add_sequence(&tokens, 0, true)?;
        self.context.decode(&mut self.batch).context("llama.cpp could not read a window")?;
        let mut logits = Vec::with_capacity(tokens.len() * self.vocab_size);
        for position in (0_i32..).take(tokens.len()) {
            logits.extend_from_slice(self.context.get_logits_ith(position));
        }
        Ok(logits)
    }
}
