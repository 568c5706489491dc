//! Reads the header of any GGUF, of any version, program and byte order.
//!
//! [`GgufFile`](crate::GgufFile) accepts what llama.cpp runs and this project computes with. Other
//! files can still be valid, so this reader accepts more: versions 1 to 3, either byte order, every
//! number format (also unknown ones), names of any length, gaps, text that is not UTF-8. It finds
//! the positions of the weights and does not read them.
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
//! A large model can be split into several files, `NAME-00001-of-00005.gguf` and so on. Each is a
//! complete GGUF; the keys of the model are in the first. [`RawModel`] reads them as one model.

mod format;
mod model;
mod read;

use std::path::Path;

use crate::{GgufError, Metadata};

pub use format::StoredFormat;
pub use model::{RawModel, RawPart, first_part, whole_name};

/// Which byte of a number comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteOrder {
    /// The lowest byte, as in nearly every file.
    Little,
    /// The highest byte, as in files for s390x and PowerPC.
    Big,
}

/// A tensor of a file of any program.
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
    /// Bytes, without padding; `None` if the format is unknown or its blocks do not fit the rows.
    pub size: Option<u64>,
}

impl RawTensor {
    /// Number of weights; the largest 64-bit number if a damaged shape has more.
    pub fn elements(&self) -> u64 {
        self.shape.iter().fold(1, |product, &dim| product.saturating_mul(dim))
    }
}

/// The header of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct RawHeader {
    /// 1, 2 or 3.
    pub version: u32,
    /// The byte order of every number in the file.
    pub byte_order: ByteOrder,
    /// Keys in file order. Invalid UTF-8 in texts is replaced by U+FFFD.
    pub metadata: Metadata,
    /// Tensors in file order.
    pub tensors: Vec<RawTensor>,
    /// Where the data section starts, in bytes from the start of the file.
    pub data_start: u64,
    /// Tensors start at multiples of this many bytes.
    pub alignment: u64,
}

impl RawHeader {
    /// Reads the header of the file at `path`.
    ///
    /// # Errors
    /// As [`RawHeader::parse`], with the path.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let map = crate::file::map(path)
            .map_err(|source| GgufError::Io { path: path.to_owned(), source })?;
        Self::parse(&map)
            .map_err(|source| GgufError::InFile { path: path.to_owned(), source: Box::new(source) })
    }

    /// Reads a header from the first bytes of a file; how many are needed depends on their content.
    ///
    /// The memory is proportional to the length of `bytes`, whatever the counts in them say.
    ///
    /// # Errors
    /// When this is not a GGUF, has a later version, or its header is cut short or damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self, GgufError> {
        read::header(bytes)
    }

    /// Where the data of all tensors ends; tensors of unknown size count as empty.
    pub fn data_end(&self) -> u64 {
        let ends = self.tensors.iter().map(|tensor| {
            let size = tensor.size.unwrap_or(0);
            self.data_start.saturating_add(tensor.offset).saturating_add(size)
        });
        ends.max().unwrap_or(self.data_start)
    }
}
