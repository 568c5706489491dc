//! Byte-level byte-pair encoding: GPT-2's own vocabulary and any other of its kind.
//!
//! ```text
//! text --scanner--> pieces --cache, or bytes + merges--> token ids
//! ```
//!
//! A natural text says the same few thousand words again and again, so an [`Encoder`] remembers
//! what short pieces became. Its memory is fixed, it belongs to one thread, and what it has
//! forgotten it merges again: the result never depends on it.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};

use super::alphabet::Alphabet;
use super::classes::Classes;
use super::merge::{Merge, MergeTable, Scratch};

/// The one special token that GPT-2 has.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Most tokens that a vocabulary may hold, so that a wrong file cannot ask for all memory.
const MAX_TOKENS: usize = 1 << 24;

/// A vocabulary, its merges and the scanner that cuts text into pieces.
#[derive(Debug)]
pub(crate) struct Bpe {
    classes: Classes,
    tokens: Vec<Box<[u8]>>,
    byte_ids: [u32; 256],
    table: MergeTable,
    merges: Vec<(u32, u32)>,
    end_of_text: Option<u32>,
}

impl Bpe {
    /// GPT-2's vocabulary as tiktoken-rs embeds it: 50,256 tokens by rank and `<|endoftext|>`.
    pub fn gpt2() -> Result<Self> {
        const ORDINARY: u32 = 50_256;
        let source = tiktoken_rs::r50k_base().context("GPT-2's vocabulary in tiktoken-rs")?;
        let mut tokens = Vec::with_capacity(ORDINARY as usize + 1);
        for id in 0..=ORDINARY {
            let bytes = source
                .decode_bytes(&[id])
                .map_err(|_| anyhow::anyhow!("tiktoken-rs has no bytes for token {id}"))?;
            tokens.push(bytes.into_boxed_slice());
        }
        Self::from_ranks(tokens, ORDINARY)
    }

    /// A vocabulary whose ids are its ranks: any two neighbours may merge if what they spell
    /// together is a token, lower ids first. This is tiktoken's rule. The merges as other programs
    /// list them follow from it: they are what the two last parts of each token were.
    fn from_ranks(tokens: Vec<Box<[u8]>>, end_of_text: u32) -> Result<Self> {
        let ids: HashMap<&[u8], u32, rustc_hash::FxBuildHasher> =
            tokens[..end_of_text as usize].iter().map(AsRef::as_ref).zip(0..).collect();
        let byte_ids = byte_ids(|byte| ids.get(&[byte][..]).copied())?;
        let mut table = MergeTable::default();
        for (token, &id) in &ids {
            for middle in 1..token.len() {
                let (left, right) = token.split_at(middle);
                if let (Some(&left), Some(&right)) = (ids.get(left), ids.get(right)) {
                    table.insert(left, right, Merge { rank: id, id });
                }
            }
        }
        let merges = derive_merges(&tokens[..end_of_text as usize], &byte_ids, &table)?;
        Ok(Bpe {
            classes: Classes::new()?,
            tokens,
            byte_ids,
            table,
            merges,
            end_of_text: Some(end_of_text),
        })
    }

    /// A vocabulary in the byte alphabet, in order of ids, with merges as lines of two tokens.
    pub fn from_merges(names: &[String], merges: &[String]) -> Result<Self> {
        ensure!(names.len() <= MAX_TOKENS, "{} tokens; expected at most {MAX_TOKENS}", names.len());
        let alphabet = Alphabet::new();
        let mut ids = HashMap::with_capacity(names.len());
        for (id, name) in (0_u32..).zip(names) {
            if let Some(earlier) = ids.insert(name.as_str(), id) {
                bail!("the tokens {earlier} and {id} of the vocabulary are both {name:?}");
            }
        }
        let byte_ids = byte_ids(|byte| ids.get(alphabet.write(&[byte]).as_str()).copied())?;
        let mut table = MergeTable::default();
        let mut pairs = Vec::with_capacity(merges.len());
        for (rank, line) in (0_u32..).zip(merges) {
            let id_of = |name: &str| {
                let missing =
                    || format!("merge {rank} ({line:?}): {name:?} is not in the vocabulary");
                ids.get(name).copied().with_context(missing)
            };
            let (left, right) = line
                .split_once(' ')
                .filter(|(left, right)| !left.is_empty() && !right.is_empty())
                .with_context(|| format!("merge {rank} ({line:?}): expected two tokens"))?;
            let (left_id, right_id) = (id_of(left)?, id_of(right)?);
            let id = id_of(&format!("{left}{right}"))?;
            table.insert(left_id, right_id, Merge { rank, id });
            pairs.push((left_id, right_id));
        }
        Ok(Bpe {
            classes: Classes::new()?,
            byte_ids,
            table,
            merges: pairs,
            end_of_text: ids.get(END_OF_TEXT).copied(),
            tokens: names.iter().map(|name| alphabet.read(name).into_boxed_slice()).collect(),
        })
    }

    /// Every token in order of ids, in the byte alphabet.
    pub fn names(&self) -> Vec<String> {
        let alphabet = Alphabet::new();
        self.tokens.iter().map(|bytes| alphabet.write(bytes)).collect()
    }

    /// The merges in order, each as two tokens in the byte alphabet with a space between them.
    pub fn merge_lines(&self) -> Vec<String> {
        let alphabet = Alphabet::new();
        let name = |id: u32| alphabet.write(&self.tokens[id as usize]);
        self.merges.iter().map(|&(left, right)| format!("{} {}", name(left), name(right))).collect()
    }

    /// The merges in order, as pairs of token ids.
    pub fn merges(&self) -> &[(u32, u32)] {
        &self.merges
    }

    /// The bytes of every token, in order of ids.
    pub fn tokens(&self) -> &[Box<[u8]>] {
        &self.tokens
    }

    /// The id of `<|endoftext|>`, where the vocabulary has it.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// What cuts text into pieces.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// An encoder whose cache suits about `text_len` bytes of text.
    pub fn encoder(&self, text_len: usize) -> Encoder<'_> {
        let slots = (text_len / 4).next_power_of_two().clamp(1 << 4, 1 << 15);
        Encoder {
            bpe: self,
            cache: vec![Slot::default(); slots].into_boxed_slice(),
            ids: Vec::new(),
            scratch: Scratch::default(),
        }
    }
}

/// For each token, the two parts that it consists of once all lower ranks have merged.
fn derive_merges(
    tokens: &[Box<[u8]>],
    byte_ids: &[u32; 256],
    table: &MergeTable,
) -> Result<Vec<(u32, u32)>> {
    let mut scratch = Scratch::default();
    let mut merges = Vec::with_capacity(tokens.len());
    let mut ids = Vec::new();
    for (rank, token) in (0_u32..).zip(tokens).filter(|(_, token)| token.len() > 1) {
        ids.clear();
        ids.extend(token.iter().map(|&byte| byte_ids[usize::from(byte)]));
        table.apply(&mut ids, rank, &mut scratch);
        let [left, right] = ids[..] else {
            bail!("token {rank} is not two tokens of lower rank, so merges cannot express it");
        };
        merges.push((left, right));
    }
    Ok(merges)
}

fn byte_ids(id_of: impl Fn(u8) -> Option<u32>) -> Result<[u32; 256]> {
    let mut ids = [0; 256];
    for byte in 0..=255_u8 {
        ids[usize::from(byte)] = id_of(byte).with_context(|| {
            format!(
                "the vocabulary has no token for the single byte 0x{byte:02X}; \
                 a byte-level vocabulary holds all 256"
            )
        })?;
    }
    Ok(ids)
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
pub(crate) struct Encoder<'a> {
    bpe: &'a Bpe,
    cache: Box<[Slot]>,
    ids: Vec<u32>,
    scratch: Scratch,
}

impl Encoder<'_> {
    /// Appends the tokens of `text` to `out`.
    pub fn encode(&mut self, text: &str, out: &mut Vec<u32>) {
        let mut start = 0;
        while start < text.len() {
            let end = self.bpe.classes.piece_end(text, start);
            self.encode_piece(&text.as_bytes()[start..end], out);
            start = end;
        }
    }

    #[inline]
    fn encode_piece(&mut self, piece: &[u8], out: &mut Vec<u32>) {
        if let [byte] = piece {
            out.push(self.bpe.byte_ids[usize::from(*byte)]);
        } else if piece.len() > KEY_BYTES {
            self.merge(piece);
            out.extend_from_slice(&self.ids);
        } else {
            let key = key(piece);
            let slot = slot_of(key, self.cache.len());
            if self.cache[slot].key != key {
                self.merge(piece);
                if self.ids.len() > SLOT_IDS {
                    out.extend_from_slice(&self.ids);
                    return;
                }
                let found = &mut self.cache[slot];
                found.key = key;
                found.len = self.ids.len() as u32;
                found.ids[..self.ids.len()].copy_from_slice(&self.ids);
            }
            let found = &self.cache[slot];
            out.extend_from_slice(&found.ids[..found.len as usize]);
        }
    }

    /// Leaves the tokens of `piece` in `self.ids`.
    fn merge(&mut self, piece: &[u8]) {
        let bpe = self.bpe;
        self.ids.clear();
        self.ids.extend(piece.iter().map(|&byte| bpe.byte_ids[usize::from(byte)]));
        bpe.table.apply(&mut self.ids, u32::MAX, &mut self.scratch);
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
