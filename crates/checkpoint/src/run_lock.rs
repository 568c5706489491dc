//! Allows one writer at a time in a run folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use crate::CheckpointError;

/// The lock file in a run folder. It stays after the lock is released: removing it could remove a
/// file that another process has just locked.
const LOCK_FILE: &str = ".lock";

/// Longest text of a lock file that is read.
const HOLDER_BYTES: u64 = 256;

/// A run folder that only this process writes into.
///
/// The lock is released when the last clone is dropped, or by the operating system when the process
/// ends in any way. On a file system without locks there is no protection.
#[derive(Debug, Clone)]
pub struct RunLock {
    _held: Arc<Held>,
}

#[derive(Debug)]
struct Held(File);

impl Drop for Held {
    /// Closing the file is not enough: a copy of this process (chat templates are rendered in some)
    /// has it open too, and keeps the lock for as long as it lives.
    fn drop(&mut self) {
        // What is not released here is released when all copies have ended.
        let _ = self.0.unlock();
    }
}

impl RunLock {
    /// Locks the run folder `run`, which must exist. `command` is the description of this process
    /// that other processes show.
    ///
    /// # Errors
    /// [`CheckpointError::InUse`] while another process holds it; and when the folder is not
    /// writable.
    pub fn take(run: &Path, command: &str) -> Result<Self, CheckpointError> {
        let path = run.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(CheckpointError::io(&path))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(CheckpointError::InUse { run: run.to_owned(), holder: holder(&file) });
        }
        let text = format!("{command} (process {})\n", std::process::id());
        // Only the message for other processes depends on it, so a full disk does not prevent the
        // start.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()));
        Ok(RunLock { _held: Arc::new(Held(file)) })
    }
}

/// The description that the holder of a lock wrote.
fn holder(file: &File) -> String {
    let mut text = String::new();
    match file.take(HOLDER_BYTES).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        // Just locked, or on a system where a locked file cannot be read.
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first_until_the_first_is_gone() {
        let run = tempfile::tempdir().unwrap();
        let first = RunLock::take(run.path(), "train").unwrap();
        let clone = first.clone();
        drop(first);
        let error = RunLock::take(run.path(), "pocketgpt run").unwrap_err().to_string();
        let expected = format!("is in use by train (process {})", std::process::id());
        assert!(error.contains(&expected), "{error}");
        drop(clone);
        RunLock::take(run.path(), "pocketgpt run").unwrap();
    }

    /// A copied descriptor shares the lock, as that of a forked process does.
    #[test]
    fn a_copy_of_the_process_does_not_keep_the_lock() {
        let run = tempfile::tempdir().unwrap();
        let first = RunLock::take(run.path(), "train").unwrap();
        let _copy = first._held.0.try_clone().unwrap();
        drop(first);
        RunLock::take(run.path(), "train").unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let run = tempfile::tempdir().unwrap();
        let error = RunLock::take(&run.path().join("gone"), "train").unwrap_err().to_string();
        assert!(error.contains("gone"), "{error}");
    }
}
