//! A text file that is written in whole entries and tolerates a disk that is full for a while.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::folder::write_text;

/// The file, and the entries that are not in it yet.
///
/// An entry that cannot be written stays in memory and is tried again with the next one, so after a
/// failure the file is only out of date for a while.
pub struct Journal {
    path: PathBuf,
    /// Bytes of whole entries in the file; anything after them is an incomplete entry.
    length: u64,
    waiting: String,
}

impl Journal {
    /// Starts a new file with `text`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn start(path: &Path, text: &str) -> anyhow::Result<Self> {
        write_text(path, text)?;
        Ok(Journal { path: path.to_owned(), length: text.len() as u64, waiting: String::new() })
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// When it cannot be written. Of several failures in a row, only the first is returned.
    pub fn append(&mut self, entry: &str) -> anyhow::Result<()> {
        let is_behind = !self.waiting.is_empty();
        self.waiting.push_str(entry);
        match self.catch_up() {
            Err(_) if is_behind => Ok(()),
            result => result,
        }
    }

    /// Writes the entries that are still in memory, and waits until the disk has all of them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn sync(&mut self) -> anyhow::Result<()> {
        self.catch_up()?;
        File::open(&self.path)
            .and_then(|file| file.sync_all())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Writes the entries that are still in memory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn catch_up(&mut self) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.write().with_context(|| format!("cannot append to {}", self.path.display()))?;
        self.length += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    fn write(&mut self) -> std::io::Result<()> {
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(false).open(&self.path)?;
        // A file that somebody shortened is not extended; an incomplete entry is removed.
        self.length = self.length.min(file.metadata()?.len());
        file.set_len(self.length)?;
        file.seek(SeekFrom::Start(self.length))?;
        file.write_all(self.waiting.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_could_not_be_written_is_there_once_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut journal = Journal::start(&path, "one\n").unwrap();
        journal.append("two\n").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        // A folder in the place of the file makes writing fail, as a full disk does.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = journal.append("three\n").unwrap_err().to_string();
        assert!(error.contains("cannot append to"), "{error}");
        journal.append("four\n").unwrap();
        fs::remove_dir(&path).unwrap();
        fs::write(&path, format!("{text}thr")).unwrap();
        journal.append("five\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\nfour\nfive\n");
        journal.catch_up().unwrap();
    }
}
