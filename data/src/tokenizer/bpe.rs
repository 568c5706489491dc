//! Byte-level byte-pair encoding: GPT-2's own vocabulary and others of the same kind.
//!
//! ```text
//! text --scanner--> pieces --bytes + merges--> token ids
//! ```

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use checkpoint::PreTokenizer;

use super::alphabet::Alphabet;
use super::classes::Classes;
use super::encoder::Pieces;
use super::merge::{Merge, MergeTable, Scratch};
use super::split::Digits;

/// The only special token of GPT-2.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Most tokens of a vocabulary, so that an invalid file cannot use up all memory.
pub(super) const MAX_TOKENS: usize = 1 << 24;

/// A vocabulary, its merges and the scanner that splits text into pieces.
#[derive(Debug)]
pub(crate) struct Bpe {
    classes: Classes,
    digits: Digits,
    tokens: Vec<Box<[u8]>>,
    byte_ids: [Option<u32>; 256],
    table: MergeTable,
    merges: Vec<(u32, u32)>,
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

    /// A vocabulary whose ids are its ranks: two neighbours may merge if their concatenation is a
    /// token, lower ids first. This is tiktoken's rule. The list of merges for other programs
    /// follows from it: for each token, the last two parts before it was complete.
    fn from_ranks(tokens: Vec<Box<[u8]>>, end_of_text: u32) -> Result<Self> {
        let ids: HashMap<&[u8], u32, rustc_hash::FxBuildHasher> =
            tokens[..end_of_text as usize].iter().map(AsRef::as_ref).zip(0..).collect();
        let byte_ids = byte_ids(|byte| ids.get(&[byte][..]).copied());
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
        let digits = Digits::Runs;
        Ok(Bpe { classes: Classes::new()?, digits, tokens, byte_ids, table, merges })
    }

    /// A vocabulary in the byte alphabet, in order of ids, with merges as lines of two tokens.
    /// Tokens for which `is_plain` is true are written as they are.
    pub fn from_merges(
        digits: Digits,
        names: &[String],
        merges: &[String],
        is_plain: impl Fn(usize) -> bool,
    ) -> Result<Self> {
        ensure!(names.len() <= MAX_TOKENS, "{} tokens; expected at most {MAX_TOKENS}", names.len());
        let alphabet = Alphabet::new();
        let mut ids = HashMap::with_capacity(names.len());
        for (id, name) in (0_u32..).zip(names) {
            if let Some(earlier) = ids.insert(name.as_str(), id) {
                bail!("the tokens {earlier} and {id} of the vocabulary are both {name:?}");
            }
        }
        let byte_ids = byte_ids(|byte| ids.get(alphabet.write(&[byte]).as_str()).copied());
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
            digits,
            byte_ids,
            table,
            merges: pairs,
            tokens: bytes_of(names, is_plain),
        })
    }

    /// What becomes of digits in the scanner of this pre-tokenizer; `None` if it is another scanner's.
    pub fn digits_of(pre: &PreTokenizer) -> Option<Digits> {
        [Digits::Runs, Digits::Single].into_iter().find(|digits| pre_tokenizer(*digits) == pre)
    }

    /// How a text is split into pieces.
    pub fn pre_tokenizer(&self) -> &'static PreTokenizer {
        pre_tokenizer(self.digits)
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

    /// The scanner that splits text into pieces.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }
}

fn pre_tokenizer(digits: Digits) -> &'static PreTokenizer {
    match digits {
        Digits::Runs => PreTokenizer::GPT2,
        Digits::Single => PreTokenizer::SMOLLM,
    }
}

/// The bytes that each name in the byte alphabet represents; those for which `is_plain` is true
/// represent themselves.
pub(crate) fn bytes_of(names: &[String], is_plain: impl Fn(usize) -> bool) -> Vec<Box<[u8]>> {
    let alphabet = Alphabet::new();
    let bytes = |(id, name): (usize, &String)| match is_plain(id) {
        true => name.clone().into_bytes().into_boxed_slice(),
        false => alphabet.read(name).into_boxed_slice(),
    };
    names.iter().enumerate().map(bytes).collect()
}

impl Pieces for Bpe {
    #[inline]
    fn piece_end(&self, text: &str, start: usize) -> usize {
        self.classes.piece_end(text, start, self.digits)
    }

    #[inline]
    fn spell(&self, piece: &[u8], ids: &mut Vec<u32>) -> Result<(), usize> {
        for (at, &byte) in piece.iter().enumerate() {
            ids.push(self.byte_ids[usize::from(byte)].ok_or(at)?);
        }
        Ok(())
    }

    fn table(&self) -> &MergeTable {
        &self.table
    }
}

/// For each token, its two parts after all lower ranks have merged.
fn derive_merges(
    tokens: &[Box<[u8]>],
    byte_ids: &[Option<u32>; 256],
    table: &MergeTable,
) -> Result<Vec<(u32, u32)>> {
    let mut scratch = Scratch::default();
    let mut merges = Vec::with_capacity(tokens.len());
    let mut ids = Vec::new();
    for (rank, token) in (0_u32..).zip(tokens).filter(|(_, token)| token.len() > 1) {
        ids.clear();
        ids.extend(token.iter().filter_map(|&byte| byte_ids[usize::from(byte)]));
        table.apply(&mut ids, rank, &mut scratch);
        let [left, right] = ids[..] else {
            bail!("token {rank} is not two tokens of lower rank, so merges cannot express it");
        };
        merges.push((left, right));
    }
    Ok(merges)
}

/// The token of each byte. A vocabulary that was trained without the whole alphabet lacks some.
fn byte_ids(id_of: impl Fn(u8) -> Option<u32>) -> [Option<u32>; 256] {
    std::array::from_fn(|byte| id_of(byte as u8))
}
