//! What `data filter` did.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::{Finding, Rule};
use crate::skipped::Skipped;

/// The result of [`super::filter`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FilterReport {
    /// The inputs, as they were named.
    pub input: String,
    /// The JSON Lines.
    pub output: PathBuf,
    /// Documents that were read.
    pub documents: u64,
    /// Documents that were written.
    pub kept: u64,
    /// Bytes of text that were read.
    pub text_bytes: u64,
    /// Bytes of text of the documents that were written.
    pub kept_bytes: u64,
    /// What was left out by each rule. A document counts for the first rule that it does not keep.
    pub dropped: BTreeMap<Rule, Dropped>,
    /// Records that cannot be read or have no text.
    pub skipped: Skipped,
}

/// The documents that a rule left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Dropped {
    /// Their number.
    pub documents: u64,
    /// Bytes of their texts.
    pub text_bytes: u64,
    /// The first ones.
    pub examples: Vec<Example>,
}

/// A document that was left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// Where it is.
    pub place: String,
    /// How it begins.
    pub start: String,
    /// What was measured; nothing for duplicates.
    pub measured: Option<Finding>,
}

impl FilterReport {
    pub(super) fn new(input: String, output: PathBuf) -> Self {
        FilterReport {
            input,
            output,
            documents: 0,
            kept: 0,
            text_bytes: 0,
            kept_bytes: 0,
            dropped: BTreeMap::new(),
            skipped: Skipped::default(),
        }
    }
}

impl fmt::Display for FilterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let documents = |count: u64, bytes: u64| {
            let share = 100.0 * count as f64 / self.documents.max(1) as f64;
            format!("{:>12} documents {share:6.2} %  {:>10}", cli::count(count), cli::bytes(bytes))
        };
        writeln!(f, "input                {}", self.input)?;
        writeln!(f, "read                {}", documents(self.documents, self.text_bytes))?;
        for (rule, dropped) in &self.dropped {
            writeln!(f, "{rule:<20}{}", documents(dropped.documents, dropped.text_bytes))?;
            for Example { place, start, measured } in &dropped.examples {
                write!(f, "    {place}: {start:?}")?;
                match measured {
                    Some(Finding { found, limit, .. }) => {
                        writeln!(f, " ({found:.4}, limit {limit})")?
                    }
                    None => writeln!(f)?,
                }
            }
        }
        write!(f, "{}", self.skipped)?;
        writeln!(f, "kept                {}", documents(self.kept, self.kept_bytes))?;
        write!(f, "output               {}", self.output.display())
    }
}
