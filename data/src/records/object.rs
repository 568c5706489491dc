//! One JSON object from its text, all fields or only those that are wanted.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The object that `bytes` spell.
///
/// # Errors
/// What was found instead.
pub(super) fn parse(bytes: &[u8], only: Option<&[String]>) -> Result<Map<String, Value>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        format!("not UTF-8 at byte {} of the record; expected UTF-8", error.valid_up_to() + 1)
    })?;
    let first = text.trim_start().as_bytes().first();
    if first.is_some_and(|&byte| byte != b'{') {
        return Err(match serde_json::from_str::<Value>(text) {
            Ok(value) => format!("{}; expected an object", kind_of(&value)),
            Err(error) => format!("{:?}: not JSON ({error}); expected an object", start_of(text)),
        });
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let parsed = Fields { only }.deserialize(&mut reader);
    parsed
        .and_then(|fields| reader.end().map(|()| fields))
        .map_err(|error| format!("{:?}: not JSON ({error}); expected an object", start_of(text)))
}

/// What a value is, for messages.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Enough of a text to recognise it.
fn start_of(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Reads an object, and of it only the fields that are wanted.
struct Fields<'a> {
    only: Option<&'a [String]>,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            match self.only {
                Some(only) if !only.contains(&key) => {
                    access.next_value::<IgnoredAny>()?;
                }
                _ => {
                    fields.insert(key, access.next_value()?);
                }
            }
        }
        Ok(fields)
    }
}
