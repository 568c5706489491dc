//! Records that cannot be used.

use std::fmt;

use anyhow::Result;
use config::OnError;
use serde::Serialize;

use crate::records::BadRecord;

/// Records that are named in a report.
const NAMED: usize = 5;

/// What is done with records that cannot be used, and those that were found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    #[serde(skip)]
    on_error: OnError,
    count: u64,
    first: Vec<String>,
}

impl Skipped {
    /// None so far.
    pub fn new(on_error: OnError) -> Self {
        Skipped { on_error, ..Skipped::default() }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Counts one.
    ///
    /// # Errors
    /// The record, if such ones are not left out, or nothing behind it can be read.
    pub fn add(&mut self, bad: BadRecord) -> Result<()> {
        if self.on_error == OnError::Stop || bad.ends_file() {
            return Err(bad.into());
        }
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(bad.to_string());
        }
        Ok(())
    }
}

/// A line for the number and one for each of the first; nothing if there are none.
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count > 0 {
            writeln!(f, "skipped        {} records, the first:", cli::count(self.count))?;
            self.first.iter().try_for_each(|first| writeln!(f, "               {first}"))?;
        }
        Ok(())
    }
}
