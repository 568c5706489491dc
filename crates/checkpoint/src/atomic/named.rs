//! A file whose errors name the output that it becomes.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::AtomicError;

/// An output while it is written, under its temporary name. What fails says which output it is, so
/// nobody who writes has to.
#[derive(Debug)]
pub struct NamedFile {
    file: File,
    /// The output, as the user wrote it.
    path: PathBuf,
}

impl NamedFile {
    pub(super) fn new(file: File, path: &Path) -> Self {
        NamedFile { file, path: path.to_owned() }
    }

    pub(super) fn into_file(self) -> File {
        self.file
    }

    /// Another handle of the file.
    ///
    /// # Errors
    /// Those of the system, with the output's name.
    pub fn try_clone(&self) -> io::Result<File> {
        self.named(self.file.try_clone())
    }

    /// Sees to it that the disk has what was written.
    ///
    /// # Errors
    /// Those of the system, with the output's name.
    pub fn sync_data(&self) -> io::Result<()> {
        self.named(self.file.sync_data())
    }

    fn named<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|source| {
            let kind = source.kind();
            // These are answered by trying again, and are no failures.
            if kind == io::ErrorKind::Interrupted {
                return source;
            }
            io::Error::new(kind, AtomicError::Write { path: self.path.clone(), source })
        })
    }
}

impl Write for NamedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        self.named(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.flush();
        self.named(flushed)
    }
}

impl Seek for NamedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = self.file.seek(to);
        self.named(place)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_output_once() {
        let Ok(full) = File::options().write(true).open("/dev/full") else {
            eprintln!("skipped: there is no /dev/full");
            return;
        };
        let mut file = NamedFile::new(full, Path::new("out.gguf"));
        let error = file.write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let expected = "cannot write out.gguf: No space left on device (os error 28)";
        assert_eq!(error.to_string(), expected);
        assert_eq!(AtomicError::write(Path::new("out.gguf"), error).to_string(), expected);
    }
}
