//! The tokens of a conversation, and which of them train.

use std::ops::Range;

use anyhow::{Context, Result};
use chat_template::Answered;

use super::typed::{parts, unmarked};
use crate::{Part, Tokenizer};

/// A conversation as tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatTokens {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Whether each of them trains.
    pub trains: Vec<bool>,
}

impl ChatTokens {
    /// Number of tokens that train.
    pub fn trained(&self) -> usize {
        self.trains.iter().filter(|&&trains| trains).count()
    }

    fn push(&mut self, ids: &[u32], trains: impl Iterator<Item = bool>) {
        self.ids.extend_from_slice(ids);
        self.trains.extend(trains);
    }
}

/// The tokens of a rendered conversation whose messages were marked; those that overlap an answer
/// train, as transformers' `return_assistant_tokens_mask` counts them. The token that begins a
/// text goes first if the model expects it and the template did not write it.
///
/// # Errors
/// When the vocabulary lacks a part of the text.
pub fn chat_tokens(tokenizer: &Tokenizer, answered: &Answered) -> Result<ChatTokens> {
    let Answered { text, answers } = answered;
    let specials = tokenizer.specials();
    let answers: Vec<Range<usize>> = answers
        .iter()
        .map(|answer| unmarked(text, answer.start)..unmarked(text, answer.end))
        .collect();
    let mut found = ChatTokens::default();
    let mut start = 0;
    for (place, part) in parts(text, &specials).into_iter().enumerate() {
        let length = part.text().len();
        push_part(tokenizer, part, place == 0, start, &answers, &mut found)
            .context("the conversation")?;
        start += length;
    }
    if let Some(begin) = tokenizer.begin_of_text().filter(|begin| found.ids.first() != Some(begin))
    {
        found.ids.insert(0, begin);
        found.trains.insert(0, false);
    }
    Ok(found)
}

/// Appends the tokens of a part that begins at byte `start`.
fn push_part(
    tokenizer: &Tokenizer,
    part: Part<'_>,
    begins: bool,
    start: usize,
    answers: &[Range<usize>],
    found: &mut ChatTokens,
) -> Result<()> {
    let is_in_answer = |place: Range<usize>| {
        let (from, to) = (start + place.start, start + place.end);
        answers.iter().any(|answer| from < answer.end && to > answer.start)
    };
    let text = match part {
        Part::Markup(text) => text,
        // A special token that somebody typed: the template keeps it whole.
        Part::Text(text) => {
            let ids = tokenizer.encode_part(part, begins)?;
            found.push(&ids, std::iter::repeat_n(is_in_answer(0..text.len()), ids.len()));
            return Ok(());
        }
    };
    let (ids, places) = tokenizer.encode_markup(text, begins)?;
    if let Some(places) = places {
        found.push(&ids, places.into_iter().map(is_in_answer));
        return Ok(());
    }
    // The places of the tokens are not known, so the text is cut where answers begin and end, which
    // no token can then overlap.
    let mut cuts: Vec<usize> = answers
        .iter()
        .flat_map(|answer| [answer.start, answer.end])
        .filter_map(|cut| cut.checked_sub(start).filter(|&cut| cut > 0 && cut < text.len()))
        .collect();
    cuts.push(text.len());
    let mut from = 0;
    for to in cuts {
        let ids = tokenizer.encode_part(Part::Markup(&text[from..to]), begins && from == 0)?;
        found.push(&ids, std::iter::repeat_n(is_in_answer(from..to), ids.len()));
        from = to;
    }
    Ok(())
}
