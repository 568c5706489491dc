//! Any GGUF, to look into: whatever wrote it, whenever, for whatever machine.
//!
//! [`GgufFile`](crate::GgufFile) takes what llama.cpp runs and this project computes with. A file
//! may be neither and still be whole, so this reader asks for less: versions 1 to 3, either byte
//! order, every number format (also unknown ones), names of any length, gaps, text that is no
//! UTF-8. It says where the weights are and does not read them.
//!
//! ```text
//!             counts, lengths    dimensions of a tensor
//! version 1   u32                u32
//! version 2   u64                u64
//! version 3   u64                u64, and a big-endian file is one whose version reads swapped
//! ```
//!
//! Source: `docs/gguf.md` of ggml, and its `gguf.cpp` of August 2023 for the first version.
//!
//! A large model comes in several files, `NAME-00001-of-00005.gguf` and so on: each is a GGUF of
//! its own, the keys of the model are in the first. [`RawModel`] takes them as one.

mod format;
mod model;
mod read;

use std::path::Path;

use crate::{GgufError, Metadata};

pub use format::StoredFormat;
pub use model::{RawModel, RawPart, first_part, whole_name};

/// Which end of a number comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteOrder {
    /// The lowest byte: nearly every file.
    Little,
    /// The highest byte: files for s390x and PowerPC.
    Big,
}

/// A tensor of a file from anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTensor {
    /// Unique in its file.
    pub name: String,
    /// Fastest dimension first.
    pub shape: Vec<u64>,
    /// How the weights are stored.
    pub format: StoredFormat,
    /// Bytes from the start of the data section.
    pub offset: u64,
    /// Bytes, without padding; unknown where the format is, or its blocks do not fit the rows.
    pub size: Option<u64>,
}

impl RawTensor {
    /// Number of weights; as many as fit in 64 bits where a damaged shape says more.
    pub fn elements(&self) -> u64 {
        self.shape.iter().fold(1, |product, &dim| product.saturating_mul(dim))
    }
}

/// The head of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct RawHeader {
    /// 1, 2 or 3.
    pub version: u32,
    /// Of every number in the file.
    pub byte_order: ByteOrder,
    /// Keys in file order. Text that is no UTF-8 has U+FFFD where it is not.
    pub metadata: Metadata,
    /// Tensors in file order.
    pub tensors: Vec<RawTensor>,
    /// Where the data section starts, in bytes from the start of the file.
    pub data_start: u64,
    /// Tensors start at multiples of this many bytes.
    pub alignment: u64,
}

impl RawHeader {
    /// Reads the head of the file at `path`.
    ///
    /// # Errors
    /// As [`RawHeader::parse`], with the path.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let map = crate::file::map(path)
            .map_err(|source| GgufError::Io { path: path.to_owned(), source })?;
        Self::parse(&map)
            .map_err(|source| GgufError::InFile { path: path.to_owned(), source: Box::new(source) })
    }

    /// Reads a header from the first bytes of a file; how many are needed only they can say.
    ///
    /// Takes memory in proportion to `bytes`, whatever the counts in them say.
    ///
    /// # Errors
    /// When this is no GGUF, one of a later version, or its header is cut short or damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self, GgufError> {
        read::header(bytes)
    }

    /// Where the last byte of a tensor lies, as far as sizes are known.
    pub fn data_end(&self) -> u64 {
        let ends = self.tensors.iter().map(|tensor| {
            let size = tensor.size.unwrap_or(0);
            self.data_start.saturating_add(tensor.offset).saturating_add(size)
        });
        ends.max().unwrap_or(self.data_start)
    }
}
