//! The journal of an encoding: its settings, then a line for each shard that is finished.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use checkpoint::atomic;
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::documents::Position;
use crate::token_file::ListedShard;

/// Its name in the folder.
pub(super) const FILE: &str = "journal.jsonl";

/// Longest journal that is read: a million inputs take a tenth of it.
const JOURNAL_BYTES: u64 = 1 << 30;

/// A shard that is finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub shard: ListedShard,
    pub next: Next,
}

/// Where the shard after it begins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Next {
    /// The part of the inputs that it begins in.
    pub at: Position,
    /// Tokens of that part which are in the shards before.
    pub part_tokens: u64,
    /// Whether its first token goes on with a document.
    pub in_document: bool,
    /// Bytes of text before the part.
    pub text_bytes: u64,
    /// Documents that end before the part.
    pub documents: u64,
    /// The first records that were left out.
    pub first_skipped: Vec<String>,
}

/// The shards that are finished, and the file that says so.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub entries: Vec<Entry>,
    file: Option<(File, PathBuf)>,
}

impl Journal {
    /// What is in `folder`, if an encoding was begun there. A line that was cut short is left out.
    pub fn read(folder: &Path) -> Result<Option<(Settings, Self)>> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let name = path.display();
        let text = checkpoint::read_text(&path, JOURNAL_BYTES)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut lines = whole.lines();
        let damaged = || format!("{name} is damaged; add --force to encode from the beginning");
        let settings = lines.next().with_context(damaged)?;
        let settings = serde_json::from_str(settings).with_context(damaged)?;
        let entries = lines.map(serde_json::from_str).collect::<Result<_, _>>();
        Ok(Some((settings, Journal { entries: entries.with_context(damaged)?, file: None })))
    }

    /// Writes the file anew with what is known, and keeps it open.
    pub fn start(mut self, folder: &Path, settings: &Settings) -> Result<Self> {
        let path = folder.join(FILE);
        atomic::write_file::<_, anyhow::Error>(&path, true, |out| {
            writeln!(out, "{}", serde_json::to_string(settings)?)?;
            for entry in &self.entries {
                writeln!(out, "{}", serde_json::to_string(entry)?)?;
            }
            Ok(())
        })?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        self.file = Some((file, path));
        Ok(self)
    }

    /// Adds a shard, which must be safe on the disk; it is as safe afterwards that it is finished.
    pub fn append(&mut self, entry: Entry) -> Result<()> {
        let line = serde_json::to_string(&entry)? + "\n";
        self.entries.push(entry);
        let Some((file, path)) = &mut self.file else { return Ok(()) };
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_data())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
