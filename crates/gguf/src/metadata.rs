//! The keys of a GGUF: typed values in a fixed order, each name once.

use crate::GgufError;

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Unsigned, 8 bits.
    U8(u8),
    /// Signed, 8 bits.
    I8(i8),
    /// Unsigned, 16 bits.
    U16(u16),
    /// Signed, 16 bits.
    I16(i16),
    /// Unsigned, 32 bits.
    U32(u32),
    /// Signed, 32 bits.
    I32(i32),
    /// 32-bit float.
    F32(f32),
    /// True or false.
    Bool(bool),
    /// UTF-8 text.
    String(String),
    /// Values of one type.
    Array(Array),
    /// Unsigned, 64 bits.
    U64(u64),
    /// Signed, 64 bits.
    I64(i64),
    /// 64-bit float.
    F64(f64),
}

/// The values of an array key, unboxed, so that a vocabulary takes one allocation per token and not
/// three.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Unsigned, 8 bits.
    U8(Vec<u8>),
    /// Signed, 8 bits.
    I8(Vec<i8>),
    /// Unsigned, 16 bits.
    U16(Vec<u16>),
    /// Signed, 16 bits.
    I16(Vec<i16>),
    /// Unsigned, 32 bits.
    U32(Vec<u32>),
    /// Signed, 32 bits.
    I32(Vec<i32>),
    /// 32-bit floats.
    F32(Vec<f32>),
    /// True or false.
    Bool(Vec<bool>),
    /// UTF-8 texts.
    String(Vec<String>),
    /// Unsigned, 64 bits.
    U64(Vec<u64>),
    /// Signed, 64 bits.
    I64(Vec<i64>),
    /// 64-bit floats.
    F64(Vec<f64>),
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(all) => all.len(),
            Array::I8(all) => all.len(),
            Array::U16(all) => all.len(),
            Array::I16(all) => all.len(),
            Array::U32(all) => all.len(),
            Array::I32(all) => all.len(),
            Array::F32(all) => all.len(),
            Array::Bool(all) => all.len(),
            Array::String(all) => all.len(),
            Array::U64(all) => all.len(),
            Array::I64(all) => all.len(),
            Array::F64(all) => all.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Keys in file order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
}

impl Metadata {
    /// Metadata without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Metadata of keys that are known to differ; [`Metadata::set`] would compare each with all
    /// others.
    pub(crate) fn from_distinct(entries: Vec<(String, Value)>) -> Self {
        Self { entries }
    }

    /// A copy without the keys that start with `prefix`.
    pub fn without(&self, prefix: &str) -> Self {
        let kept = self.entries.iter().filter(|(key, _)| !key.starts_with(prefix));
        Self { entries: kept.cloned().collect() }
    }

    /// Appends a key, or replaces its value in place.
    pub fn set(&mut self, key: impl Into<String>, value: Value) {
        let key = key.into();
        match self.entries.iter_mut().find(|(name, _)| *name == key) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key, value)),
        }
    }

    /// The value of `key`, if present.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The text under `key`.
    ///
    /// # Errors
    /// When the key is missing or has another type.
    pub fn string(&self, key: &str) -> Result<&str, GgufError> {
        match self.require(key)? {
            Value::String(text) => Ok(text),
            _ => Err(wrong_type(key, "a string")),
        }
    }

    /// The non-negative integer under `key`, of any width.
    ///
    /// # Errors
    /// When the key is missing or has another type.
    pub fn unsigned(&self, key: &str) -> Result<u64, GgufError> {
        let value = match *self.require(key)? {
            Value::U8(n) => Some(u64::from(n)),
            Value::U16(n) => Some(u64::from(n)),
            Value::U32(n) => Some(u64::from(n)),
            Value::U64(n) => Some(n),
            Value::I8(n) => u64::try_from(n).ok(),
            Value::I16(n) => u64::try_from(n).ok(),
            Value::I32(n) => u64::try_from(n).ok(),
            Value::I64(n) => u64::try_from(n).ok(),
            _ => None,
        };
        value.ok_or_else(|| wrong_type(key, "a non-negative integer"))
    }

    /// The float under `key`.
    ///
    /// # Errors
    /// When the key is missing or has another type.
    pub fn float(&self, key: &str) -> Result<f32, GgufError> {
        match *self.require(key)? {
            Value::F32(x) => Ok(x),
            Value::F64(x) => Ok(x as f32),
            _ => Err(wrong_type(key, "a float")),
        }
    }

    /// The texts under `key`.
    ///
    /// # Errors
    /// When the key is missing or has another type.
    pub fn strings(&self, key: &str) -> Result<&[String], GgufError> {
        match self.require(key)? {
            Value::Array(Array::String(texts)) => Ok(texts),
            _ => Err(wrong_type(key, "an array of strings")),
        }
    }

    fn require(&self, key: &str) -> Result<&Value, GgufError> {
        self.get(key).ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })
    }
}

fn wrong_type(key: &str, expected: &'static str) -> GgufError {
    GgufError::WrongValueType { key: key.to_owned(), expected }
}
