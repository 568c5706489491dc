//! Everything that llama.cpp can refuse, and what can be refused before it is asked.

use std::path::PathBuf;

use crate::CacheType;

/// Why a model was not loaded, or tokens were not read.
#[derive(Debug, thiserror::Error)]
pub enum LlamaError {
    /// There is no file, or it is a folder.
    #[error(
        "{path}: llama.cpp reads GGUF files only; make one from a checkpoint with `pocketgpt \
         export`, from fragments with `pocketgpt fragment join`, or use --engine reference"
    )]
    NoFile {
        /// Where a file was expected.
        path: PathBuf,
    },
    /// The file is damaged, or holds a model that llama.cpp does not know.
    #[error("llama.cpp refuses {path} (RUST_LOG=info shows why)")]
    Refused {
        /// The file at fault.
        path: PathBuf,
    },
    /// The head of the file is damaged.
    #[error(transparent)]
    Header(#[from] gguf::GgufError),
    /// Two tokens have the same text, on which llama.cpp ends the program.
    #[error(
        "{path}: the tokens {first} and {second} are both {text:?}: expected each text once; \
         convert the model again"
    )]
    RepeatedToken {
        /// The file at fault.
        path: PathBuf,
        /// The text of both, as llama.cpp reads it.
        text: String,
        /// The id that has it first.
        first: usize,
        /// The id that has it again.
        second: usize,
    },
    /// The file has no tokens.
    #[error("{path}: llama.cpp finds no vocabulary")]
    NoVocabulary {
        /// The file at fault.
        path: PathBuf,
    },
    /// A context that no machine has room for, or of no tokens.
    #[error("llama.cpp has no room for a context of {context} tokens of {path}")]
    NoRoom {
        /// The file of the model.
        path: PathBuf,
        /// Tokens that were asked for.
        context: usize,
    },
    /// Keys or values of a head do not fill whole blocks of the cache's format.
    #[error(
        "{path}: a cache in {cache_type} has blocks of {block}, but a head is {width} wide: keep \
         keys and values in f16"
    )]
    CacheBlock {
        /// The file of the model.
        path: PathBuf,
        /// What keys or values were to be kept in.
        cache_type: CacheType,
        /// Numbers in a block.
        block: usize,
        /// Width of a head.
        width: usize,
    },
    /// A pass over nothing.
    #[error("no tokens to read: expected at least one")]
    NoTokens,
    /// More tokens than the session has room for.
    #[error("{wanted} tokens do not fit in the model's context of {limit}: pass at most {limit}")]
    ContextOverflow {
        /// Tokens that would be in the context.
        wanted: usize,
        /// Tokens that the session has room for.
        limit: usize,
    },
    /// A token id beyond the vocabulary.
    #[error("token {token}: expected an id below the vocabulary size {vocab_size}")]
    TokenOutOfRange {
        /// The id at fault.
        token: u32,
        /// Number of token ids.
        vocab_size: usize,
    },
    /// The model's layers keep a state that has no earlier one.
    #[error("llama.cpp cannot go back from token {position} to {wanted} with this model")]
    NoWayBack {
        /// Tokens read.
        position: usize,
        /// Tokens to keep.
        wanted: usize,
    },
    /// More tokens in one pass than llama.cpp can count.
    #[error("{tokens} tokens in {sequences} texts are too many for one pass of llama.cpp")]
    Batch {
        /// Tokens of the pass.
        tokens: usize,
        /// Texts that a token may belong to.
        sequences: usize,
    },
    /// llama.cpp failed within a pass.
    #[error(
        "llama.cpp cannot read the tokens: llama_decode returned {code} (RUST_LOG=info shows why)"
    )]
    Decode {
        /// 1 if no cells of the cache are free; negative for a failure.
        code: i32,
    },
    /// llama.cpp did not keep logits that it was asked for.
    #[error("llama.cpp has no logits for token {place} of the pass")]
    NoLogits {
        /// Place of the token in the pass, from 0.
        place: usize,
    },
}
