//! Opening what a user names as an input, so that it cannot stop the program.
//!
//! Opening a named pipe waits until somebody writes into it, and a device may give bytes for ever.
//! Both are refused here with what they are; the caller adds the path. Links are followed. Folders
//! are left to the caller, which knows whether one was expected.

mod folder;

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

pub use folder::Folder;

/// What a named pipe is called in errors.
#[cfg(unix)]
const PIPE: &str = "a named pipe";

/// Opens the file at `path` to read it. Never waits for another program.
///
/// # Errors
/// Those of the system; [`io::ErrorKind::InvalidInput`] for a named pipe, a device or a socket.
pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
    let file = open_at_once(path.as_ref())?;
    match special(file.metadata()?.file_type()) {
        Some(found) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("it is {found}: expected a file; write its content into one"),
        )),
        None => Ok(file),
    }
}

/// Opens whatever is there without waiting for a writer.
fn open_at_once(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Bits of `open`: the type differs between systems, the value fits.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    }
    options.open(path)
}

/// As [`open`], for what is read from its beginning to its end: a pipe that this process was started
/// with is a file too, as a shell makes for `--text <(zcat text.gz)` or `--text /dev/stdin`. Unlike
/// a pipe in a folder it is open already, so that opening it does not wait.
///
/// # Errors
/// Those of [`open`].
pub fn open_stream(path: impl AsRef<Path>) -> io::Result<File> {
    let path = path.as_ref();
    #[cfg(unix)]
    if is_own_descriptor(path) {
        let file = open_at_once(path)?;
        if special(file.metadata()?.file_type()) == Some(PIPE) {
            // Reads wait for what is still written.
            let flags = rustix::fs::fcntl_getfl(&file)? - rustix::fs::OFlags::NONBLOCK;
            rustix::fs::fcntl_setfl(&file, flags)?;
            return Ok(file);
        }
    }
    open(path)
}

/// Whether `path` is one of the names that Unix has for the open files of a process.
#[cfg(unix)]
fn is_own_descriptor(path: &Path) -> bool {
    let folders = ["/dev/fd", "/proc/self/fd"].map(Path::new);
    path == Path::new("/dev/stdin") || path.parent().is_some_and(|parent| folders.contains(&parent))
}

/// The bytes of the file at `path`.
///
/// # Errors
/// Those of [`open_stream`], and of reading.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_stream(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of the file at `path`.
///
/// # Errors
/// Those of [`open_stream`], and of reading; [`io::ErrorKind::InvalidData`] where it is no UTF-8.
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let mut text = String::new();
    open_stream(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// What something is that is no file, folder or link; `None` for those.
pub fn special(file_type: FileType) -> Option<&'static str> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if file_type.is_fifo() {
            return Some(PIPE);
        }
        if file_type.is_char_device() || file_type.is_block_device() {
            return Some("a device");
        }
        if file_type.is_socket() {
            return Some("a socket");
        }
    }
    let is_ordinary = file_type.is_file() || file_type.is_dir() || file_type.is_symlink();
    (!is_ordinary).then_some("no file")
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "a test that fails says where")]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_waits_or_never_ends_is_refused_by_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for (path, expected) in [
            (pipe.as_path(), "it is a named pipe: expected a file"),
            (&link, "it is a named pipe"),
            (Path::new("/dev/zero"), "it is a device"),
        ] {
            let error = open(path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(expected), "{}: {error}", path.display());
        }
    }

    #[test]
    fn a_pipe_that_the_process_has_open_is_read_and_a_terminal_or_device_is_not() {
        use std::io::Write;
        use std::os::fd::AsRawFd;

        let (from, mut to) = io::pipe().unwrap();
        let name = format!("/dev/fd/{}", from.as_raw_fd());
        to.write_all(b"text").unwrap();
        drop(to);
        assert!(open(&name).is_err(), "what is mapped cannot be a pipe");
        assert_eq!(read_to_string(&name).unwrap(), "text");
        let device = File::open("/dev/zero").unwrap();
        let error = read(format!("/dev/fd/{}", device.as_raw_fd())).unwrap_err();
        assert!(error.to_string().contains("a device"), "{error}");
    }

    #[test]
    fn files_are_read_and_folders_are_the_callers() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "text").unwrap();
        assert_eq!(read_to_string(&file).unwrap(), "text");
        assert_eq!(read(&file).unwrap(), b"text");
        assert!(open(folder.path()).unwrap().metadata().unwrap().is_dir());
        assert_eq!(open(folder.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
