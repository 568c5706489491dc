//! The logits that every variant is compared with, on disk: written once, memory-mapped, and
//! completed if a run was stopped.
//!
//! ```text
//! byte  0  magic "PGPLOGIT"                      all numbers little-endian
//!       8  u32 version, 1
//!      12  u32 size of the vocabulary, V
//!      16  u32 tokens in a window, T
//!      20  u32 windows, W
//!      24  u32 who computed: 1 llama.cpp, 2 the reference
//!      28  u32 zero
//!      32  32 bytes: BLAKE3 of the model's file
//!      64  32 bytes: BLAKE3 of the tokens of all windows as u32
//!      96  32 bytes: BLAKE3 of the 96 bytes before
//!     128  W marks of 32 bytes: BLAKE3 of a window's rows; zeros until they are in the file
//!          zeros up to a multiple of 4096
//!          W windows of T - 1 - T/2 rows of 4 + 2 V bytes (`row.rs`)
//! ```
//!
//! Only positions that are scored have rows: from the middle of a window to the last but one. For
//! V = 50,257 and windows of 512 tokens that is 100.5 kB a position, 50 MB for 1,000 tokens of
//! text, 14.3 GB for all of WikiText-2's test text.
//!
//! While it is written, a base is named `NAME.part` and locked. A window's mark is written after
//! its rows, so the process may be killed at any moment: windows whose mark matches their hash are
//! kept, all others are computed again.

mod error;
mod header;
mod row;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::Mmap;

pub use error::BaseError;
pub use header::{BaseEngine, Identity};
pub use row::decode;
pub use writer::{BaseWriter, part_of};

use header::{HEADER, MARK};
use row::row_bytes;

/// A finished base, memory-mapped.
#[derive(Debug)]
pub struct Base {
    path: PathBuf,
    map: Mmap,
    identity: Identity,
    /// Windows whose rows were checked against their mark.
    checked: Vec<AtomicBool>,
}

impl Base {
    /// Maps the base at `path`, which must be the one that `wanted` describes.
    ///
    /// # Errors
    /// [`BaseError`]: when the file cannot be read, is not a base, is damaged, truncated or not
    /// finished, or was made from another model or text.
    pub fn open(path: &Path, wanted: &Identity) -> Result<Self, BaseError> {
        let io = |source| BaseError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is read-only. A finished base is never changed in place: writers fill a
        // file of another name and rename it.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let identity = Identity::parse(path, &map)?;
        wanted.accept(path, &identity)?;
        check_size(path, map.len() as u64, &identity)?;
        let base = Base {
            path: path.to_owned(),
            map,
            checked: (0..identity.windows).map(|_| AtomicBool::new(false)).collect(),
            identity,
        };
        match (0..base.identity.windows as usize).find(|&window| base.mark(window) == [0; MARK]) {
            Some(window) => Err(BaseError::Unfinished { path: base.path, window }),
            None => Ok(base),
        }
    }

    /// The inputs that it was made from.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The rows of a window, for [`decode`]. They are checked against their mark the first time.
    ///
    /// # Errors
    /// [`BaseError::DamagedWindow`].
    pub fn rows<'a>(
        &'a self,
        window: usize,
    ) -> Result<impl Fn(usize) -> &'a [u8] + Sync + use<'a>, BaseError> {
        let bytes: &'a [u8] = &self.map[place(&self.identity, window)];
        if !self.checked[window].load(Ordering::Relaxed) {
            if hash(bytes) != self.mark(window) {
                return Err(BaseError::DamagedWindow { path: self.path.clone(), window });
            }
            self.checked[window].store(true, Ordering::Relaxed);
        }
        let width = row_bytes(self.identity.vocab_size as usize);
        Ok(move |position: usize| &bytes[position * width..][..width])
    }

    fn mark(&self, window: usize) -> &[u8] {
        &self.map[HEADER + window * MARK..][..MARK]
    }
}

/// Bytes of a window in the file. The file's size was checked, so they fit into `usize`.
fn place(identity: &Identity, window: usize) -> Range<usize> {
    let start = identity.data_start() + identity.window_bytes() * window as u64;
    start as usize..(start + identity.window_bytes()) as usize
}

fn check_size(path: &Path, found: u64, identity: &Identity) -> Result<(), BaseError> {
    let expected = identity.file_bytes();
    match found == expected {
        true => Ok(()),
        false => Err(BaseError::Size { path: path.to_owned(), found, expected }),
    }
}

fn hash(bytes: &[u8]) -> [u8; MARK] {
    *blake3::Hasher::new().update_rayon(bytes).finalize().as_bytes()
}
