//! Parses the header of a file into its metadata and layout.
//!
//! The container library decodes header, numbers and values. This module calls it for one key and
//! one tensor at a time, so that the order of the file is kept, sizes are checked before the
//! library sees them, and every error names the key or tensor at fault.

use std::collections::HashSet;

use gguf_rs_lib::GGUFError;
use gguf_rs_lib::format::{GGUFHeader, GGUFValueType, MetadataValue, endian};

use crate::cursor::{Cursor, MIN_KEY_BYTES};
use crate::layout::{self, Layout};
use crate::{Array, GgufError, Metadata, StoredFormat, TensorType, Value, limits, sniff};

/// Minimum size of a tensor description, in bytes: length, one letter, dimension count, one
/// dimension, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// Reads header, metadata and tensor descriptions from the start of a file; `bytes` may be only a
/// prefix of the file. The file size in the layout is that of the canonical file.
///
/// The memory is proportional to the length of `bytes`, whatever the counts in them say.
///
/// # Errors
/// [`GgufError::Truncated`] if `bytes` ends before the tensor descriptions do; a longer prefix of
/// the file may succeed. All other errors are final: llama.cpp would refuse the file, or it exceeds
/// a limit of this crate.
pub fn parse_header(bytes: &[u8]) -> Result<(Metadata, Layout), GgufError> {
    sniff::check_magic_and_version(bytes)?;
    let mut reader = Cursor::new(bytes);
    let what = || "the header".to_owned();
    reader.need(GGUFHeader::size() as u64, what)?;
    let header = reader.decode(what, GGUFHeader::read_from)?;
    let (keys, tensors) = (header.metadata_kv_count, header.tensor_count);
    reader.check_count("keys", keys, limits::KEYS, MIN_KEY_BYTES)?;
    reader.check_count("tensors", tensors, limits::TENSORS, MIN_TENSOR_BYTES)?;

    let metadata = reader.metadata(keys)?;
    let alignment = layout::alignment(&metadata)?;
    let mut described = Vec::with_capacity(tensors as usize);
    let mut offsets = Vec::with_capacity(tensors as usize);
    for index in 0..tensors {
        let (tensor, offset) = reader.tensor(index)?;
        described.push(tensor);
        offsets.push(offset);
    }
    let layout = Layout::place(reader.position(), alignment, described)?;
    check_offsets(&layout, &offsets)?;
    Ok((metadata, layout))
}

/// llama.cpp accepts tensors only at their canonical offset.
fn check_offsets(layout: &Layout, offsets: &[u64]) -> Result<(), GgufError> {
    for (tensor, &offset) in layout.tensors.iter().zip(offsets) {
        let (name, expected) = (tensor.name.clone(), tensor.offset);
        match offset.cmp(&expected) {
            std::cmp::Ordering::Less => return Err(GgufError::Overlap { name, offset, expected }),
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => return Err(GgufError::Gap { name, offset, expected }),
        }
    }
    Ok(())
}

impl<'a> Cursor<'a> {
    /// Runs one decoding function of the container library on the bytes that are left.
    fn decode<T>(
        &mut self,
        what: impl Fn() -> String,
        decode: impl FnOnce(&mut &'a [u8]) -> Result<T, GGUFError>,
    ) -> Result<T, GgufError> {
        let mut rest = self.rest();
        let value = decode(&mut rest).map_err(|error| match error {
            GGUFError::Io(_) | GGUFError::UnexpectedEof => self.cut(what(), self.left() + 1),
            other => GgufError::Malformed { what: what(), source: Box::new(other) },
        })?;
        self.leave(rest.len());
        Ok(value)
    }

    fn u32(&mut self, what: impl Fn() -> String) -> Result<u32, GgufError> {
        self.need(4, &what)?;
        self.decode(what, endian::read_u32)
    }

    fn u64(&mut self, what: impl Fn() -> String) -> Result<u64, GgufError> {
        self.need(8, &what)?;
        self.decode(what, endian::read_u64)
    }

    /// A name after its length, checked.
    fn name(&mut self, limit: usize, what: impl Fn() -> String) -> Result<&'a str, GgufError> {
        let length = self.u64(&what)?;
        self.checked_name(length, limit, what)
    }

    fn metadata(&mut self, count: u64) -> Result<Metadata, GgufError> {
        let mut seen = HashSet::with_capacity(count as usize);
        let mut entries = Vec::with_capacity(count as usize);
        for index in 0..count {
            let key = self.name(limits::KEY, || format!("key {index}"))?;
            if !seen.insert(key) {
                return Err(GgufError::DuplicateKey { key: key.to_owned() });
            }
            entries.push((key.to_owned(), self.value(key)?));
        }
        Ok(Metadata::from_distinct(entries))
    }

    fn value(&mut self, key: &str) -> Result<Value, GgufError> {
        let what = || format!("key {key}");
        let value_type = value_type(key, self.u32(what)?)?;
        match value_type {
            GGUFValueType::Array => self.check_array(key)?,
            GGUFValueType::String => self.check_text(key)?,
            _ => {}
        }
        let value = self.decode(what, |rest| MetadataValue::read_from(rest, value_type))?;
        Ok(convert(value))
    }

    /// Checks the length of a text before the library allocates memory for it.
    fn check_text(mut self, key: &str) -> Result<(), GgufError> {
        let what = || format!("key {key}");
        let length = self.u64(what)?;
        limits::check_size(key, length)?;
        self.need(length, what)
    }

    /// Checks type and length of an array before the library allocates memory for its elements.
    fn check_array(mut self, key: &str) -> Result<(), GgufError> {
        let what = || format!("key {key}");
        let element = value_type(key, self.u32(what)?)?;
        let count = self.u64(what)?;
        let min_bytes = match element {
            GGUFValueType::Array => return Err(GgufError::NestedArray { key: key.to_owned() }),
            // An empty text consists only of its length.
            GGUFValueType::String => size_of::<u64>(),
            number => number.size_in_bytes().unwrap_or(1),
        };
        limits::check_size(key, limits::array_size(count))?;
        self.need(count * min_bytes as u64, what)
    }

    /// One tensor description and the tensor's offset in the file.
    fn tensor(&mut self, index: u64) -> Result<(layout::Described, u64), GgufError> {
        let name = self.name(limits::TENSOR_NAME, || format!("tensor {index}"))?;
        let what = || format!("the description of tensor {name}");
        let dimensions = self.u32(what)?;
        if dimensions as usize > limits::DIMENSIONS {
            let count = u64::from(dimensions);
            return Err(GgufError::DimensionCount { name: name.to_owned(), count });
        }
        let shape = (0..dimensions).map(|_| self.u64(what)).collect::<Result<Vec<_>, _>>()?;
        let id = self.u32(what)?;
        let tensor_type = TensorType::from_id(id).ok_or_else(|| GgufError::UnknownTensorType {
            name: name.to_owned(),
            id,
            type_name: StoredFormat(id).known_name().unwrap_or("an unknown format"),
        })?;
        let offset = self.u64(what)?;
        Ok(((name.to_owned(), shape, tensor_type), offset))
    }
}

fn value_type(key: &str, id: u32) -> Result<GGUFValueType, GgufError> {
    GGUFValueType::from_u32(id).map_err(|_| GgufError::UnknownValueType { key: key.to_owned(), id })
}

/// Converts the library's value to ours.
fn convert(value: MetadataValue) -> Value {
    match value {
        MetadataValue::U8(n) => Value::U8(n),
        MetadataValue::I8(n) => Value::I8(n),
        MetadataValue::U16(n) => Value::U16(n),
        MetadataValue::I16(n) => Value::I16(n),
        MetadataValue::U32(n) => Value::U32(n),
        MetadataValue::I32(n) => Value::I32(n),
        MetadataValue::F32(x) => Value::F32(x),
        MetadataValue::Bool(b) => Value::Bool(b),
        MetadataValue::String(text) => Value::String(text),
        MetadataValue::Array(array) => Value::Array(unbox(array.element_type, array.values)),
        MetadataValue::U64(n) => Value::U64(n),
        MetadataValue::I64(n) => Value::I64(n),
        MetadataValue::F64(x) => Value::F64(x),
    }
}

/// Converts the library's array, one tagged value for each element, to a plain vector. The library
/// reads every element with the array's type, so no element is lost, and arrays of arrays were
/// refused.
fn unbox(element: GGUFValueType, values: Vec<MetadataValue>) -> Array {
    macro_rules! plain {
        ($variant:ident) => {{
            let plain = values.into_iter().filter_map(|value| match value {
                MetadataValue::$variant(inner) => Some(inner),
                _ => None,
            });
            let mut plain = plain.collect::<Vec<_>>();
            // Collecting may reuse the larger allocation of the tagged values.
            plain.shrink_to_fit();
            Array::$variant(plain)
        }};
    }
    match element {
        GGUFValueType::U8 => plain!(U8),
        GGUFValueType::I8 => plain!(I8),
        GGUFValueType::U16 => plain!(U16),
        GGUFValueType::I16 => plain!(I16),
        GGUFValueType::U32 => plain!(U32),
        GGUFValueType::I32 => plain!(I32),
        GGUFValueType::F32 => plain!(F32),
        GGUFValueType::Bool => plain!(Bool),
        GGUFValueType::String | GGUFValueType::Array => plain!(String),
        GGUFValueType::U64 => plain!(U64),
        GGUFValueType::I64 => plain!(I64),
        GGUFValueType::F64 => plain!(F64),
    }
}
