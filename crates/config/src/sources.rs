//! What a run file says about the files that it reads.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One path or a list of them. One is written as a string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a string or a list of strings")]
pub enum Paths {
    /// `path = "a.txt"`
    One(PathBuf),
    /// `path = ["a.jsonl", "b.jsonl"]`
    Several(Vec<PathBuf>),
}

impl Paths {
    /// All of them, in their order.
    pub fn as_slice(&self) -> &[PathBuf] {
        match self {
            Paths::One(path) => std::slice::from_ref(path),
            Paths::Several(paths) => paths,
        }
    }

    /// All of them, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [PathBuf] {
        match self {
            Paths::One(path) => std::slice::from_mut(path),
            Paths::Several(paths) => paths,
        }
    }
}

impl From<PathBuf> for Paths {
    fn from(path: PathBuf) -> Self {
        Paths::One(path)
    }
}

impl From<&str> for Paths {
    fn from(path: &str) -> Self {
        Paths::One(path.into())
    }
}

impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.as_slice().iter().map(|path| path.display().to_string());
        f.write_str(&names.collect::<Vec<_>>().join(", "))
    }
}

/// What becomes of a record that cannot be read or has no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It ends the work, with its place.
    #[default]
    Stop,
    /// It is left out and counted; the report names the first few.
    Skip,
}

/// `[[data.source]]`: one of several sources. They are read in their order, each as often as its weight
/// says. What validates comes from the end, so the last source has weight 1 and is larger than that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    /// As `data.path`.
    pub path: Paths,
    /// How many times it is read, 1 to 1000.
    #[serde(default = "once")]
    pub weight: u32,
    /// The field of a record that holds its text; `data.text_field` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_field: Option<String>,
}

fn once() -> u32 {
    1
}
