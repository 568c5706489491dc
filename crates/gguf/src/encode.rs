//! Encodes metadata and tensor descriptions as the bytes of the canonical header.
//!
//! ```text
//! text    length u64, UTF-8
//! key     text, value type u32, value
//! array   element type u32, element count u64, elements
//! tensor  text, dimension count u32, dimensions u64..., format u32, offset u64
//! ```
//!
//! Arrays are written element by element, because the container library would require a copy of
//! each vocabulary as tagged values.

use gguf_rs_lib::GGUFError;
use gguf_rs_lib::format::endian::{
    write_f32, write_f64, write_i8, write_i16, write_i32, write_i64, write_u8, write_u16,
    write_u32, write_u64,
};
use gguf_rs_lib::format::{GGUFHeader, GGUFValueType, TensorInfo as LibraryTensorInfo};

use crate::layout::Described;
use crate::{Array, GgufError, Metadata, TensorInfo, Value};

/// Header, keys and tensor descriptions, without the padding after them.
pub(crate) fn header(metadata: &Metadata, tensors: &[TensorInfo]) -> Result<Vec<u8>, GgufError> {
    let mut out = Vec::new();
    write_header(&mut out, metadata, tensors).map_err(|error| {
        // Writing to a vector cannot fail, so this is a check of the library that ours do not
        // cover.
        GgufError::Malformed { what: "the header".to_owned(), source: Box::new(error) }
    })?;
    Ok(out)
}

/// Number of bytes that [`header`] returns.
pub(crate) fn header_len(metadata: &Metadata, tensors: &[Described]) -> u64 {
    let keys = metadata.iter().map(|(key, value)| text_len(key) + 4 + value_len(value));
    let described =
        tensors.iter().map(|(name, shape, _)| text_len(name) + 4 + 8 * shape.len() + 12);
    (GGUFHeader::size() + keys.sum::<usize>() + described.sum::<usize>()) as u64
}

fn text_len(text: &str) -> usize {
    8 + text.len()
}

fn value_len(value: &Value) -> usize {
    match value {
        Value::String(text) => text_len(text),
        Value::Array(Array::String(texts)) => 12 + texts.iter().map(|t| text_len(t)).sum::<usize>(),
        Value::Array(array) => 12 + array.len() * element_type(array).size_in_bytes().unwrap_or(0),
        scalar => value_type(scalar).size_in_bytes().unwrap_or(0),
    }
}

fn write_header(
    out: &mut Vec<u8>,
    metadata: &Metadata,
    tensors: &[TensorInfo],
) -> Result<(), GGUFError> {
    GGUFHeader::new(tensors.len() as u64, metadata.len() as u64).write_to(out)?;
    for (key, value) in metadata.iter() {
        write_text(out, key)?;
        write_u32(out, value_type(value) as u32)?;
        write_value(out, value)?;
    }
    for TensorInfo { name, shape, tensor_type, offset, .. } in tensors {
        LibraryTensorInfo::new(name.clone(), shape.clone(), tensor_type.id(), *offset)
            .write_to(out)?;
    }
    Ok(())
}

fn write_text(out: &mut Vec<u8>, text: &str) -> Result<(), GGUFError> {
    write_u64(out, text.len() as u64)?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn write_value(out: &mut Vec<u8>, value: &Value) -> Result<(), GGUFError> {
    match value {
        Value::U8(n) => write_u8(out, *n),
        Value::I8(n) => write_i8(out, *n),
        Value::U16(n) => write_u16(out, *n),
        Value::I16(n) => write_i16(out, *n),
        Value::U32(n) => write_u32(out, *n),
        Value::I32(n) => write_i32(out, *n),
        Value::F32(x) => write_f32(out, *x),
        Value::Bool(b) => write_u8(out, u8::from(*b)),
        Value::String(text) => write_text(out, text),
        Value::Array(array) => write_array(out, array),
        Value::U64(n) => write_u64(out, *n),
        Value::I64(n) => write_i64(out, *n),
        Value::F64(x) => write_f64(out, *x),
    }
}

fn write_array(out: &mut Vec<u8>, array: &Array) -> Result<(), GGUFError> {
    write_u32(out, element_type(array) as u32)?;
    write_u64(out, array.len() as u64)?;
    match array {
        Array::U8(all) => all.iter().try_for_each(|&n| write_u8(out, n)),
        Array::I8(all) => all.iter().try_for_each(|&n| write_i8(out, n)),
        Array::U16(all) => all.iter().try_for_each(|&n| write_u16(out, n)),
        Array::I16(all) => all.iter().try_for_each(|&n| write_i16(out, n)),
        Array::U32(all) => all.iter().try_for_each(|&n| write_u32(out, n)),
        Array::I32(all) => all.iter().try_for_each(|&n| write_i32(out, n)),
        Array::F32(all) => all.iter().try_for_each(|&x| write_f32(out, x)),
        Array::Bool(all) => all.iter().try_for_each(|&b| write_u8(out, u8::from(b))),
        Array::String(all) => all.iter().try_for_each(|text| write_text(out, text)),
        Array::U64(all) => all.iter().try_for_each(|&n| write_u64(out, n)),
        Array::I64(all) => all.iter().try_for_each(|&n| write_i64(out, n)),
        Array::F64(all) => all.iter().try_for_each(|&x| write_f64(out, x)),
    }
}

pub(crate) fn value_type(value: &Value) -> GGUFValueType {
    match value {
        Value::U8(_) => GGUFValueType::U8,
        Value::I8(_) => GGUFValueType::I8,
        Value::U16(_) => GGUFValueType::U16,
        Value::I16(_) => GGUFValueType::I16,
        Value::U32(_) => GGUFValueType::U32,
        Value::I32(_) => GGUFValueType::I32,
        Value::F32(_) => GGUFValueType::F32,
        Value::Bool(_) => GGUFValueType::Bool,
        Value::String(_) => GGUFValueType::String,
        Value::Array(_) => GGUFValueType::Array,
        Value::U64(_) => GGUFValueType::U64,
        Value::I64(_) => GGUFValueType::I64,
        Value::F64(_) => GGUFValueType::F64,
    }
}

pub(crate) fn element_type(array: &Array) -> GGUFValueType {
    match array {
        Array::U8(_) => GGUFValueType::U8,
        Array::I8(_) => GGUFValueType::I8,
        Array::U16(_) => GGUFValueType::U16,
        Array::I16(_) => GGUFValueType::I16,
        Array::U32(_) => GGUFValueType::U32,
        Array::I32(_) => GGUFValueType::I32,
        Array::F32(_) => GGUFValueType::F32,
        Array::Bool(_) => GGUFValueType::Bool,
        Array::String(_) => GGUFValueType::String,
        Array::U64(_) => GGUFValueType::U64,
        Array::I64(_) => GGUFValueType::I64,
        Array::F64(_) => GGUFValueType::F64,
    }
}
