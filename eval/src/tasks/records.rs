//! The records of a file of questions, and their fields.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use data::{Inputs, Place};
use serde_json::{Map, Value};

/// Most records of a file.
const MOST_RECORDS: usize = 1_000_000;

/// A record and where it stands.
#[derive(Debug, Clone)]
pub struct Record {
    /// Where it stands.
    pub place: Place,
    /// Its fields.
    pub fields: Map<String, Value>,
}

/// Reads the records of a file: JSON Lines, a JSON array, CSV or Parquet.
///
/// # Errors
/// When the file cannot be read or has no record, or a record is not an object.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let inputs = Inputs::open(&[path], None)?;
    let mut records = Vec::new();
    for record in data::records(&inputs) {
        let data::Record { place, fields } = record?;
        ensure!(
            records.len() < MOST_RECORDS,
            "{place}: expected at most {MOST_RECORDS} records; divide the file"
        );
        records.push(Record { place, fields });
    }
    ensure!(!records.is_empty(), "{}: no records; expected questions", path.display());
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
