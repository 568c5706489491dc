//! Replaces an old folder by a new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Renames `new` to `target` unless `target` exists by now; an empty folder is replaced.
///
/// Unix renames a folder over an empty one and refuses any other, which does this in one step.
pub(super) fn place(new: &Path, target: &Path) -> io::Result<()> {
    if cfg!(windows) {
        // Removes only an empty folder; if it cannot be removed, the rename fails.
        let _ = fs::remove_dir(target);
    }
    fs::rename(new, target)
}

/// Renames `new` to `target`. An old folder there is afterwards named `new`, or removed.
pub(super) fn replace(new: &Path, target: &Path, parent: &Path, name: &str) -> io::Result<()> {
    if !target.exists() {
        return fs::rename(new, target);
    }
    match exchange(new, target) {
        Err(error) if is_unsupported(&error) => replace_in_two_steps(new, target, parent, name),
        done => done,
    }
}

/// Swaps two names in one step, if the system and the file system support it.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(new: &Path, target: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_new: &Path, _target: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Linux returns "invalid argument" if a file system does not support the exchange.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
}

fn replace_in_two_steps(new: &Path, target: &Path, parent: &Path, name: &str) -> io::Result<()> {
    let kept = backup(parent, name);
    fs::rename(target, &kept)?;
    if let Err(error) = fs::rename(new, target) {
        fs::rename(&kept, target)?;
        return Err(error);
    }
    fs::remove_dir_all(kept)
}

fn backup(parent: &Path, name: &str) -> PathBuf {
    parent.join(format!(".{name}.replaced-by-pocketgpt"))
}

/// Completes the replacement of a process that died between the two steps.
pub(super) fn recover(target: &Path, parent: &Path, name: &str) {
    let kept = backup(parent, name);
    if !kept.is_dir() {
        return;
    }
    // A failure here is harmless: the write that follows reports the problem of the folder.
    let _ = if target.exists() { fs::remove_dir_all(kept) } else { fs::rename(kept, target) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(parent: &Path, name: &str, content: &str) -> PathBuf {
        let path = parent.join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a"), content).unwrap();
        path
    }

    #[test]
    fn two_steps_do_what_the_exchange_does() {
        let parent = tempfile::tempdir().unwrap();
        let target = folder_with(parent.path(), "out", "old");
        let new = folder_with(parent.path(), "new", "new");
        replace_in_two_steps(&new, &target, parent.path(), "out").unwrap();
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "new");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_death_between_the_two_steps_loses_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let target = folder_with(parent.path(), "out", "old");
        fs::rename(&target, backup(parent.path(), "out")).unwrap();
        recover(&target, parent.path(), "out");
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "old");
    }
}
