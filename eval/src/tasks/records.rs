//! JSON records of a file, one in a line, and their fields. A file of another form has its own
//! reader; everything behind sees [`Record`] only.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

/// Largest file that is read, in bytes.
const FILE_LIMIT: u64 = 1 << 30;

/// A record and where it stands.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its line in the file, from 1.
    pub line: usize,
    /// Its fields.
    pub fields: Map<String, Value>,
}

/// Reads the records of a JSONL file; empty lines are skipped.
///
/// # Errors
/// When the file cannot be read or has no record, or a line is not a JSON object.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let text = checkpoint::read_text(path, FILE_LIMIT)?;
    let mut records = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let place = || format!("{}:{}", path.display(), index + 1);
        let value: Value = serde_json::from_str(line)
            .with_context(|| format!("{}: expected one JSON object in a line", place()))?;
        let Value::Object(fields) = value else {
            bail!("{}: found {}; expected one JSON object in a line", place(), kind(&value));
        };
        records.push(Record { line: index + 1, fields });
    }
    ensure!(
        !records.is_empty(),
        "{}: no records; expected one JSON object in a line",
        path.display()
    );
    Ok(records)
}

impl Record {
    /// The names of its fields, for messages.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.fields.keys().map(String::as_str).take(20).collect();
        names.join(", ")
    }

    /// Whether it has a field that is not null.
    pub fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_null())
    }

    /// A field of any type.
    ///
    /// # Errors
    /// When it is missing.
    pub fn field(&self, name: &str) -> Result<&Value> {
        let field = self.fields.get(name);
        field.with_context(|| format!("no field `{name}`; found {}", self.names()))
    }

    /// A text.
    ///
    /// # Errors
    /// When it is missing or not a text.
    pub fn text(&self, name: &str) -> Result<&str> {
        text(self.field(name)?, name)
    }

    /// An index below `count`: a number, or a text of digits as in HellaSwag.
    ///
    /// # Errors
    /// When it is missing, not a number, or not below `count`.
    pub fn index(&self, name: &str, count: usize) -> Result<usize> {
        let value = self.field(name)?;
        let number = match value {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64(),
        };
        let index = number.and_then(|number| usize::try_from(number).ok());
        index.filter(|index| *index < count).with_context(|| {
            format!("`{name}` is {}; expected 0 to {}", shown(value), count.saturating_sub(1))
        })
    }
}

/// The texts of a list.
///
/// # Errors
/// When it is not a list of texts, or longer than `most`.
pub fn texts(value: &Value, name: &str, most: usize) -> Result<Vec<String>> {
    let Value::Array(items) = value else {
        bail!("`{name}` is {}; expected a list of texts", kind(value));
    };
    ensure!(items.len() <= most, "`{name}` has {} entries; expected at most {most}", items.len());
    items.iter().map(|item| text(item, name).map(str::to_owned)).collect()
}

/// A text.
///
/// # Errors
/// When it is something else.
pub fn text<'v>(value: &'v Value, name: &str) -> Result<&'v str> {
    value.as_str().with_context(|| format!("`{name}` holds {}; expected a text", kind(value)))
}

/// What a value is, for messages.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A value in at most 40 characters.
fn shown(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}
