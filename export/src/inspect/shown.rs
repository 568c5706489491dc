//! The value of a key in JSON.

use gguf::{Array, Value};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::Key;

/// Elements of an array that are shown; a vocabulary has hundreds of thousands.
const SHOWN: usize = 8;

/// Serializes a value with its own type; of an array only the first elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown(pub Value);

impl Key {
    /// A key with its value.
    pub(crate) fn new(key: &str, value: &Value) -> Self {
        Key {
            key: key.to_owned(),
            r#type: value.type_name(),
            length: match value {
                Value::Array(array) => Some(array.len()),
                _ => None,
            },
            value: Shown(value.clone()),
        }
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Value::U8(n) => n.serialize(out),
            Value::I8(n) => n.serialize(out),
            Value::U16(n) => n.serialize(out),
            Value::I16(n) => n.serialize(out),
            Value::U32(n) => n.serialize(out),
            Value::I32(n) => n.serialize(out),
            Value::F32(x) => x.serialize(out),
            Value::Bool(b) => b.serialize(out),
            Value::String(text) => text.serialize(out),
            Value::Array(array) => serialize_array(array, out),
            Value::U64(n) => n.serialize(out),
            Value::I64(n) => n.serialize(out),
            Value::F64(x) => x.serialize(out),
        }
    }
}

fn serialize_array<S: Serializer>(array: &Array, out: S) -> Result<S::Ok, S::Error> {
    match array {
        Array::U8(all) => first(all, out),
        Array::I8(all) => first(all, out),
        Array::U16(all) => first(all, out),
        Array::I16(all) => first(all, out),
        Array::U32(all) => first(all, out),
        Array::I32(all) => first(all, out),
        Array::F32(all) => first(all, out),
        Array::Bool(all) => first(all, out),
        Array::String(all) => first(all, out),
        Array::U64(all) => first(all, out),
        Array::I64(all) => first(all, out),
        Array::F64(all) => first(all, out),
    }
}

fn first<T: Serialize, S: Serializer>(all: &[T], out: S) -> Result<S::Ok, S::Error> {
    let shown = &all[..SHOWN.min(all.len())];
    let mut sequence = out.serialize_seq(Some(shown.len()))?;
    shown.iter().try_for_each(|element| sequence.serialize_element(element))?;
    sequence.end()
}
