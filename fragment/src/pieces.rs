//! Opens the pieces of a folder: only plain files, and only with the size and hash that the
//! manifest gives.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::PieceError;
use crate::manifest::Fragment;

/// A folder of pieces named by their content.
#[derive(Debug, Clone)]
pub struct Pieces {
    folder: PathBuf,
}

impl Pieces {
    /// The pieces in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Pieces { folder: folder.into() }
    }

    /// Path of a piece. The names in a checked manifest are hashes, so it is inside the folder.
    pub fn path(&self, fragment: &Fragment) -> PathBuf {
        self.folder.join(&fragment.file)
    }

    /// Opens a piece after checking that it is a plain file of the right size.
    ///
    /// # Errors
    /// All of [`PieceError`] but [`PieceError::Damaged`].
    pub fn open(&self, fragment: &Fragment) -> Result<File, PieceError> {
        let path = self.path(fragment);
        let file = open_plain(&path)?;
        let found = file.metadata().map_err(|source| io(&path, source))?.len();
        if found != fragment.size {
            return Err(PieceError::WrongSize { path, found, expected: fragment.size });
        }
        Ok(file)
    }

    /// Reads a whole piece into `buffer` and verifies its BLAKE3.
    ///
    /// # Errors
    /// All of [`PieceError`].
    pub fn read(&self, fragment: &Fragment, buffer: &mut Vec<u8>) -> Result<(), PieceError> {
        self.read_unverified(fragment, buffer)?;
        let found = blake3::hash(buffer).to_hex();
        if found.as_str() != fragment.blake3 {
            return Err(PieceError::Damaged {
                path: self.path(fragment),
                which: "BLAKE3",
                found: found.to_string(),
                expected: fragment.blake3.clone(),
            });
        }
        Ok(())
    }

    /// Reads a whole piece into `buffer`, for callers that compute other hashes of it.
    ///
    /// # Errors
    /// All of [`PieceError`] but [`PieceError::Damaged`].
    pub(crate) fn read_unverified(
        &self,
        fragment: &Fragment,
        buffer: &mut Vec<u8>,
    ) -> Result<(), PieceError> {
        let mut file = self.open(fragment)?;
        let path = self.path(fragment);
        buffer.clear();
        buffer
            .try_reserve_exact(fragment.size as usize)
            .map_err(|error| io(&path, std::io::Error::other(error)))?;
        file.by_ref()
            .take(fragment.size)
            .read_to_end(buffer)
            .map_err(|source| io(&path, source))?;
        Ok(())
    }

    /// Appends `length` bytes at `offset` of a piece that was verified before.
    ///
    /// # Errors
    /// All of [`PieceError`] but [`PieceError::Damaged`].
    pub fn read_range(
        &self,
        fragment: &Fragment,
        offset: u64,
        length: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), PieceError> {
        let mut file = self.open(fragment)?;
        let path = self.path(fragment);
        file.seek(SeekFrom::Start(offset)).map_err(|source| io(&path, source))?;
        let read = file.take(length).read_to_end(out).map_err(|source| io(&path, source))?;
        if read as u64 != length {
            let found = offset + read as u64;
            return Err(PieceError::WrongSize { path, found, expected: fragment.size });
        }
        Ok(())
    }
}

/// Opens `path` if it is a plain file: a link could point elsewhere, and a pipe could block.
///
/// # Errors
/// [`PieceError::Missing`], [`PieceError::NotAFile`] or [`PieceError::Io`].
pub fn open_plain(path: &Path) -> Result<File, PieceError> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => {
            plain_file::open(path).map_err(|source| io(path, source))
        }
        Ok(_) => Err(PieceError::NotAFile { path: path.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(PieceError::Missing { path: path.to_owned() })
        }
        Err(source) => Err(io(path, source)),
    }
}

fn io(path: &Path, source: std::io::Error) -> PieceError {
    PieceError::Io { path: path.to_owned(), source }
}
