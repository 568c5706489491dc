//! GGUF: the container that llama.cpp and everything built on it reads, and its block formats.
//!
//! ```text
//! magic "GGUF" | version 3 | tensor count | key count
//! keys:    name, type, value                  in a fixed order
//! tensors: name, shape, type, offset          in a fixed order, no gaps
//! padding to the alignment
//! tensor data, each tensor padded to the alignment, the last one too
//! ```
//!
//! The same metadata and tensors always give the same bytes. Whatever holds tensors (a mapped
//! file, its fragments, a checkpoint seen as a GGUF) is a [`TensorSource`].

pub mod blocks;
mod describe;
mod encode;
mod error;
mod file;
mod layout;
mod limits;
mod metadata;
mod parse;
mod sniff;
mod source;
mod tensor_type;
mod writer;

pub use blocks::read_f32;
pub use error::GgufError;
pub use file::GgufFile;
pub use layout::Layout;
pub use metadata::{Array, Metadata, Value};
pub use parse::parse_header;
pub use source::{TensorInfo, TensorSource};
pub use tensor_type::TensorType;
pub use writer::Writer;

/// Tensor data starts and ends at multiples of this many bytes, unless `general.alignment` says
/// otherwise.
pub const DEFAULT_ALIGNMENT: u64 = 32;
