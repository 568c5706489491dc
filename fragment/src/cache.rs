//! Pieces that came from far away (`pieces/`), and files that were joined from pieces (`joined/`), in
//! a folder of this user with a limit. What was used longest ago is removed first.
//!
//! What is in the folder is not trusted more than any other folder: hashes are verified before use.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, ensure};
use checkpoint::atomic;

use crate::manifest::MANIFEST_NAME;

/// Environment variable with the folder.
pub const FOLDER_VARIABLE: &str = "POCKETGPT_CACHE";
/// Environment variable with the limit.
pub const SIZE_VARIABLE: &str = "POCKETGPT_CACHE_SIZE";
/// The limit if none is set.
const DEFAULT_BYTES: u64 = 20_000_000_000;
/// Endings of the files that are ours: others are neither counted nor removed.
const ENDINGS: [&str; 2] = ["dat", "gguf"];

/// A folder of pieces, manifests and joined files.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    pieces: PathBuf,
    limit: u64,
}

impl Cache {
    /// The cache in `folder`, which holds `limit` bytes at most.
    pub fn new(folder: impl Into<PathBuf>, limit: u64) -> Self {
        let folder = folder.into();
        Cache { pieces: folder.join("pieces"), folder, limit }
    }

    /// The cache of this user, where the environment says.
    ///
    /// # Errors
    /// When the system names no folder, or the environment sets a limit that is not one.
    pub fn of_user() -> anyhow::Result<Self> {
        let folder = match std::env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => dirs::cache_dir()
                .with_context(|| {
                    format!("this system names no cache folder: set {FOLDER_VARIABLE}")
                })?
                .join("pocketgpt")
                .join("fragments"),
        };
        let limit = match std::env::var(SIZE_VARIABLE) {
            Ok(text) => cli::parse_bytes(&text).with_context(|| SIZE_VARIABLE.to_owned())?,
            Err(std::env::VarError::NotPresent) => DEFAULT_BYTES,
            Err(error) => return Err(error).context(SIZE_VARIABLE),
        };
        Ok(Cache::new(folder, limit))
    }

    /// The folder of the pieces and their manifests.
    pub fn pieces(&self) -> &Path {
        &self.pieces
    }

    /// Path of the manifest with this BLAKE3.
    pub fn manifest(&self, blake3: &str) -> PathBuf {
        self.pieces.join(format!("{blake3}.{MANIFEST_NAME}"))
    }

    /// Path of the joined file with this BLAKE3.
    pub fn joined(&self, blake3: &str) -> PathBuf {
        self.folder.join("joined").join(format!("{blake3}.gguf"))
    }

    /// Removes files, the one that was used longest ago first, until `bytes` more are within the
    /// limit. Files whose names are in `keep` stay.
    ///
    /// # Errors
    /// When that is impossible, or the folder cannot be made or read.
    pub fn make_room(&self, bytes: u64, keep: &HashSet<&str>) -> anyhow::Result<()> {
        for folder in [&self.pieces, &self.folder.join("joined")] {
            atomic::create_folders(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
            atomic::remove_leftovers(folder);
        }
        let mut files = Vec::new();
        for folder in [&self.pieces, &self.folder.join("joined")] {
            list(folder, &mut files)?;
        }
        files.sort_by_key(|file| file.used);
        let mut total: u64 = files.iter().map(|file| file.size).sum();
        for file in &files {
            if total.saturating_add(bytes) <= self.limit {
                break;
            }
            let kept = file.path.file_name().and_then(|name| name.to_str());
            let kept = kept.is_some_and(|name| keep.contains(name));
            // Another process may have removed it.
            if !kept && fs::remove_file(&file.path).is_ok() {
                total -= file.size;
            }
        }
        ensure!(
            total.saturating_add(bytes) <= self.limit,
            "the cache {} holds at most {}, and {} are needed: set {SIZE_VARIABLE} to more",
            self.folder.display(),
            cli::bytes(self.limit),
            cli::bytes(total.saturating_add(bytes))
        );
        Ok(())
    }

    /// Notes that a file was used now. The order of removal is all that depends on it.
    pub fn touch(&self, path: &Path) {
        let touched = File::options()
            .append(true)
            .open(path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            let _ = error;
        }
    }
}

/// Appends the files of a folder of the cache that are ours.
fn list(folder: &Path, files: &mut Vec<CachedFile>) -> anyhow::Result<()> {
    let place = || format!("cannot list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(place)? {
        let entry = entry.with_context(place)?;
        if !entry.file_name().to_str().is_some_and(is_ours) {
            continue;
        }
        // Removed by another process since it was listed.
        let Ok(found) = entry.metadata() else { continue };
        if found.is_file() {
            let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push(CachedFile { path: entry.path(), size: found.len(), used });
        }
    }
    Ok(())
}

struct CachedFile {
    path: PathBuf,
    size: u64,
    used: SystemTime,
}

/// A hash with one of our endings: should the user have named a folder with other files in it, they
/// stay.
fn is_ours(name: &str) -> bool {
    let Some((hash, ending)) = name.split_once('.') else { return false };
    let hex = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex && (ENDINGS.contains(&ending) || ending == MANIFEST_NAME)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_and_files_of_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path(), 3000);
        let pieces = cache.pieces().to_owned();
        fs::create_dir(&pieces).unwrap();
        let name = |letter: &str| format!("{}.dat", letter.repeat(64));
        for (age, letter) in ["a", "b", "c"].iter().enumerate() {
            let path = pieces.join(name(letter));
            fs::write(&path, [0; 1000]).unwrap();
            let used = SystemTime::now() - Duration::from_secs(100 - age as u64);
            File::options().append(true).open(&path).unwrap().set_modified(used).unwrap();
        }
        fs::write(pieces.join("letter.dat"), [0; 9000]).unwrap();
        cache.touch(&pieces.join(name("a")));

        cache.make_room(500, &HashSet::new()).unwrap();
        let left = |letter| pieces.join(name(letter)).exists();
        assert_eq!((left("a"), left("b"), left("c")), (true, false, true));
        let error = cache.make_room(2500, &HashSet::from([name("c").as_str()])).unwrap_err();
        assert!(error.to_string().contains(SIZE_VARIABLE), "{error}");
        assert_eq!((left("a"), left("c")), (false, true));
        assert!(pieces.join("letter.dat").exists());
    }
}
