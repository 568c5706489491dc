//! GGUF, the file format of llama.cpp and of programs built on it, and its block formats.
//!
//! ```text
//! magic "GGUF" | version 3 | tensor count | key count
//! keys:    name, type, value                  in a fixed order
//! tensors: name, shape, type, offset          in a fixed order, no gaps
//! padding to the alignment
//! tensor data, each tensor padded to the alignment, the last one too
//! ```
//!
//! The same metadata and tensors always give the same bytes. Every source of tensors (a mapped
//! file, its fragments, a checkpoint viewed as a GGUF) is a [`TensorSource`]. The crate does not
//! know which keys and tensors an architecture needs; other crates define that.
//!
//! | to | use |
//! |---|---|
//! | read a file | [`GgufFile::open`], then [`TensorSource`] |
//! | read a model that may be in several files | [`GgufParts::open`], then [`TensorSource`] |
//! | look into any file, of any version, format and program | [`RawModel::open`] |
//! | read a header from part of a file | [`parse_header`] |
//! | know sizes and offsets before there are weights | [`Layout::plan`] |
//! | write a file, one tensor in memory at a time | [`Writer`] |
//! | convert blocks to floats and back | [`blocks`], [`read_f32`] |
//! | choose scales and codes yourself | [`grid`] |
//!
//! # What is refused
//!
//! gguf-rs-lib decodes numbers and values. This crate calls it key by key, in the order of the
//! file, and refuses what ggml's `gguf.cpp` refuses, each with its own [`GgufError`]: keys or
//! tensors that occur twice, tensor names of more than 63 bytes, an alignment that is not a power
//! of two, shapes that overflow, gaps and overlaps between tensors, arrays of arrays. The same
//! checks apply to writing, so every file that is written can be read.
//!
//! Stricter than ggml, on purpose:
//!
//! | refused here | since |
//! |---|---|
//! | versions 1 and 2 | superseded in 2023; the original model converts again |
//! | text that is not UTF-8, control characters in names | they end up on terminals and in JSON |
//! | tensors without weights, alignments above 1 MiB | no model has them |
//! | bytes after the last tensor | they would be lost when the file is written again |
//! | number formats without an entry in [`TensorType`] | they could not be read |
//! | values of more than 256 MiB in memory, 100,000 keys, 1,000,000 tensors | limits of gguf-rs-lib |
//!
//! Accepted, but never written: padding that is not zero, and a last tensor without padding.
//! [`GgufFile::is_canonical`] distinguishes such files from those that this crate writes.
//!
//! # Hostile files
//!
//! A count is compared with the bytes that are left before memory is allocated for it. So the
//! memory for reading is proportional to the size of the file, whatever its header says
//! (`tests/memory.rs` measures it). The fuzz target and the property tests share one invariant: an
//! accepted file that is written again is the same file.

pub mod blocks;
mod cursor;
mod describe;
mod encode;
mod error;
mod file;
mod file_type;
pub mod grid;
mod layout;
mod limits;
mod metadata;
mod parse;
mod raw;
mod sniff;
mod source;
mod split_files;
mod tensor_type;
mod writer;

pub use blocks::{read_f32, read_matrix_f32};
pub use error::GgufError;
pub use file::GgufFile;
pub use file_type::{FileType, recipe_of};
pub use layout::Layout;
pub use metadata::{Array, Metadata, Value};
pub use parse::parse_header;
pub use raw::{
    ByteOrder, RawHeader, RawModel, RawPart, RawTensor, StoredFormat, first_part, whole_name,
};
pub use sniff::GIT_LFS_POINTER;
pub use source::{TensorInfo, TensorSource, matrix_range};
pub use split_files::GgufParts;
pub use tensor_type::TensorType;
pub use writer::Writer;

/// Tensor data starts and ends at multiples of this many bytes, unless `general.alignment` says
/// otherwise.
pub const DEFAULT_ALIGNMENT: u64 = 32;
