//! Errors of reading and writing GGUF files: one variant for each reason.
//!
//! A message names the key or tensor at fault, what was expected, and what to do, if that is known.
//! Names from a file are in a message only after the check of [`GgufError::BadName`], so they do
//! not contain terminal escapes.

use std::error::Error;
use std::path::PathBuf;

/// Why a GGUF could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The output could not be written; the caller who opened it knows its name.
    #[error("cannot write the GGUF: {source}")]
    Write {
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Something is wrong with the content of a file.
    #[error("{path}: {source}")]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<GgufError>,
    },
    /// A model in several files is incomplete, or its files do not belong together.
    #[error("{path} is one part of a model in several files: {problem}")]
    Parts {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A source other than a GGUF file could not give the bytes of a tensor.
    #[error("tensor {name}: {source}")]
    Source {
        /// The requested tensor.
        name: String,
        /// What the source said.
        source: Box<dyn Error + Send + Sync>,
    },

    // Requested from a file, but not in it.
    /// No tensor of this name.
    #[error("tensor {name} is missing")]
    MissingTensor {
        /// The name looked for.
        name: String,
    },
    /// A tensor has fewer matrices than the requested index.
    #[error("tensor {name} has no matrix {index}")]
    NoMatrix {
        /// The tensor.
        name: String,
        /// The requested index, counted from 0.
        index: usize,
    },
    /// No key of this name.
    #[error("key {key} is missing from the metadata")]
    MissingKey {
        /// The key looked for.
        key: String,
    },
    /// A key holds a value of another type.
    #[error("key {key}: expected {expected}")]
    WrongValueType {
        /// The key at fault.
        key: String,
        /// What a reader of this key needs.
        expected: &'static str,
    },
    /// A type name that this crate does not know.
    #[error(
        "unknown tensor type {name}: expected one of F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0, Q6_K, Q5_K, Q4_K, Q3_K, Q2_K, IQ4_NL, IQ4_XS"
    )]
    UnknownTypeName {
        /// The name as given.
        name: String,
    },

    // The first 24 bytes.
    /// The file does not start with `GGUF`.
    #[error("this is no GGUF but {looks_like}: expected a file that starts with the letters GGUF")]
    NotGguf {
        /// What the first bytes suggest, with the command that may help.
        looks_like: &'static str,
    },
    /// A version other than 3.
    #[error(
        "GGUF version {version}: expected version 3; convert the original model again with a current llama.cpp"
    )]
    Version {
        /// The version found.
        version: u32,
    },
    /// A version that no reader of this crate knows.
    #[error("GGUF version {version}: expected 1 to {newest}; the file is newer than this program")]
    UnknownVersion {
        /// The version found.
        version: u32,
        /// The last one that is known.
        newest: u32,
    },
    /// Written on, or for, a big-endian machine.
    #[error(
        "a big-endian GGUF: expected little-endian; convert it with gguf_convert_endian.py of llama.cpp"
    )]
    BigEndian,
    /// The file, or the part of it that was given, ends too early.
    #[error(
        "cut short: {what} starts at byte {at} and needs at least {needed} bytes, {left} are left; fetch or copy the file again"
    )]
    Truncated {
        /// What was being read.
        what: String,
        /// Where it starts, in bytes from the start of the file.
        at: u64,
        /// Bytes it needs at least.
        needed: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// Bytes after the end of the last tensor.
    #[error(
        "{extra} bytes follow the last tensor: expected the file to end at byte {expected}; cut it there if they are not wanted"
    )]
    TrailingBytes {
        /// Size of the canonical file.
        expected: u64,
        /// Bytes beyond it.
        extra: u64,
    },
    /// A count that no real file has.
    #[error("{what}: the header counts {count}, expected at most {limit}; the file is damaged")]
    TooMany {
        /// What is counted.
        what: String,
        /// The count found.
        count: u64,
        /// The limit of this crate.
        limit: u64,
    },

    // Keys and their values.
    /// A key or tensor name that is empty or holds control characters.
    #[error("{what} {name:?}: expected a name of printable characters, at least one")]
    BadName {
        /// `key` or `tensor`, with its position counted from 0.
        what: String,
        /// The name found.
        name: String,
    },
    /// A key or tensor name beyond the limit of llama.cpp.
    #[error("{what}: its name has {length} bytes, expected at most {limit}")]
    NameTooLong {
        /// `key` or `tensor`, with its position counted from 0.
        what: String,
        /// Bytes of the name.
        length: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A key or tensor name that is not UTF-8.
    #[error("{what}: its name is no UTF-8; the file is damaged")]
    NameNotUtf8 {
        /// `key` or `tensor`, with its position counted from 0.
        what: String,
    },
    /// A key that occurs twice.
    #[error("key {key} is there twice: expected each key once")]
    DuplicateKey {
        /// The key at fault.
        key: String,
    },
    /// A number that is not the number of a value type.
    #[error("key {key}: value type {id} is unknown, expected 0 to 12; the file is damaged")]
    UnknownValueType {
        /// The key at fault.
        key: String,
        /// The number found.
        id: u32,
    },
    /// Arrays of arrays, which llama.cpp does not read.
    #[error("key {key}: an array of arrays; llama.cpp reads flat arrays only")]
    NestedArray {
        /// The key at fault.
        key: String,
    },
    /// A value beyond the size limit.
    #[error("key {key}: the value takes {size} bytes in memory, expected at most {limit}")]
    ValueTooLarge {
        /// The key at fault.
        key: String,
        /// Bytes the value would take while it is read.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The container library refused the data: text that is not UTF-8, or a boolean that is neither
    /// 0 nor 1.
    #[error("{what} is malformed: {source}")]
    Malformed {
        /// What was being read, for example `key general.name`.
        what: String,
        /// What the container library said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// `general.alignment` is not a u32, not a power of two, or too large.
    #[error("key general.alignment is {found}: expected a u32 power of two of at most {limit}")]
    BadAlignment {
        /// Type and value found.
        found: String,
        /// The largest alignment allowed, in bytes.
        limit: u64,
    },

    // Tensors.
    /// A tensor that occurs twice.
    #[error("tensor {name} is there twice: expected each name once")]
    DuplicateTensor {
        /// The tensor at fault.
        name: String,
    },
    /// A tensor without dimensions, or with more than ggml's maximum of four.
    #[error("tensor {name} has {count} dimensions: expected 1 to 4")]
    DimensionCount {
        /// The tensor at fault.
        name: String,
        /// Dimensions found.
        count: u64,
    },
    /// A dimension of zero.
    #[error("tensor {name} has the shape {shape:?}: expected every dimension to be at least 1")]
    EmptyTensor {
        /// The tensor at fault.
        name: String,
        /// Fastest dimension first.
        shape: Vec<u64>,
    },
    /// The number of weights or bytes does not fit in 63 bits (as with a negative dimension).
    #[error("tensor {name} has the shape {shape:?}: expected a size below 2^63")]
    TensorTooLarge {
        /// The tensor at fault.
        name: String,
        /// Fastest dimension first.
        shape: Vec<u64>,
    },
    /// A number format that this crate does not read.
    #[error(
        "tensor {name} is stored as {type_name} (type {id}): expected F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0, Q6_K, Q5_K, Q4_K, Q3_K, Q2_K, IQ4_NL or IQ4_XS; requantize the model to one of these"
    )]
    UnknownTensorType {
        /// The tensor at fault.
        name: String,
        /// ggml's number.
        id: u32,
        /// ggml's name, or `an unknown format`.
        type_name: &'static str,
    },
    /// Rows that are not a whole number of blocks.
    #[error(
        "tensor {name} has rows of {row} weights: expected a multiple of {block} for {tensor_type}; store it as F16, or as Q8_0 if 32 divides its rows"
    )]
    PartialBlock {
        /// The tensor at fault.
        name: String,
        /// Weights in a row.
        row: u64,
        /// Weights in a block.
        block: u64,
        /// The format.
        tensor_type: crate::TensorType,
    },
    /// A tensor that starts before the end of the one before it.
    #[error(
        "tensor {name} starts at byte {offset} of the data and overlaps the tensor before it: expected byte {expected}; the file is damaged"
    )]
    Overlap {
        /// The tensor at fault.
        name: String,
        /// Where it starts.
        offset: u64,
        /// Where llama.cpp expects it.
        expected: u64,
    },
    /// A tensor that starts later than llama.cpp accepts.
    #[error(
        "tensor {name} starts at byte {offset} of the data: expected byte {expected}, since llama.cpp reads no file with gaps; write it again with a tool that leaves none"
    )]
    Gap {
        /// The tensor at fault.
        name: String,
        /// Where it starts.
        offset: u64,
        /// Where llama.cpp expects it.
        expected: u64,
    },
    /// The size of all tensors together does not fit in 63 bits.
    #[error("the file would be larger than 2^63 bytes")]
    FileTooLarge,

    // Writing that differs from the planned layout.
    /// The header of one layout was requested with the metadata of another.
    #[error(
        "this metadata takes {found} bytes, the planned header has {expected}: expected the metadata that the layout was planned for"
    )]
    ForeignMetadata {
        /// Bytes of the planned header.
        expected: u64,
        /// Bytes that this metadata takes.
        found: u64,
    },
    /// A tensor in the wrong order.
    #[error("tensor {name} was written where {expected} is due: expected the planned order")]
    OutOfTurn {
        /// The tensor that was passed.
        name: String,
        /// The tensor that is due, or `no further tensor`.
        expected: String,
    },
    /// A tensor of another size than planned.
    #[error("tensor {name} has {found} bytes, expected {expected} for its shape and type")]
    WrongSize {
        /// The tensor that was passed.
        name: String,
        /// Bytes planned.
        expected: u64,
        /// Bytes that were passed.
        found: u64,
    },
    /// The file was finished before all its tensors were written.
    #[error("the GGUF is not complete: tensor {next} and {more} more were not written")]
    Unfinished {
        /// The first tensor that is missing.
        next: String,
        /// How many are missing after it.
        more: usize,
    },

    /// Weights that cannot be packed into blocks, or bytes that are not blocks.
    #[error(transparent)]
    Blocks(#[from] crate::blocks::BlockError),
}
