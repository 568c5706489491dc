//! llama.cpp in this process: what devices run, and the judge that everything built on it will
//! agree with.
//!
//! A [`Llama`] is a GGUF file that llama.cpp has mapped; a [`Session`] reads tokens with it, and
//! [`Branches`] several texts with one beginning. The
//! [`Arithmetic`] of a session is either what a device will use, or as near to a plain pass in f32
//! as llama.cpp comes. What keys and values are kept in is a [`Cache`].
//!
//! On some files llama.cpp ends the program where others get an error. A vocabulary that does so is
//! refused before llama.cpp sees it (`vocabulary`).
//!
//! llama.cpp's own log goes to `tracing` where `RUST_LOG=info` (or finer) asks for it, and nowhere
//! otherwise.

mod branches;
mod cache;
mod error;
mod ffi;
mod session;
mod vocabulary;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ffi::{Backend, Model};

pub use branches::{BranchRow, Branches};
pub use cache::{Cache, CacheType};
pub use error::LlamaError;
pub use session::{Arithmetic, Session, Settings};

/// llama.cpp can be started once per process and is stopped with the last model.
static BACKEND: Mutex<Weak<Backend>> = Mutex::new(Weak::new());

/// A GGUF file, mapped into memory by llama.cpp.
pub struct Llama {
    // Dropped in this order: the model before the backend it lives in.
    model: Model,
    _backend: Arc<Backend>,
    path: PathBuf,
    vocab_size: usize,
}

impl Llama {
    /// Maps the GGUF file at `path`.
    ///
    /// # Errors
    /// When `path` is no file, llama.cpp refuses it, or its vocabulary is one on which llama.cpp ends
    /// the program.
    pub fn load(path: &Path) -> Result<Self, LlamaError> {
        let path = path.to_owned();
        if !path.is_file() {
            return Err(LlamaError::NoFile { path });
        }
        vocabulary::check(&path)?;
        let backend = backend();
        let Some(model) = Model::load(&backend, &path) else {
            return Err(LlamaError::Refused { path });
        };
        let vocab_size = usize::try_from(model.vocab_size()).unwrap_or(0);
        if vocab_size == 0 {
            return Err(LlamaError::NoVocabulary { path });
        }
        Ok(Llama { model, _backend: backend, path, vocab_size })
    }

    /// Number of token ids, `V`.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Tokens of context that the model was trained on.
    pub fn context_length(&self) -> usize {
        usize::try_from(self.model.context_length()).unwrap_or(0)
    }
}

/// Starts llama.cpp, or joins those who did.
fn backend() -> Arc<Backend> {
    let mut shared = BACKEND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(backend) = shared.upgrade() {
        return backend;
    }
    let backend = Arc::new(Backend::start(tracing::enabled!(tracing::Level::INFO)));
    *shared = Arc::downgrade(&backend);
    backend
}
