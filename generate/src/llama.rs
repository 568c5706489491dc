//! llama.cpp in this process: what devices run, so its text is what a user will see.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context, Result, bail, ensure};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use crate::engine::Engine;

/// llama.cpp can be started once per process and is stopped with the last model.
static BACKEND: Mutex<Weak<LlamaBackend>> = Mutex::new(Weak::new());

/// A GGUF file, mapped into memory by llama.cpp.
pub struct LlamaModel {
    // Dropped in this order: the model before the backend it lives in.
    model: llama_cpp_2::model::LlamaModel,
    backend: Arc<LlamaBackend>,
    threads: i32,
}

impl LlamaModel {
    /// Maps the GGUF file at `path`; `threads` compute, 0 stands for all cores.
    ///
    /// # Errors
    /// When `path` is no GGUF file, or llama.cpp refuses it (`RUST_LOG=info` shows why).
    pub fn load(path: &Path, threads: usize) -> Result<Self> {
        ensure!(
            path.is_file(),
            "{}: llama.cpp reads GGUF files only; make one from a checkpoint with `pocketgpt \
             export`, from fragments with `pocketgpt fragment join`, or use --engine reference",
            path.display()
        );
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let backend = backend()?;
        let params = LlamaModelParams::default();
        let model = llama_cpp_2::model::LlamaModel::load_from_file(&backend, path, &params)
            .with_context(|| {
                format!("llama.cpp refuses {} (RUST_LOG=info shows why)", path.display())
            })?;
        Ok(LlamaModel { model, backend, threads: i32::try_from(threads)? })
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        usize::try_from(self.model.n_vocab()).unwrap_or(0)
    }

    /// A reading with room for the whole context that the model was trained on. Keys and values
    /// are in f16, llama.cpp's default.
    ///
    /// # Errors
    /// When llama.cpp gets no memory for it.
    pub fn session(&self) -> Result<LlamaSession<'_>> {
        let context_length = self.model.n_ctx_train();
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(context_length))
            .with_n_batch(context_length)
            .with_n_threads(self.threads)
            .with_n_threads_batch(self.threads);
        let context = self
            .model
            .new_context(&self.backend, params)
            .with_context(|| format!("llama.cpp has no room for {context_length} tokens"))?;
        Ok(LlamaSession {
            context,
            context_length: context_length as usize,
            vocab_size: self.vocab_size(),
            position: 0,
        })
    }
}

/// Starts llama.cpp, or joins those who did; its log goes where ours goes.
fn backend() -> Result<Arc<LlamaBackend>> {
    let mut shared = BACKEND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(backend) = shared.upgrade() {
        return Ok(backend);
    }
    llama_cpp_2::send_logs_to_tracing(llama_cpp_2::LogOptions::default());
    let backend = Arc::new(LlamaBackend::init().context("cannot start llama.cpp")?);
    *shared = Arc::downgrade(&backend);
    Ok(backend)
}

/// A text that llama.cpp reads bit by bit.
pub struct LlamaSession<'a> {
    context: LlamaContext<'a>,
    context_length: usize,
    vocab_size: usize,
    position: usize,
}

impl Engine for LlamaSession<'_> {
    fn push(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        ensure!(!tokens.is_empty(), "no tokens to read: expected at least one");
        let (end, limit) = (self.position + tokens.len(), self.context_length);
        ensure!(
            end <= limit,
            "{end} tokens do not fit in the model's context of {limit}: pass at most {limit}"
        );
        // llama.cpp checks ids itself, but only says that something was wrong.
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= self.vocab_size) {
            bail!("token {token}: expected an id below the vocabulary size {}", self.vocab_size);
        }
        let mut batch = LlamaBatch::new(tokens.len(), 1);
        for (i, &token) in tokens.iter().enumerate() {
            let at = i32::try_from(self.position + i)?;
            let is_last = i + 1 == tokens.len();
            batch.add(LlamaToken(i32::try_from(token)?), at, &[0], is_last)?;
        }
        self.context.decode(&mut batch).context("llama.cpp cannot read the tokens")?;
        self.position = end;
        Ok(self.context.get_logits_ith(batch.n_tokens() - 1).to_vec())
    }

    fn position(&self) -> usize {
        self.position
    }

    fn context_length(&self) -> usize {
        self.context_length
    }
}
