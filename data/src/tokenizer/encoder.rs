//! Text to tokens by merging, whatever the vocabulary, with a memory for short pieces.
//!
//! A natural text says the same few thousand words again and again, so an [`Encoder`] remembers
//! what short pieces became. Its memory is fixed, it belongs to one thread, and what it has
//! forgotten it merges again: the result never depends on it.

use super::long;
use super::merge::{MergeTable, Scratch};

/// What an encoder has to know of a vocabulary.
pub(crate) trait Pieces {
    /// Where the piece that starts at byte `start` ends. No token reaches over such a place.
    fn piece_end(&self, text: &str, start: usize) -> usize;

    /// Appends the tokens that a piece consists of before anything merges. A piece is UTF-8. The
    /// error is the place of a byte that has no token.
    fn spell(&self, piece: &[u8], ids: &mut Vec<u32>) -> Result<(), usize>;

    /// Which of them merge.
    fn table(&self) -> &MergeTable;
}

/// Longest piece that the cache keeps, in bytes: one byte of the key is the length.
const KEY_BYTES: usize = 15;
/// Most tokens that the cache keeps for a piece.
const SLOT_IDS: usize = 3;

/// One remembered piece. An empty slot has key 0, which no piece has.
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
    /// An encoder whose cache suits about `text_len` bytes of text.
    pub fn new(vocabulary: &'a V, text_len: usize) -> Self {
        let slots = (text_len / 4).next_power_of_two().clamp(1 << 4, 1 << 15);
        Encoder {
            vocabulary,
            cache: vec![Slot::default(); slots].into_boxed_slice(),
            ids: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// What is encoded with.
    pub fn vocabulary(&self) -> &'a V {
        self.vocabulary
    }

    /// Appends the tokens of `text` to `out`. The error is the place of a byte that has no token.
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

    /// Leaves the tokens of `piece` in `self.ids`.
    fn merge(&mut self, piece: &[u8]) -> Result<(), usize> {
        self.ids.clear();
        self.vocabulary.spell(piece, &mut self.ids)?;
        self.vocabulary.table().apply(&mut self.ids, u32::MAX, &mut self.scratch);
        Ok(())
    }
}

/// The bytes of a short piece and their number as one integer.
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
