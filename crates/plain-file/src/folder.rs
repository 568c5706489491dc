//! A folder whose files are opened without following a link, whatever is put there meanwhile.

use std::fs::File;
use std::io;
use std::path::Path;

/// A folder that stays the same one: on Unix it is held open, so that another folder or a link in
/// its place is not looked at.
#[derive(Debug)]
pub struct Folder(system::Handle);

impl Folder {
    /// Opens the folder at `path`. Links on the way to it are followed: the user named it.
    ///
    /// # Errors
    /// Those of the system, also where `path` is not a folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        system::open(path).map(Folder)
    }

    /// Opens a regular file below the folder to read it. `path` is relative, its names joined by
    /// `/`. No link is followed in any of them, and nothing is waited for.
    ///
    /// On systems other than Unix the names are looked at before the file is opened, so that a
    /// link that appears in between is followed.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::InvalidInput`] for a path that could lead out of the
    /// folder, a folder, a named pipe, a device or a socket.
    pub fn open_file(&self, path: &str) -> io::Result<File> {
        let names: Vec<&str> = path.split('/').collect();
        if names.iter().any(|name| leads_elsewhere(name)) {
            return Err(refused(format!("{path:?} is not a path below a folder")));
        }
        let file = system::open_below(&self.0, &names)?;
        let found = file.metadata()?.file_type();
        if found.is_file() {
            return Ok(file);
        }
        let found = super::special(found).unwrap_or("a folder");
        Err(refused(format!("it is {found}: expected a regular file")))
    }
}

/// Whether a name is not that of something directly in a folder, on any system.
fn leads_elsewhere(name: &str) -> bool {
    matches!(name, "" | "." | "..") || name.contains(['\\', ':', '\0'])
}

fn refused(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(unix)]
mod system {
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::Path;

    use rustix::fs::{CWD, Mode, OFlags, openat};

    pub(super) type Handle = OwnedFd;

    const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

    pub(super) fn open(path: &Path) -> io::Result<Handle> {
        Ok(openat(CWD, path, FOLDER, Mode::empty())?)
    }

    /// Each name is looked up in the folder that is open already, so nothing that happens to the
    /// ones before it matters.
    pub(super) fn open_below(folder: &Handle, names: &[&str]) -> io::Result<File> {
        let Some((file, above)) = names.split_last() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut inner: Option<OwnedFd> = None;
        for name in above {
            let outer = inner.as_ref().unwrap_or(folder).as_fd();
            inner = Some(openat(outer, *name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let outer = inner.as_ref().unwrap_or(folder).as_fd();
        Ok(File::from(openat(outer, *file, flags | OFlags::CLOEXEC, Mode::empty())?))
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs::File;
    use std::io;
    use std::path::{Path, PathBuf};

    pub(super) type Handle = PathBuf;

    pub(super) fn open(path: &Path) -> io::Result<Handle> {
        std::fs::read_dir(path)?;
        path.canonicalize()
    }

    pub(super) fn open_below(folder: &Handle, names: &[&str]) -> io::Result<File> {
        let mut path = folder.clone();
        for name in names {
            path.push(name);
            if path.symlink_metadata()?.file_type().is_symlink() {
                return Err(super::refused(format!("{name:?} is a link")));
            }
        }
        File::open(path)
    }
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "a test that fails says where")]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    fn text(file: io::Result<File>) -> String {
        let mut text = String::new();
        file.unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_link_is_followed_in_no_name_and_a_pipe_is_not_waited_for() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("file"), "secret").unwrap();
        let inside = tempfile::tempdir().unwrap();
        std::fs::create_dir(inside.path().join("sub")).unwrap();
        std::fs::write(inside.path().join("sub/file"), "text").unwrap();
        symlink(outside.path(), inside.path().join("linked")).unwrap();
        symlink(outside.path().join("file"), inside.path().join("link")).unwrap();
        symlink("file", inside.path().join("sub/near")).unwrap();
        let pipe = inside.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());

        let folder = Folder::open(inside.path()).unwrap();
        assert_eq!(text(folder.open_file("sub/file")), "text");
        for path in ["linked/file", "link", "sub/near", "pipe", "sub", "", "/etc/hostname"] {
            assert!(folder.open_file(path).is_err(), "{path}");
        }
        for path in ["../x", "sub/../../x", "sub/./file", "sub//file", "sub/file/"] {
            let error = folder.open_file(path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }

    #[test]
    fn a_folder_put_in_its_place_is_not_looked_at() {
        let scratch = tempfile::tempdir().unwrap();
        let (path, other) = (scratch.path().join("a"), scratch.path().join("b"));
        for (folder, content) in [(&path, "text"), (&other, "secret")] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("file"), content).unwrap();
        }
        let folder = Folder::open(&path).unwrap();
        std::fs::rename(&path, scratch.path().join("away")).unwrap();
        symlink(&other, &path).unwrap();
        assert_eq!(text(folder.open_file("file")), "text");
    }
}
