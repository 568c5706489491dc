//! From a checkpoint to what other programs run: a GGUF with the tokenizer inside, or a folder
//! that `transformers` loads; and a look into any GGUF.
//!
//! The checkpoint crate knows how a checkpoint looks as a GGUF; this crate copies that view into
//! a file, one tensor at a time, so that the memory it takes does not grow with the model.

mod command;
mod gguf_file;
mod hugging_face;
mod input;
pub mod inspect;
mod llama2c;
mod nanogpt;
mod report;
mod single_file;

pub use command::{Args, ConvertArgs, Format, Outcome, Verb, run};
pub use gguf_file::{ExportJob, export_gguf};
pub use hugging_face::{HuggingFaceJob, export_hugging_face};
pub use input::{Input, NO_TOKENIZER};
pub use report::Report;
