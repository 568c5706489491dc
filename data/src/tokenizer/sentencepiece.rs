//! SentencePiece's BPE (LLaMA, Mistral, TinyLlama): characters merge, `▁` represents a space, and a
//! character without a token is spelled in byte tokens.
//!
//! From a `tokenizer.json` the merges have the order of the file, from a GGUF that of the scores:
//! all pairs that spell one token have one rank (`llm_tokenizer_spm` in llama.cpp). Both are tables
//! of pairs, so the merging itself is that of byte-level BPE.

use std::collections::HashMap;

use anyhow::{Context, Result};
use checkpoint::{
    SPACE_MARK, SpacePrefix, TokenType, Vocabulary, VocabularyKind, byte_token, splits,
};

use super::encoder::Pieces;
use super::merge::{Merge, MergeTable};

/// A vocabulary of pieces.
#[derive(Debug)]
pub(crate) struct SentencePiece {
    /// The text of each token, with spaces instead of marks.
    tokens: Vec<Box<[u8]>>,
    /// The same as the vocabulary writes them.
    names: Vec<String>,
    /// Tokens of one character.
    characters: HashMap<char, u32, rustc_hash::FxBuildHasher>,
    byte_ids: [Option<u32>; 256],
    table: MergeTable,
    merges: Vec<(u32, u32)>,
    prefix: SpacePrefix,
    /// Whether all tokens have their marks at the beginning, so that words can be encoded one by
    /// one.
    has_words: bool,
}

impl SentencePiece {
    /// From a vocabulary of this kind.
    pub fn new(vocabulary: &Vocabulary) -> Result<Self> {
        let VocabularyKind::SentencePiece { scores, merges, prefix } = &vocabulary.kind else {
            anyhow::bail!("the vocabulary is not SentencePiece's");
        };
        let Vocabulary { tokens: names, types, .. } = vocabulary;
        let mut byte_ids = [None; 256];
        let mut characters = HashMap::default();
        for ((id, text), kind) in (0_u32..).zip(names).zip(types) {
            let mut letters = text.chars();
            match (kind, byte_token(text), letters.next(), letters.next()) {
                (TokenType::Byte, Some(byte), ..) => byte_ids[usize::from(byte)] = Some(id),
                (TokenType::Normal, _, Some(letter), None) => {
                    characters.insert(letter, id);
                }
                _ => {}
            }
        }
        if let Some(&id) = characters.get(&SPACE_MARK) {
            characters.insert(' ', id);
        }
        let merges = match merges.is_empty() {
            true => by_score(names, types, scores),
            false => with_ranks(names, merges)?,
        };
        let mut table = MergeTable::default();
        for &(left, right, merge) in &merges {
            table.insert(left, right, merge);
        }
        let in_front = |text: &String| {
            let word = text.trim_start_matches(SPACE_MARK);
            !word.contains([SPACE_MARK, ' '])
        };
        let normal = names.iter().zip(types).filter(|(_, kind)| **kind == TokenType::Normal);
        Ok(SentencePiece {
            has_words: normal.into_iter().all(|(text, _)| in_front(text)),
            tokens: names.iter().zip(types).map(|(text, kind)| spelled(text, *kind)).collect(),
            names: names.clone(),
            characters,
            byte_ids,
            table,
            merges: merges.into_iter().map(|(left, right, _)| (left, right)).collect(),
            prefix: *prefix,
        })
    }

    /// The bytes of every token, in order of ids.
    pub fn tokens(&self) -> &[Box<[u8]>] {
        &self.tokens
    }

    /// Every token in order of ids, as the vocabulary writes it.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The merges in order, as pairs of token ids.
    pub fn merges(&self) -> &[(u32, u32)] {
        &self.merges
    }

    /// When to add a space before a text.
    pub fn prefix(&self) -> SpacePrefix {
        self.prefix
    }

    /// Whether to add a space before `text`, which is at the beginning or after a special token.
    pub fn adds_space(&self, text: &str, at_beginning: bool) -> bool {
        let is_there = text.starts_with([' ', SPACE_MARK]);
        match self.prefix {
            _ if text.is_empty() => false,
            SpacePrefix::Never => false,
            SpacePrefix::Always => true,
            SpacePrefix::Missing => !is_there,
            SpacePrefix::MissingFirst => at_beginning && !is_there,
        }
    }

    /// The last position in `text` where it may be split, if there is one.
    pub fn last_cut(&self, text: &str) -> Option<usize> {
        if !self.has_words {
            return None;
        }
        let mut right = None;
        for (at, letter) in text.char_indices().rev() {
            if right == Some(true) && !is_space(letter) {
                return Some(at + letter.len_utf8());
            }
            right = Some(is_space(letter));
        }
        None
    }

    /// The first position from byte `from` on where `text` may be split; its end if there is none.
    pub fn next_cut(&self, text: &str, from: usize) -> usize {
        if !self.has_words {
            return text.len();
        }
        let from = text.floor_char_boundary(from);
        let mut left = text[..from].chars().next_back().map(is_space);
        for (at, letter) in text[from..].char_indices() {
            if left == Some(false) && is_space(letter) {
                return from + at;
            }
            left = Some(is_space(letter));
        }
        text.len()
    }
}

fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | SPACE_MARK)
}

impl Pieces for SentencePiece {
    /// A word and the spaces before it.
    fn piece_end(&self, text: &str, start: usize) -> usize {
        if !self.has_words {
            return text.len();
        }
        let rest = &text[start..];
        let word = rest.find(|letter| !is_space(letter)).unwrap_or(rest.len());
        rest[word..].find(is_space).map_or(text.len(), |end| start + word + end)
    }

    fn spell(&self, piece: &[u8], ids: &mut Vec<u32>) -> Result<(), usize> {
        // Pieces are split between characters.
        let mut at = 0;
        for letter in String::from_utf8_lossy(piece).chars() {
            match self.characters.get(&letter) {
                Some(&id) => ids.push(id),
                None => {
                    let spelled = if letter == ' ' { SPACE_MARK } else { letter };
                    for byte in spelled.encode_utf8(&mut [0; 4]).bytes() {
                        ids.push(self.byte_ids[usize::from(byte)].ok_or(at)?);
                    }
                }
            }
            at += letter.len_utf8();
        }
        Ok(())
    }

    fn table(&self) -> &MergeTable {
        &self.table
    }
}

/// The text of a token.
fn spelled(text: &str, kind: TokenType) -> Box<[u8]> {
    match byte_token(text).filter(|_| kind == TokenType::Byte) {
        Some(byte) => Box::new([byte]),
        None => text.replace(SPACE_MARK, " ").into_bytes().into_boxed_slice(),
    }
}

/// Every pair of tokens that spells a token, ranked by that token's score.
fn by_score(names: &[String], types: &[TokenType], scores: &[f32]) -> Vec<(u32, u32, Merge)> {
    let normal = |id: u32| types[id as usize] == TokenType::Normal;
    let ids: HashMap<&str, u32> =
        names.iter().map(String::as_str).zip(0..).filter(|&(_, id)| normal(id)).collect();
    let mut order: Vec<u32> = ids.values().copied().collect();
    let score = |id: u32| scores[id as usize];
    order.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
    let mut merges = Vec::new();
    let mut rank = 0;
    for (place, &id) in order.iter().enumerate() {
        if place > 0 && score(order[place - 1]) != score(id) {
            rank += 1;
        }
        for (left, right) in splits(&names[id as usize]) {
            if let (Some(&left), Some(&right)) = (ids.get(left), ids.get(right)) {
                merges.push((left, right, Merge { rank, id }));
            }
        }
    }
    merges
}

/// The merges of a `tokenizer.json` with their results, in its order.
fn with_ranks(names: &[String], merges: &[(u32, u32)]) -> Result<Vec<(u32, u32, Merge)>> {
    let ids: HashMap<&str, u32> = names.iter().map(String::as_str).zip(0..).collect();
    let made = |(rank, &(left, right)): (u32, &(u32, u32))| {
        let text = [names[left as usize].as_str(), names[right as usize].as_str()].concat();
        let id = ids.get(text.as_str()).copied();
        let id = id.with_context(|| format!("merge {rank}: {text:?} is not in the vocabulary"))?;
        Ok((left, right, Merge { rank, id }))
    };
    (0_u32..).zip(merges).map(made).collect()
}
