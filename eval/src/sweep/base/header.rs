//! The header of a base: it identifies the model and the text, so that a base is never mistaken for
//! another.

use std::path::Path;

use super::BaseError;
use super::row::row_bytes;

const MAGIC: &[u8; 8] = b"PGPLOGIT";
/// The first bytes of the files of `llama-perplexity --kl-divergence-base`.
const LLAMA_MAGIC: &[u8; 8] = b"_logits_";
const VERSION: u32 = 1;

/// Bytes of the header itself, including its hash.
pub const HEADER: usize = 128;
/// Bytes that the hash of the header covers.
const HASHED: usize = 96;
/// Bytes of a window's mark: the BLAKE3 hash of its rows.
pub const MARK: usize = 32;
/// Windows begin at a multiple of this.
const PAGE: u64 = 4096;

/// The inputs that determine every byte of a base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `V`
    pub vocab_size: u32,
    /// Tokens in a window.
    pub context: u32,
    /// Windows.
    pub windows: u32,
    /// The engine that computed the logits.
    pub engine: BaseEngine,
    /// BLAKE3 of the model's file.
    pub model: [u8; 32],
    /// BLAKE3 of all windows' tokens as little-endian `u32`.
    pub tokens: [u8; 32],
}

/// The engine that computed a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseEngine {
    /// llama.cpp with its defaults: keys and values in f16.
    LlamaCpp,
    /// The plain Rust pass.
    Reference,
}

impl BaseEngine {
    fn code(self) -> u32 {
        match self {
            BaseEngine::LlamaCpp => 1,
            BaseEngine::Reference => 2,
        }
    }

    fn from_code(code: u32) -> Option<Self> {
        [BaseEngine::LlamaCpp, BaseEngine::Reference].into_iter().find(|e| e.code() == code)
    }

    fn name(self) -> &'static str {
        match self {
            BaseEngine::LlamaCpp => "llama.cpp",
            BaseEngine::Reference => "the reference",
        }
    }
}

impl Identity {
    /// First position whose logits are stored: each scored position has half a window before it.
    pub fn first(&self) -> usize {
        self.context as usize / 2
    }

    /// Positions of a window whose logits are stored, those that llama-perplexity scores: the last
    /// one has no next token.
    pub fn scored(&self) -> usize {
        (self.context as usize - 1).saturating_sub(self.first())
    }

    /// Bytes of a window.
    pub fn window_bytes(&self) -> u64 {
        self.scored() as u64 * row_bytes(self.vocab_size as usize) as u64
    }

    /// Offset of the first window.
    pub fn data_start(&self) -> u64 {
        (HEADER as u64 + MARK as u64 * u64::from(self.windows)).next_multiple_of(PAGE)
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.data_start().saturating_add(self.window_bytes().saturating_mul(self.windows.into()))
    }

    /// The header as stored in the file.
    pub fn to_bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let numbers = [VERSION, self.vocab_size, self.context, self.windows, self.engine.code(), 0];
        bytes[..8].copy_from_slice(MAGIC);
        for (place, number) in bytes[8..32].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes[32..64].copy_from_slice(&self.model);
        bytes[64..96].copy_from_slice(&self.tokens);
        let hash = blake3::hash(&bytes[..HASHED]);
        bytes[HASHED..].copy_from_slice(hash.as_bytes());
        bytes
    }

    /// Reads the header of the file at `path`, which begins with `bytes`.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, BaseError> {
        let path = path.to_owned();
        if bytes.starts_with(LLAMA_MAGIC) {
            return Err(BaseError::OfLlamaPerplexity { path });
        }
        if !bytes.starts_with(MAGIC) {
            return Err(BaseError::NoBase { path });
        }
        let Some(header) = bytes.first_chunk::<HEADER>() else {
            return Err(BaseError::DamagedHeader { path });
        };
        let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
        if number(8) != VERSION {
            return Err(BaseError::Version { path, found: number(8), expected: VERSION });
        }
        let engine = BaseEngine::from_code(number(24));
        let (hash, Some(engine)) = (blake3::hash(&header[..HASHED]), engine) else {
            return Err(BaseError::DamagedHeader { path });
        };
        if hash.as_bytes() != &header[HASHED..] {
            return Err(BaseError::DamagedHeader { path });
        }
        let hash = |at: usize| std::array::from_fn(|i| header[at + i]);
        Ok(Identity {
            vocab_size: number(12),
            context: number(16),
            windows: number(20),
            engine,
            model: hash(32),
            tokens: hash(64),
        })
    }

    /// Refuses the file at `path` with the identity `found` if it is not `self`, and names the
    /// first difference.
    pub fn accept(&self, path: &Path, found: &Identity) -> Result<(), BaseError> {
        let another = |what: String| Err(BaseError::Another { path: path.to_owned(), what });
        if found.model != self.model || found.vocab_size != self.vocab_size {
            return another("of another model".to_owned());
        }
        if found.engine != self.engine {
            let (theirs, ours) = (found.engine.name(), self.engine.name());
            return another(format!("computed by {theirs}, not by {ours}"));
        }
        if found.context != self.context {
            let (theirs, ours) = (found.context, self.context);
            return another(format!("of windows of {theirs} tokens, not {ours}"));
        }
        if found.windows != self.windows {
            let (theirs, ours) = (found.windows, self.windows);
            return another(format!("of {theirs} windows, not {ours}"));
        }
        if found.tokens != self.tokens {
            return another("of another text".to_owned());
        }
        Ok(())
    }
}
