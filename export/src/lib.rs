//! Converts a checkpoint for other programs: into a GGUF with the tokenizer inside, or a folder
//! that `transformers` loads. Also shows the contents of any GGUF.
//!
//! The checkpoint crate provides a view of a checkpoint as a GGUF. This crate copies that view into
//! a file, one tensor at a time, so that its memory does not depend on the size of the model.

mod adapter;
mod command;
mod gguf_file;
mod hugging_face;
mod input;
pub mod inspect;
mod llama2c;
mod nanogpt;
mod report;
mod single_file;
mod tokenizer_file;

pub use adapter::{AdapterJob, export_adapter};
pub use command::{Args, ConvertArgs, Format, Outcome, Verb, run};
pub use gguf_file::{ExportJob, export_gguf};
pub use hugging_face::{HuggingFaceJob, export_hugging_face};
pub use input::Input;
pub use report::Report;
pub use tokenizer_file::NO_TOKENIZER;
