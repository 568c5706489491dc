//! Prepares text for training: tokenizers, token files, windows, splits, shuffled order.
//!
//! ```text
//! builtin | corpora/NAME | file  --Tokenizer-->  tokens.bin  --Split, Windows, Shuffle-->  batches
//! ```
//!
//! A token file is a plain array of ids after a small header. It is memory-mapped, so a corpus
//! larger than memory trains like a small one. Its header identifies the tokenizer that made it, so
//! that ids are never read with the wrong vocabulary.
//!
//! ```
//! let tokenizer = data::Tokenizer::gpt2()?;
//! assert_eq!(tokenizer.encode("Hello world")?, [15496, 995]);
//! assert_eq!(tokenizer.decode(&[15496, 995]), "Hello world");
//! # anyhow::Ok(())
//! ```

pub mod chat;
mod command;
mod corpus;
mod documents;
mod encode;
mod fetch;
mod filter;
mod inputs;
mod inspect;
mod records;
mod shards;
mod shuffle;
mod skipped;
mod text;
mod token_file;
mod tokenizer;
mod windows;

pub use chat::encode_conversation;
pub use command::{Args, EXAMPLES, Report, TrainedReport, open_tokenizer, run};
pub use corpus::{BUILTIN, BUILTIN_STORY, CORPORA_FOLDER, Corpus, KNOWN_CORPORA, KnownCorpus};
pub use documents::ReadReport;
pub use encode::{EncodeReport, encode_file, simple_from_file};
pub use fetch::{FetchJob, FetchReport, fetch};
pub use filter::{Dropped, Example, FilterJob, FilterReport, Finding, Limits, Rule, filter};
pub use inputs::{Compression, Format, InputFile, Inputs, STANDARD_INPUT};
pub use inspect::{
    DocumentsReport, InspectReport, TokenCount, TokenShown, check_tokenizer, inspect,
    inspect_tokens,
};
pub use records::{BadRecord, LARGEST_RECORD, Place, Record, Records, records};
pub use shards::{SHARD_BYTES, encode_shards};
pub use shuffle::Shuffle;
pub use skipped::Skipped;
pub use token_file::{TokenFile, TokenWriter, Written};
pub use tokenizer::{END_OF_TEXT, MissingToken, Part, Tokenizer, train_tokenizer};
pub use windows::{Split, Window, Windows, perplexity_tokens, perplexity_windows};
