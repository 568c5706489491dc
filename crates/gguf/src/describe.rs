//! Metadata and tensors as human-readable text.

use std::fmt::{self, Display};

use crate::{Array, Layout, Metadata, Value, encode};

/// Elements of an array that are shown.
const SHOWN: usize = 6;
/// Characters of a text that are shown.
const SHOWN_CHARS: usize = 60;

impl Value {
    /// The type as ggml names it: `u32`, `string`, `array`.
    pub fn type_name(&self) -> &'static str {
        encode::value_type(self).name()
    }
}

impl Array {
    /// The type of the elements as ggml names it.
    pub fn element_type_name(&self) -> &'static str {
        encode::element_type(self).name()
    }
}

/// On one line: texts are quoted, escaped and cut, arrays give their length and first elements.
impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(n) => write!(f, "{n}"),
            Value::I8(n) => write!(f, "{n}"),
            Value::U16(n) => write!(f, "{n}"),
            Value::I16(n) => write!(f, "{n}"),
            Value::U32(n) => write!(f, "{n}"),
            Value::I32(n) => write!(f, "{n}"),
            Value::F32(x) => write!(f, "{x:?}"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::String(text) => write_text(f, text),
            Value::Array(array) => write!(f, "{array}"),
            Value::U64(n) => write!(f, "{n}"),
            Value::I64(n) => write!(f, "{n}"),
            Value::F64(x) => write!(f, "{x:?}"),
        }
    }
}

/// On one line: `[50257 string: "!", "\"", ...]`.
impl Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} {}", self.len(), self.element_type_name())?;
        match self {
            Array::U8(all) => write_elements(f, all, |f, n| write!(f, "{n}")),
            Array::I8(all) => write_elements(f, all, |f, n| write!(f, "{n}")),
            Array::U16(all) => write_elements(f, all, |f, n| write!(f, "{n}")),
            Array::I16(all) => write_elements(f, all, |f, n| write!(f, "{n}")),
            Array::U32(all) => write_elements(f, all, |f, n| write!(f, "{n}")),
            Array::I32(all) => write_elements(f, all, |f, n| write!(f, "{n}")),
            Array::F32(all) => write_elements(f, all, |f, x| write!(f, "{x:?}")),
            Array::Bool(all) => write_elements(f, all, |f, b| write!(f, "{b}")),
            Array::String(all) => write_elements(f, all, |f, text| write_text(f, text)),
            Array::U64(all) => write_elements(f, all, |f, n| write!(f, "{n}")),
            Array::I64(all) => write_elements(f, all, |f, n| write!(f, "{n}")),
            Array::F64(all) => write_elements(f, all, |f, x| write!(f, "{x:?}")),
        }?;
        write!(f, "]")
    }
}

/// One key per line: type, name, value.
impl Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
        for (key, value) in self.iter() {
            writeln!(f, "{:<6} {key:<width$} {value}", value.type_name())?;
        }
        Ok(())
    }
}

/// One tensor per line: format, size in bytes, offset in the data section, name, shape with the
/// fastest dimension first.
impl Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tensor in &self.tensors {
            writeln!(
                f,
                "{:<4} {:>14} {:>14} {} {:?}",
                tensor.tensor_type, tensor.size, tensor.offset, tensor.name, tensor.shape
            )?;
        }
        Ok(())
    }
}

fn write_elements<T>(
    f: &mut fmt::Formatter<'_>,
    all: &[T],
    write_one: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, element) in all.iter().take(SHOWN).enumerate() {
        f.write_str(if index == 0 { ": " } else { ", " })?;
        write_one(f, element)?;
    }
    if all.len() > SHOWN { f.write_str(", ...") } else { Ok(()) }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((cut, _)) => write!(f, "{:?}...", &text[..cut]),
        None => write!(f, "{text:?}"),
    }
}
