//! Size limits. Each is checked before memory is allocated, for reading and for writing, so that
//! every file that is written can be read.

use gguf_rs_lib::format::constants as library;
use gguf_rs_lib::format::{MetadataArray, MetadataValue};

use crate::{Array, GgufError, Value};

/// Bytes of a tensor name: `GGML_MAX_NAME` of ggml's `ggml.h`, minus its final zero. (The container
/// library accepts 64, which llama.cpp refuses.)
pub(crate) const TENSOR_NAME: usize = 63;
/// Bytes of a key, from the GGUF specification.
pub(crate) const KEY: usize = library::GGUF_MAX_METADATA_KEY_LENGTH;
/// Keys in a file.
pub(crate) const KEYS: u64 = library::GGUF_MAX_METADATA_COUNT;
/// Tensors in a file.
pub(crate) const TENSORS: u64 = library::GGUF_MAX_TENSOR_COUNT;
/// Dimensions of a tensor: `GGML_MAX_DIMS`.
pub(crate) const DIMENSIONS: usize = library::GGUF_MAX_DIMENSIONS;
/// Bytes that one value may take in memory while the container library decodes it.
pub(crate) const VALUE: u64 = library::GGUF_MAX_METADATA_DECODED_SIZE as u64;
/// The largest alignment in bytes. llama.cpp accepts any power of two; a megabyte is much more than
/// any page size, and prevents padding from filling a disk.
pub(crate) const ALIGNMENT: u64 = 1 << 20;

/// Refuses names that llama.cpp would refuse or cut at their first zero byte, and names that would
/// corrupt the output of a terminal. `what` says which name, for example `tensor 3`.
pub(crate) fn check_name(
    name: &str,
    limit: usize,
    what: impl Fn() -> String,
) -> Result<(), GgufError> {
    if name.len() > limit {
        let (length, limit) = (name.len() as u64, limit as u64);
        return Err(GgufError::NameTooLong { what: what(), length, limit });
    }
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(GgufError::BadName { what: what(), name: name.to_owned() });
    }
    Ok(())
}

/// Refuses a value that is too large to be read back.
pub(crate) fn check_value(key: &str, value: &Value) -> Result<(), GgufError> {
    let size = match value {
        Value::String(text) => text.len() as u64,
        Value::Array(array) => {
            let texts = match array {
                Array::String(texts) => texts.iter().map(|text| text.len() as u64).sum(),
                _ => 0,
            };
            array_size(array.len() as u64).saturating_add(texts)
        }
        _ => 0,
    };
    check_size(key, size)
}

/// Bytes that an array of `count` elements takes while it is decoded, not counting its texts.
pub(crate) fn array_size(count: u64) -> u64 {
    let element = size_of::<MetadataValue>() as u64;
    count.saturating_mul(element).saturating_add(size_of::<MetadataArray>() as u64)
}

/// Refuses a value of more than [`VALUE`] bytes.
pub(crate) fn check_size(key: &str, size: u64) -> Result<(), GgufError> {
    if size > VALUE {
        return Err(GgufError::ValueTooLarge { key: key.to_owned(), size, limit: VALUE });
    }
    Ok(())
}
