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
    let text = part.text();
    let ids = tokenizer.encode_part(part, begins)?;
    if let Some(ends) = token_ends(tokenizer, &ids, text.len()) {
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let trains = starts.zip(&ends).map(|(from, &to)| {
            answers.iter().any(|answer| start + from < answer.end && start + to > answer.start)
        });
        found.push(&ids, trains);
        return Ok(());
    }
    // Some tokens do not have the bytes of the text (an unknown token, text that is normalized
    // first), so the text is cut where answers begin and end, which no token can then overlap.
    let mut cuts: Vec<usize> = answers
        .iter()
        .flat_map(|answer| [answer.start, answer.end])
        .filter_map(|cut| cut.checked_sub(start).filter(|&cut| cut > 0 && cut < text.len()))
        .collect();
    cuts.push(text.len());
    let mut from = 0;
    for to in cuts {
        let ids = tokenizer.encode_part(part.slice(from..to), begins && from == 0)?;
        let trains =
            answers.iter().any(|answer| start + from < answer.end && start + to > answer.start);
        found.push(&ids, std::iter::repeat_n(trains, ids.len()));
        from = to;
    }
    Ok(())
}

/// Where each token of a text of `length` bytes ends; `None` if the tokens' bytes are not the
/// text's, but for a space that SentencePiece puts before it.
fn token_ends(tokenizer: &Tokenizer, ids: &[u32], length: usize) -> Option<Vec<usize>> {
    let mut end = 0;
    let ends: Option<Vec<usize>> = ids
        .iter()
        .map(|&id| {
            end += tokenizer.token_bytes(id)?.len();
            Some(end)
        })
        .collect();
    let ends = ends?;
    match end.checked_sub(length)? {
        0 => Some(ends),
        1 if tokenizer.token_bytes(*ids.first()?)?.first() == Some(&b' ') => {
            Some(ends.into_iter().map(|end| end - 1).collect())
        }
        _ => None,
    }
}
