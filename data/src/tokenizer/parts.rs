//! Texts that a model continues: prompts, and conversations in which only some parts may hold
//! special tokens.

use std::ops::Range;

use super::named::Fragment;
use super::{Kind, MissingToken, Tokenizer};

/// For each token, the bytes of the text that it stands for.
pub(crate) type Places = Vec<Range<usize>>;

/// A part of a text from several authors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'t> {
    /// A part in which special tokens are recognised.
    Markup(&'t str),
    /// A part in which special tokens stay text.
    Text(&'t str),
}

impl<'t> Part<'t> {
    /// Its text.
    pub fn text(self) -> &'t str {
        match self {
            Part::Markup(text) | Part::Text(text) => text,
        }
    }
}

impl Tokenizer {
    /// The tokens of a text that a model continues, as transformers' tokenizer and llama.cpp's
    /// programs encode it: after the token that begins a text if the model was trained with it, and
    /// with special tokens recognised by their spelling.
    ///
    /// # Errors
    /// As for [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, MissingToken> {
        let mut ids: Vec<u32> = self.begin_of_text().into_iter().collect();
        ids.append(&mut self.encode_with_specials(text)?);
        Ok(ids)
    }

    /// The tokens of a text in parts; no token extends over two parts.
    ///
    /// # Errors
    /// As for [`Tokenizer::encode`].
    pub fn encode_parts(&self, parts: &[Part<'_>]) -> Result<Vec<u32>, MissingToken> {
        let mut ids = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            ids.append(&mut self.encode_part(*part, place == 0)?);
        }
        Ok(ids)
    }

    /// The tokens of one part; `begins` if it is the first.
    ///
    /// # Errors
    /// As for [`Tokenizer::encode`].
    pub(crate) fn encode_part(
        &self,
        part: Part<'_>,
        begins: bool,
    ) -> Result<Vec<u32>, MissingToken> {
        match part {
            Part::Markup(text) => Ok(self.encode_markup(text, begins)?.0),
            Part::Text(text) => self.encode_as_text(text, begins),
        }
    }

    /// The tokens of a part with special tokens, and the bytes of it that each token stands for.
    /// These are `None` if the tokens' bytes do not add up to the text (an unknown token).
    ///
    /// # Errors
    /// As for [`Tokenizer::encode`].
    pub(crate) fn encode_markup(
        &self,
        text: &str,
        begins: bool,
    ) -> Result<(Vec<u32>, Option<Places>), MissingToken> {
        if let Kind::Foreign(foreign) = &self.kind {
            let (ids, places) = foreign.encode_with_places(text)?;
            return Ok((ids, Some(places)));
        }
        let mut worker = self.worker(text.len());
        let (mut ids, mut places, mut at) = (Vec::new(), Some(Vec::new()), 0);
        for fragment in self.controls.split(text) {
            let first = ids.len();
            let length = match fragment {
                Fragment::Token(id) => {
                    ids.push(id);
                    self.token_bytes(id).map_or(0, <[u8]>::len)
                }
                Fragment::Text(0, plain) if !begins => {
                    worker.encode(plain, false, &mut ids)?;
                    plain.len()
                }
                Fragment::Text(start, plain) => {
                    let encoded = worker.encode_fragment(plain, start == 0, &mut ids);
                    encoded.map_err(|missing| missing.behind(start as u64))?;
                    plain.len()
                }
            };
            let found = self.places(&ids[first..], at, length);
            places = places.zip(found).map(|(mut places, found): (Vec<_>, Vec<_>)| {
                places.extend(found);
                places
            });
            at += length;
        }
        Ok((ids, places))
    }

    /// The places of the tokens of `length` bytes of a text from byte `start` on, by the tokens'
    /// own bytes.
    fn places(&self, ids: &[u32], start: usize, length: usize) -> Option<Places> {
        let bytes = |id: u32| self.token_bytes(id);
        let sum = ids.iter().map(|&id| bytes(id).map(<[u8]>::len)).sum::<Option<usize>>()?;
        // SentencePiece may put a space before a text.
        let before = sum.checked_sub(length)?;
        let has_space = before == 1 && bytes(*ids.first()?)?.first() == Some(&b' ');
        if before > 0 && !has_space {
            return None;
        }
        let mut end = 0_usize;
        let place = |&id: &u32| {
            let from = end.saturating_sub(before);
            end += bytes(id).unwrap_or_default().len();
            start + from..start + end.saturating_sub(before)
        };
        Some(ids.iter().map(place).collect())
    }

    /// The tokens of a text as plain text, even if the whole text spells a token that is recognised
    /// in every text.
    fn encode_as_text(&self, text: &str, begins: bool) -> Result<Vec<u32>, MissingToken> {
        let mut ids = Vec::new();
        self.worker(text.len()).encode(text, begins, &mut ids)?;
        let is_whole = |id: u32| self.token_bytes(id) == Some(text.as_bytes());
        if let [id] = ids[..]
            && is_whole(id)
            && let Some(first) = text.chars().next()
        {
            ids.clear();
            let (first, rest) = text.split_at(first.len_utf8());
            self.worker(first.len()).encode(first, begins, &mut ids)?;
            self.worker(rest.len()).encode(rest, false, &mut ids)?;
        }
        Ok(ids)
    }

    /// Whether a token has a meaning but no text.
    pub fn is_special(&self, id: u32) -> bool {
        self.controls.iter().any(|(_, special)| special == id)
    }

    /// The spellings of tokens that a message must not be able to produce: special tokens and those
    /// that end a text; the longest first.
    pub fn specials(&self) -> Vec<&str> {
        let spelling = |id: &u32| std::str::from_utf8(self.token_bytes(*id)?).ok();
        let ends = self.ends.iter().filter_map(spelling);
        let mut all: Vec<&str> = self.controls.iter().map(|(text, _)| text).chain(ends).collect();
        all.retain(|text| !text.is_empty());
        all.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        all.dedup();
        all
    }

    /// All tokens that end a text or an answer, in order: those that the model's files name, and
    /// those that llama.cpp recognises by their names.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }
}
