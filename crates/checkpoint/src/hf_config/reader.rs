//! Reads keys of a `config.json`, with errors that say what a key should hold.

use std::path::Path;

use serde_json::{Map, Value};

use crate::CheckpointError;

/// A JSON object that is read key by key.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
    /// The name of the object in errors, with a dot after it; empty for the file itself.
    place: &'a str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a Path, map: &'a Map<String, Value>) -> Self {
        Reader { path, map, place: "" }
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.map.keys().map(String::as_str)
    }

    /// The value of a key; `null` counts as missing.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether a key is missing, where `null` has another meaning.
    pub(super) fn lacks(&self, key: &str) -> bool {
        !self.map.contains_key(key)
    }

    /// The object under a key; `place` is the key with a dot.
    pub(super) fn object(
        &self,
        key: &str,
        place: &'a str,
    ) -> Result<Option<Reader<'a>>, CheckpointError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let map = value.as_object().ok_or_else(|| self.refuse(key, "an object or null"))?;
        Ok(Some(Reader { path: self.path, map, place }))
    }

    pub(super) fn require(&self, key: &str, expected: &str) -> Result<&'a Value, CheckpointError> {
        self.get(key).ok_or_else(|| self.refuse(key, expected))
    }

    pub(super) fn size(&self, key: &str) -> Result<usize, CheckpointError> {
        let expected = "a positive integer";
        let number = self.require(key, expected)?.as_u64();
        number.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| self.refuse(key, expected))
    }

    pub(super) fn size_or(&self, key: &str, default: usize) -> Result<usize, CheckpointError> {
        if self.get(key).is_some() { self.size(key) } else { Ok(default) }
    }

    pub(super) fn float(&self, key: &str, default: f32) -> Result<f32, CheckpointError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => {
                value.as_f64().map(|x| x as f32).ok_or_else(|| self.refuse(key, "a number"))
            }
        }
    }

    pub(super) fn switch(&self, key: &str, default: bool) -> Result<bool, CheckpointError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.refuse(key, "true or false")),
        }
    }

    /// A boolean that must have the expected value, and is `default` if it is missing.
    pub(super) fn expect_switch(
        &self,
        key: &str,
        default: bool,
        expected: bool,
    ) -> Result<(), CheckpointError> {
        match self.switch(key, default)? {
            found if found == expected => Ok(()),
            _ => Err(self.refuse(key, if expected { "true" } else { "false" })),
        }
    }

    /// A string that determines what the model computes, `default` if it is missing.
    pub(super) fn expect_text(
        &self,
        key: &str,
        default: &str,
        choices: &[&str],
    ) -> Result<(), CheckpointError> {
        let fine = match self.get(key) {
            Some(value) => value.as_str().is_some_and(|text| choices.contains(&text)),
            None => choices.contains(&default),
        };
        if fine { Ok(()) } else { Err(self.refuse(key, &choices.join(" or "))) }
    }

    pub(super) fn refuse(&self, key: &str, expected: &str) -> CheckpointError {
        /// Longest value that is shown in an error.
        const SHOWN: usize = 80;
        let mut value = self.map.get(key).map_or("(nothing)".to_owned(), Value::to_string);
        if value.chars().count() > SHOWN {
            value = value.chars().take(SHOWN).chain("...".chars()).collect();
        }
        CheckpointError::Setting {
            place: self.path.to_owned(),
            key: format!("{}{key}", self.place),
            value,
            expected: expected.to_owned(),
        }
    }
}
