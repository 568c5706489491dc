//! Where the bytes of pieces come from.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::PieceError;
use crate::manifest::{Fragment, Manifest};
use crate::pieces::Pieces;

/// A source of the pieces of one manifest: a folder, or stores through a cache.
pub trait PieceSource: Debug + Send + Sync {
    /// Appends the bytes `part` of a piece to `out`. They were verified: they are the bytes that the
    /// piece's BLAKE3 stands for.
    ///
    /// # Errors
    /// When the piece is missing or damaged, or cannot be read.
    fn append(
        &self,
        fragment: &Fragment,
        part: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), PieceError>;
}

/// The pieces in a folder. The BLAKE3 of a piece is verified once, before its first byte is used.
#[derive(Debug)]
pub struct FolderSource {
    pieces: Pieces,
    /// For each piece of the manifest, whether its hash was verified.
    verified: Vec<AtomicBool>,
}

impl FolderSource {
    /// The pieces of `manifest`, as far as they are there.
    pub fn new(pieces: Pieces, manifest: &Manifest) -> Self {
        let verified = manifest.fragments.iter().map(|_| AtomicBool::new(false)).collect();
        FolderSource { pieces, verified }
    }
}

impl PieceSource for FolderSource {
    fn append(
        &self,
        fragment: &Fragment,
        part: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), PieceError> {
        let verified = &self.verified[fragment.id];
        if verified.load(Ordering::Acquire) {
            return self.pieces.read_range(fragment, part.start, part.end - part.start, out);
        }
        let mut piece = Vec::new();
        self.pieces.read(fragment, &mut piece)?;
        verified.store(true, Ordering::Release);
        out.extend_from_slice(&piece[part.start as usize..part.end as usize]);
        Ok(())
    }
}
