//! Texts that a model continues: prompts, and conversations in which only some parts may hold
//! special tokens.

use std::ops::Range;

use super::named::Fragment;
use super::{Kind, MissingToken, Tokenizer};

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

    /// The bytes `range` of it.
    pub(crate) fn slice(self, range: Range<usize>) -> Self {
        match self {
            Part::Markup(text) => Part::Markup(&text[range]),
            Part::Text(text) => Part::Text(&text[range]),
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
        let mut ids = Vec::new();
        match part {
            Part::Markup(text) if begins => ids = self.encode_with_specials(text)?,
            Part::Markup(text) => self.encode_behind(text, &mut ids)?,
            Part::Text(text) => self.encode_as_text(text, begins, &mut ids)?,
        }
        Ok(ids)
    }

    /// Appends the tokens of a text as plain text, even if the whole text spells a token that is
    /// recognised in every text.
    fn encode_as_text(
        &self,
        text: &str,
        begins: bool,
        ids: &mut Vec<u32>,
    ) -> Result<(), MissingToken> {
        let start = ids.len();
        self.worker(text.len()).encode(text, begins, ids)?;
        let is_whole = |id: u32| self.token_bytes(id) == Some(text.as_bytes());
        if let [id] = ids[start..]
            && is_whole(id)
            && let Some(first) = text.chars().next()
        {
            ids.truncate(start);
            let (first, rest) = text.split_at(first.len_utf8());
            self.worker(first.len()).encode(first, begins, ids)?;
            self.worker(rest.len()).encode(rest, false, ids)?;
        }
        Ok(())
    }

    /// Appends the tokens of a continued text, with special tokens.
    fn encode_behind(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), MissingToken> {
        if let Kind::Foreign(foreign) = &self.kind {
            return foreign.encode_with_specials(text, ids);
        }
        let mut worker = self.worker(text.len());
        for fragment in self.controls.split(text) {
            match fragment {
                Fragment::Token(id) => ids.push(id),
                Fragment::Text(0, plain) => worker.encode(plain, false, ids)?,
                Fragment::Text(_, plain) => worker.encode_fragment(plain, false, ids)?,
            }
        }
        Ok(())
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
