//! Encodes text as tokens by merging, for any vocabulary, with a cache for short pieces.
//!
//! A natural text repeats the same few thousand words, so an [`Encoder`] caches the tokens of short
//! pieces. The cache has a fixed size and belongs to one thread. Pieces that were evicted are
//! merged again, so the result never depends on the cache.

use super::long;
use super::merge::{MergeTable, Scratch};

/// The interface of a vocabulary for an encoder.
pub(crate) trait Pieces {
    /// The end of the piece that starts at byte `start`. No token extends over the end of a piece.
    fn piece_end(&self, text: &str, start: usize) -> usize;

    /// Appends the tokens of a piece before any merge. A piece is UTF-8. The error is the position
    /// of a byte that has no token.
    fn spell(&self, piece: &[u8], ids: &mut Vec<u32>) -> Result<(), usize>;

    /// The merges of these tokens.
    fn table(&self) -> &MergeTable;
}

/// Longest piece that the cache keeps, in bytes: one byte of the key is the length.
const KEY_BYTES: usize = 15;
/// Most tokens that the cache keeps for a piece.
const SLOT_IDS: usize = 3;

/// One cached piece. An empty slot has key 0, which no piece has.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u128,
    ids: [u32; SLOT_IDS],
    len: u32,
}

/// Encodes text with one vocabulary on one thread.
#[derive(Debug)]
pub(crate) struct Encoder<'a, V> {
    vocabulary: &'a V,
    cache: Box<[Slot]>,
    ids: Vec<u32>,
    scratch: Scratch,
}

impl<'a, V: Pieces> Encoder<'a, V> {
    /// An encoder whose cache suits a text of about `text_len` bytes.
    pub fn new(vocabulary: &'a V, text_len: usize) -> Self {
        let slots = (text_len / 4).next_power_of_two().clamp(1 << 4, 1 << 15);
        Encoder {
            vocabulary,
            cache: vec![Slot::default(); slots].into_boxed_slice(),
            ids: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// The vocabulary of the encoder.
    pub fn vocabulary(&self) -> &'a V {
        self.vocabulary
    }

    /// Appends the tokens of `text` to `out`. The error is the position of a byte that has no
    /// token.
    pub fn encode(&mut self, text: &str, out: &mut Vec<u32>) -> Result<(), usize> {
        let mut start = 0;
        while start < text.len() {
            let end = self.vocabulary.piece_end(text, start);
            self.encode_piece(&text.as_bytes()[start..end], out).map_err(|at| start + at)?;
            start = end;
        }
        Ok(())
    }

    /// Appends the tokens of one piece to `out`.
    #[inline]
    pub fn encode_piece(&mut self, piece: &[u8], out: &mut Vec<u32>) -> Result<(), usize> {
        if piece.len() == 1 {
            self.vocabulary.spell(piece, out)?;
        } else if piece.len() > long::LONG_PIECE {
            long::encode(self.vocabulary, piece, out)?;
        } else if piece.len() > KEY_BYTES {
            self.merge(piece)?;
            out.extend_from_slice(&self.ids);
        } else {
            let key = key(piece);
            let slot = slot_of(key, self.cache.len());
            if self.cache[slot].key != key {
                self.merge(piece)?;
                if self.ids.len() > SLOT_IDS {
                    out.extend_from_slice(&self.ids);
                    return Ok(());
                }
                let found = &mut self.cache[slot];
                found.key = key;
                found.len = self.ids.len() as u32;
                found.ids[..self.ids.len()].copy_from_slice(&self.ids);
            }
            let found = &self.cache[slot];
            out.extend_from_slice(&found.ids[..found.len as usize]);
        }
        Ok(())
    }

    /// Writes the tokens of `piece` to `self.ids`.
    fn merge(&mut self, piece: &[u8]) -> Result<(), usize> {
        self.ids.clear();
        self.vocabulary.spell(piece, &mut self.ids)?;
        self.vocabulary.table().apply(&mut self.ids, u32::MAX, &mut self.scratch);
        Ok(())
    }
}

/// The bytes of a short piece and its length as one integer.
#[inline]
fn key(piece: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..piece.len()].copy_from_slice(piece);
    bytes[KEY_BYTES] = piece.len() as u8;
    u128::from_le_bytes(bytes)
}

/// Multiplying the two halves and folding the product mixes every bit into the lowest ones.
#[inline]
fn slot_of(key: u128, slots: usize) -> usize {
    let low = key as u64 ^ 0x9E37_79B9_7F4A_7C15;
    let high = (key >> 64) as u64 ^ 0xD1B5_4A32_D192_ED03;
    let product = u128::from(low) * u128::from(high);
    ((product ^ (product >> 64)) as usize) & (slots - 1)
}
