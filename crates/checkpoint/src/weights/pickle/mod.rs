//! Reads the Python pickles that `torch.save` writes, without running any code.
//!
//! A pickle is a program for a stack machine that may call any function of Python. This machine has
//! the instructions that `torch.save` uses (protocol 2), and only those functions that rebuild
//! tensors, from a fixed list ([`Function`]). Everything else is refused by its name.
//!
//! Containers are stored in one list and refer to each other by index. A value that contains
//! itself, or is repeated a million times, therefore takes no additional memory and is never
//! traversed without end. The total size of a pickle is limited by [`MOST_STEPS`].
//!
//! Source: `Lib/pickletools.py` of CPython for the instructions; `_save`, `_legacy_save` and
//! `persistent_id` in `torch/serialization.py`, and `torch/_utils.py`, for what is built.

mod functions;
mod machine;

use std::fmt;

use safetensors::Dtype;

pub use functions::Function;
pub use machine::MOST_STEPS;

/// A value of a pickle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of up to 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A text: its position in the pickle.
    Text(Span),
    /// A function or class.
    Function(Function),
    /// Something that is built and never read: a number format, a device.
    Opaque,
    /// An index into the pickle's list of objects.
    Object(u32),
}

/// Bytes of the pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    length: u32,
}

/// A value with parts.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A tuple.
    Tuple(Vec<Value>),
    /// A list.
    List(Vec<Value>),
    /// A dictionary, in insertion order; of equal keys the last one counts.
    Dict(Vec<(Value, Value)>),
    /// Numbers that are stored outside of the pickle.
    Storage(Storage),
    /// A tensor.
    Tensor(Box<Tensor>),
}

/// A buffer that tensors refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// The format of its elements.
    pub dtype: Dtype,
    /// Its name in the file.
    pub key: Span,
    /// Number of its elements.
    pub elements: usize,
}

/// A view into a storage. All of its elements are inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its storage.
    pub storage: Storage,
    /// Its first element.
    pub offset: usize,
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    /// Elements from one index of a dimension to the next.
    pub strides: Vec<usize>,
}

/// Why a pickle was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (byte {at} of the pickle)")]
pub struct PickleError {
    /// The position in bytes from the start.
    pub at: usize,
    /// What was found, and what was expected.
    pub reason: String,
}

/// A parsed pickle.
#[derive(Debug)]
pub struct Pickle<'a> {
    bytes: &'a [u8],
    objects: Vec<Object>,
    root: Value,
    length: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the beginning of `bytes`; the bytes after it are ignored.
    ///
    /// # Errors
    /// When it is truncated, or holds an instruction, a function or a size that `torch.save` of
    /// weights does not write.
    pub fn read(bytes: &'a [u8]) -> Result<Self, PickleError> {
        machine::run(bytes)
    }

    /// The value of the pickle.
    pub fn root(&self) -> Value {
        self.root
    }

    /// Size of the pickle in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The characters of a text.
    pub fn text(&self, span: Span) -> &'a str {
        text(self.bytes, span)
    }

    /// A value as a text, if it is one.
    pub fn as_text(&self, value: Value) -> Option<&'a str> {
        match value {
            Value::Text(span) => Some(self.text(span)),
            _ => None,
        }
    }

    /// The object that a value refers to, if it does.
    pub fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(number) => self.objects.get(number as usize),
            _ => None,
        }
    }

    /// All objects of the pickle, in the order in which they were made.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// All storages that the pickle refers to, some of them more than once.
    pub fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.objects.iter().filter_map(|object| match object {
            Object::Storage(storage) => Some(storage),
            _ => None,
        })
    }

    /// The entries of a dictionary, if the value is one.
    pub fn entries(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.object(value) {
            Some(Object::Dict(entries)) => Some(entries),
            _ => None,
        }
    }

    /// The value of a dictionary under a string key.
    pub fn get(&self, dictionary: Value, key: &str) -> Option<Value> {
        let mut entries = self.entries(dictionary)?.iter().rev();
        entries.find(|(found, _)| self.as_text(*found) == Some(key)).map(|&(_, value)| value)
    }

    /// The kind of a value, for messages.
    pub fn kind(&self, value: Value) -> &'static str {
        match (value, self.object(value)) {
            (Value::None, _) => "None",
            (Value::Bool(_), _) => "a truth value",
            (Value::Int(_), _) => "an integer",
            (Value::Float(_), _) => "a float",
            (Value::Text(_), _) => "a text",
            (Value::Function(_), _) => "a function",
            (_, Some(Object::Tuple(_))) => "a tuple",
            (_, Some(Object::List(_))) => "a list",
            (_, Some(Object::Dict(_))) => "a dictionary",
            (_, Some(Object::Storage(_))) => "a storage",
            (_, Some(Object::Tensor(_))) => "a tensor",
            (Value::Opaque | Value::Object(_), _) => "an object",
        }
    }
}

/// The text at a span, which was checked to be UTF-8 when the span was made.
fn text(bytes: &[u8], span: Span) -> &str {
    let bytes = bytes.get(span.start as usize..).and_then(|rest| rest.get(..span.length as usize));
    bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}

/// A name from a file in a form that is safe in a message: short, and without control characters.
pub(crate) struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Number of characters of a name that are shown.
        const SHOWN: usize = 120;
        let mut characters = self.0.chars();
        characters
            .by_ref()
            .take(SHOWN)
            .try_for_each(|c| write!(f, "{}", if c.is_control() { '\u{fffd}' } else { c }))?;
        if characters.next().is_some() { f.write_str("...") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
