//! Files and folders that appear whole or not at all.
//!
//! Output goes to a sibling `.NAME.pocketgpt-tmp-PID-RANDOM` first, is synced, and takes the target's
//! place in one rename; the parent folder is synced last. A process that is killed on the way
//! leaves the old output as it was and a sibling that the next write to the same target removes.
//! Names that only look like such a sibling are somebody's and stay.

mod error;
mod leftovers;
mod named;
mod place;
mod space;
mod swap;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use tempfile::{TempDir, TempPath};

pub use error::AtomicError;
pub use named::NamedFile;
pub use place::{ensure_outside, same_place};
pub use space::available_space;

/// Large enough that a write of a tensor row goes through and a write of a number does not.
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes a file through a sibling: `write` fills it, then it is synced and renamed to `path`.
///
/// The parent folder is created where it is missing. If `write` fails, nothing has changed.
///
/// # Errors
/// What `write` returned, or [`AtomicError`]: the target exists and `overwrite` is false, it is
/// a folder, the folder cannot be written, or the disk is full.
pub fn write_file<T, E: From<AtomicError>>(
    path: &Path,
    overwrite: bool,
    write: impl FnOnce(&mut BufWriter<NamedFile>) -> Result<T, E>,
) -> Result<T, E> {
    write_file_for(Readers::AsUmaskSays, path, overwrite, write)
}

/// Writes a file that nobody but its owner may read, as [`write_file`] otherwise. There is no
/// moment at which another could open it.
///
/// # Errors
/// Those of [`write_file`].
pub fn write_secret_file<T, E: From<AtomicError>>(
    path: &Path,
    overwrite: bool,
    write: impl FnOnce(&mut BufWriter<NamedFile>) -> Result<T, E>,
) -> Result<T, E> {
    write_file_for(Readers::OwnerOnly, path, overwrite, write)
}

fn write_file_for<T, E: From<AtomicError>>(
    readers: Readers,
    path: &Path,
    overwrite: bool,
    write: impl FnOnce(&mut BufWriter<NamedFile>) -> Result<T, E>,
) -> Result<T, E> {
    let (value, file) = prepare_file_for(readers, path, overwrite, write)?;
    file.publish()?;
    Ok(value)
}

/// The first half of [`write_file`]: what `write` fills is on disk, under another name, until
/// [`PreparedFile::publish`] gives it its own. So a file can appear together with something else
/// that may fail.
///
/// # Errors
/// Those of [`write_file`].
pub fn prepare_file<T, E: From<AtomicError>>(
    path: &Path,
    overwrite: bool,
    write: impl FnOnce(&mut BufWriter<NamedFile>) -> Result<T, E>,
) -> Result<(T, PreparedFile), E> {
    prepare_file_for(Readers::AsUmaskSays, path, overwrite, write)
}

fn prepare_file_for<T, E: From<AtomicError>>(
    readers: Readers,
    path: &Path,
    overwrite: bool,
    write: impl FnOnce(&mut BufWriter<NamedFile>) -> Result<T, E>,
) -> Result<(T, PreparedFile), E> {
    let target = Target::for_file(path, overwrite)?;
    let (file, temporary) = target.create_file(readers)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, NamedFile::new(file, path));
    let value = write(&mut out)?;
    let file = target.sync_file(out)?;
    Ok((value, PreparedFile { target, _lock: file, temporary, overwrite }))
}

/// A file that is complete and synced, and does not have its name yet. Dropped, it is removed.
pub struct PreparedFile {
    target: Target,
    /// Its lock says that it is no leftover.
    _lock: File,
    temporary: TempPath,
    overwrite: bool,
}

impl PreparedFile {
    /// Gives the file its name.
    ///
    /// # Errors
    /// [`AtomicError::Exists`] when something appeared there meanwhile that may not be replaced;
    /// when the system refuses.
    pub fn publish(self) -> Result<(), AtomicError> {
        self.target.publish_file(self.temporary, self.overwrite)
    }
}

/// Who may read a new file.
#[derive(Clone, Copy)]
enum Readers {
    /// Like any file the user makes.
    AsUmaskSays,
    /// As for a secret. Only Unix can say so here; elsewhere the folder's rules hold.
    OwnerOnly,
}

impl Readers {
    #[cfg(unix)]
    fn mode(self) -> u32 {
        match self {
            Readers::AsUmaskSays => 0o666,
            Readers::OwnerOnly => 0o600,
        }
    }
}

/// Writes a folder through a sibling: `fill` gets the path of an empty folder, every file in it
/// is synced, then it takes the place of `path`.
///
/// An existing folder at `path` is replaced **with everything in it** if `overwrite` is true; an
/// empty one counts as missing. Where the file system can swap two names (Linux, macOS), a
/// reader sees the old folder or the new one at every moment. Elsewhere there is an instant
/// without either, and the next write restores the old one if the process died in it.
///
/// # Errors
/// What `fill` returned, or [`AtomicError`] as for [`write_file`].
pub fn write_dir<T, E: From<AtomicError>>(
    path: &Path,
    overwrite: bool,
    fill: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    let target = Target::new(path)?;
    target.prepare()?;
    if path.symlink_metadata().is_ok() {
        if !path.is_dir() {
            return Err(AtomicError::NotAFolder { path: path.to_owned() }.into());
        }
        if !overwrite && !is_empty_dir(path) {
            return Err(AtomicError::Exists { path: path.to_owned() }.into());
        }
    }
    let (temporary, _lock) = target.create_dir()?;
    let value = fill(temporary.path())?;
    target.publish_dir(temporary, overwrite)?;
    Ok(value)
}

/// Gives a complete folder its name: `folder`, whose files are safe on the disk, becomes `path`. An old
/// folder there is replaced **with everything in it** if `overwrite` is true, as by [`write_dir`].
///
/// # Errors
/// [`AtomicError::Exists`] when something is there that may not be replaced; when the system refuses.
pub fn publish_folder(folder: &Path, path: &Path, overwrite: bool) -> Result<(), AtomicError> {
    let target = Target::new(path)?;
    target.prepare()?;
    target.move_dir(folder, overwrite)?;
    if folder.exists() {
        // The old folder, which has this name now.
        fs::remove_dir_all(folder).map_err(|source| AtomicError::write(folder, source))?;
    }
    Ok(())
}

/// Removes what killed processes left in `folder` of anything that is written this way. A write to
/// the same path again does so for that path; this is for names that do not come again.
pub fn remove_leftovers(folder: &Path) {
    leftovers::remove(folder, None);
}

/// An empty folder for what has to be on disk until the file at `path` is written. It goes with
/// the guard; after a process that was killed, with the next write to `path`.
///
/// # Errors
/// Those with which [`write_file`] would refuse the file.
pub fn scratch_for(path: &Path, overwrite: bool) -> Result<Scratch, AtomicError> {
    let (folder, lock) = Target::for_file(path, overwrite)?.create_dir()?;
    Ok(Scratch { folder, _lock: lock })
}

/// A folder of [`scratch_for`], removed with everything in it when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    _lock: Option<File>,
}

impl Scratch {
    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Where output goes, and the folder and name that its siblings are made from.
struct Target {
    path: PathBuf,
    parent: PathBuf,
    name: String,
}

impl Target {
    fn new(path: &Path) -> Result<Self, AtomicError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(AtomicError::NoName { path: path.to_owned() });
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        Ok(Target {
            path: path.to_owned(),
            parent: parent.to_owned(),
            name: name.to_string_lossy().into_owned(),
        })
    }

    /// A target that a file may be written to, its folder prepared.
    fn for_file(path: &Path, overwrite: bool) -> Result<Self, AtomicError> {
        let target = Target::new(path)?;
        if path.is_dir() {
            return Err(AtomicError::NotAFile { path: path.to_owned() });
        }
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(AtomicError::Exists { path: path.to_owned() });
        }
        // Also behind a link, as /dev/stdout is one.
        let found = path.metadata().ok().and_then(|found| plain_file::special(found.file_type()));
        if let Some(found) = found {
            return Err(AtomicError::Special { path: path.to_owned(), found });
        }
        target.prepare()?;
        Ok(target)
    }

    /// Makes sure of the parent folder and clears what killed processes left there.
    fn prepare(&self) -> Result<(), AtomicError> {
        create_folders(&self.parent).map_err(|source| self.folder_error(source))?;
        swap::recover(&self.path, &self.parent, &self.name);
        leftovers::remove(&self.parent, Some(&self.name));
        Ok(())
    }

    #[cfg_attr(not(unix), allow(unused_variables, reason = "only Unix has modes"))]
    fn create_file(&self, readers: Readers) -> Result<(File, TempPath), AtomicError> {
        let prefix = leftovers::prefix(&self.name);
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).rand_bytes(leftovers::RANDOM_LETTERS);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(readers.mode()));
        let file = builder.tempfile_in(&self.parent).map_err(|source| self.folder_error(source))?;
        leftovers::mark_alive(file.as_file());
        Ok(file.into_parts())
    }

    /// The folder, and the handle whose lock says that it is in use.
    fn create_dir(&self) -> Result<(TempDir, Option<File>), AtomicError> {
        let prefix = leftovers::prefix(&self.name);
        let folder = tempfile::Builder::new()
            .prefix(&prefix)
            .rand_bytes(leftovers::RANDOM_LETTERS)
            .tempdir_in(&self.parent)
            .map_err(|source| self.folder_error(source))?;
        let lock = File::open(folder.path()).ok();
        lock.iter().for_each(leftovers::mark_alive);
        Ok((folder, lock))
    }

    fn sync_file(&self, out: BufWriter<NamedFile>) -> Result<File, AtomicError> {
        let file =
            out.into_inner().map_err(|error| self.write_error(error.into_error()))?.into_file();
        file.sync_all().map_err(|source| self.write_error(source))?;
        Ok(file)
    }

    fn publish_file(&self, temporary: TempPath, overwrite: bool) -> Result<(), AtomicError> {
        let renamed = if overwrite {
            temporary.persist(&self.path)
        } else {
            temporary.persist_noclobber(&self.path)
        };
        renamed.map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => AtomicError::Exists { path: self.path.clone() },
            _ => self.write_error(error.error),
        })?;
        sync_dir(&self.parent).map_err(|source| self.folder_error(source))
    }

    fn publish_dir(&self, temporary: TempDir, overwrite: bool) -> Result<(), AtomicError> {
        sync_tree(temporary.path()).map_err(|source| self.write_error(source))?;
        // On success the name is gone or holds the old folder, which is then removed with it.
        self.move_dir(temporary.path(), overwrite)?;
        drop(temporary);
        Ok(())
    }

    /// Afterwards the name of `folder` is gone, or holds what was at the target.
    fn move_dir(&self, folder: &Path, overwrite: bool) -> Result<(), AtomicError> {
        let moved = if overwrite {
            swap::replace(folder, &self.path, &self.parent, &self.name)
        } else {
            swap::place(folder, &self.path)
        };
        moved.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
                AtomicError::Exists { path: self.path.clone() }
            }
            io::ErrorKind::NotADirectory => AtomicError::NotAFolder { path: self.path.clone() },
            _ => self.write_error(error),
        })?;
        sync_dir(&self.parent).map_err(|source| self.folder_error(source))
    }

    /// The folder is named, unless it is the current one, which has no name to the user.
    fn folder_error(&self, source: io::Error) -> AtomicError {
        if self.parent == Path::new(".") {
            return self.write_error(source);
        }
        AtomicError::Folder { folder: self.parent.clone(), source }
    }

    fn write_error(&self, source: io::Error) -> AtomicError {
        AtomicError::write(&self.path, source)
    }
}

fn is_empty_dir(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Creates `folder` and what is missing above it, so that all of it is there after a power cut.
///
/// # Errors
/// Those of the system.
pub fn create_folders(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    fs::create_dir_all(folder)?;
    for made in missing.iter().rev() {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_dir(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Syncs every file below `folder`, then the folders themselves.
fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            // Windows syncs only what is open for writing.
            OpenOptions::new().read(true).write(cfg!(windows)).open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(folder)
}

/// Makes renames in `folder` last. Only Unix can and needs to.
fn sync_dir(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests;
