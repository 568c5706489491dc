//! The temporary siblings of a target: their names, and which of them nobody writes to any more.
//!
//! A sibling is in use while its writer holds a lock on it, which the operating system lets go
//! of when the writer dies. Between making the sibling and locking it there is an instant in
//! which only the process number in its name, and its age, tell a new one from an old one.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

/// Older than this and without a lock, a sibling is not one that was made a moment ago.
const GRACE: Duration = Duration::from_secs(10);

/// Nobody writes this long without a change, wherever a process runs.
const LONG_GONE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What makes a sibling ours: nobody calls a file of his own so.
const MARK: &str = ".pocketgpt-tmp-";

/// Letters of the random part.
pub(super) const RANDOM_LETTERS: usize = 6;

/// `.NAME.pocketgpt-tmp-PID-`, to which a random part is added.
pub(super) fn prefix(name: &str) -> String {
    format!("{}{}-", stem(name), std::process::id())
}

fn stem(name: &str) -> String {
    format!(".{name}{MARK}")
}

/// Locks a new sibling for as long as its handle lives. Where the file system has no locks, the
/// process number has to do.
pub(super) fn mark_alive(file: &File) {
    if let Err(error) = file.try_lock() {
        // Nothing depends on it but the removal of leftovers by others.
        let _ = error;
    }
}

/// Removes the siblings of `name` in `folder`, or of every name, whose writers are dead. What cannot
/// be removed stays: it is in nobody's way.
pub(super) fn remove(folder: &Path, name: Option<&str>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let Some((target, pid)) = file_name.to_str().and_then(target_and_process) else { continue };
        if name.is_some_and(|name| name != target) {
            continue;
        }
        if is_abandoned(&entry.path(), pid) {
            let _ = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
                _ => fs::remove_file(entry.path()),
            };
        }
    }
}

/// `NAME` and `PID` of `.NAME.pocketgpt-tmp-PID-RANDOM`; `None` if this is no name of ours.
fn target_and_process(sibling: &str) -> Option<(&str, u32)> {
    let (name, rest) = sibling.strip_prefix('.')?.rsplit_once(MARK)?;
    Some((name, process_id(rest)?))
}

/// The number in `PID-RANDOM`.
fn process_id(rest: &str) -> Option<u32> {
    let (pid, random) = rest.split_once('-')?;
    let is_random = random.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let ours = is_random && random.len() == RANDOM_LETTERS;
    if ours { pid.parse().ok() } else { None }
}

fn is_abandoned(path: &Path, pid: u32) -> bool {
    // Only files and folders are ours. Whatever else has the name is left where it is, unopened.
    let is_ours = path.symlink_metadata().is_ok_and(|found| found.is_file() || found.is_dir());
    let Some(file) = is_ours.then(|| plain_file::open(path).ok()).flatten() else { return false };
    match file.try_lock() {
        Ok(()) => !process_is_alive(pid) || age(path) > GRACE,
        Err(fs::TryLockError::WouldBlock) => false,
        // Without locks: the process may be one of another machine.
        Err(fs::TryLockError::Error(_)) => !process_is_alive(pid) && age(path) > LONG_GONE,
    }
}

fn age(path: &Path) -> Duration {
    let changed = path.symlink_metadata().and_then(|metadata| metadata.modified());
    changed.ok().and_then(|time| time.elapsed().ok()).unwrap_or_default()
}

#[cfg(unix)]
fn process_is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // A process of somebody else answers with "not permitted": it lives.
    pid.is_some_and(|pid| {
        !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
    })
}

#[cfg(not(unix))]
fn process_is_alive(_pid: u32) -> bool {
    true
}
