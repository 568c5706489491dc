//! `data inspect` of conversations: what a model reads of them, and what of it trains.

use std::fmt;
use std::io::IsTerminal;

use anyhow::Result;
use serde::Serialize;

use super::counts::ChatCounts;
use super::encode::{ChatSettings, for_each_conversation};
use super::tokens::ChatTokens;
use crate::Tokenizer;
use crate::corpus::Corpus;
use crate::inputs::Counter;
use crate::records::Record;

/// The result of [`inspect_chat`].
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChatInspection {
    /// The files, as they were named.
    pub input: String,
    /// What became of them.
    #[serde(flatten)]
    pub counts: ChatCounts,
    /// Length of the shortest, the middle and the longest conversation in tokens.
    pub lengths: [usize; 3],
    /// The first conversations.
    pub shown: Vec<Shown>,
    /// Whether to show in colour what trains.
    #[serde(skip)]
    is_terminal: bool,
}

/// One conversation as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Where it stands.
    pub place: String,
    /// Its tokens.
    pub tokens: usize,
    /// Those that train.
    pub trained_tokens: usize,
    /// Its text, in stretches of one kind.
    pub parts: Vec<ShownPart>,
}

/// A stretch of text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownPart {
    /// What it says; bytes that are not UTF-8 are U+FFFD.
    pub text: String,
    /// Whether it trains.
    pub trains: bool,
}

/// Around what trains, at a terminal (bold green) and elsewhere (as in `git diff --word-diff`).
const COLOUR: [&str; 2] = ["\u{1b}[1;32m", "\u{1b}[0m"];
const SIGNS: [&str; 2] = ["{+", "+}"];

impl fmt::Display for ChatInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [open, close] = if self.is_terminal { COLOUR } else { SIGNS };
        for shown in &self.shown {
            writeln!(
                f,
                "--- {}: {} tokens, {} train",
                shown.place, shown.tokens, shown.trained_tokens
            )?;
            for part in &shown.parts {
                match part.trains {
                    true => write!(f, "{open}{}{close}", part.text)?,
                    false => write!(f, "{}", part.text)?,
                }
            }
            writeln!(f)?;
        }
        let [shortest, middle, longest] = self.lengths;
        let conversations = cli::count(self.counts.conversations);
        writeln!(f, "conversations  {conversations} of {}", self.input)?;
        writeln!(f, "lengths        {shortest} to {longest} tokens, {middle} in the middle")?;
        // A report ends without a line break.
        f.write_str(self.counts.to_string().trim_end())
    }
}

/// Encodes the conversations of a corpus as a run would, and shows the first `show` of them.
///
/// # Errors
/// As for [`super::encode_chat`], on the reading side.
pub fn inspect_chat(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    settings: &ChatSettings<'_>,
    show: usize,
) -> Result<ChatInspection> {
    let mut found = ChatInspection {
        input: corpus.to_string(),
        counts: ChatCounts::new(corpus.on_error()),
        is_terminal: std::io::stdout().is_terminal(),
        ..ChatInspection::default()
    };
    let mut lengths = Vec::new();
    let read = Counter::default();
    for_each_conversation(corpus, tokenizer, settings, &read, |record, fitted| {
        if let Some(tokens) = found.counts.add(fitted)? {
            lengths.push(tokens.ids.len());
            if let (Ok(record), true) = (record, found.shown.len() < show) {
                found.shown.push(shown(record, tokenizer, &tokens));
            }
        }
        Ok(())
    })?;
    lengths.sort_unstable();
    if let (Some(&first), Some(&last)) = (lengths.first(), lengths.last()) {
        found.lengths = [first, lengths[lengths.len() / 2], last];
    }
    Ok(found)
}

fn shown(record: &Record, tokenizer: &Tokenizer, tokens: &ChatTokens) -> Shown {
    let mut parts: Vec<(Vec<u8>, bool)> = Vec::new();
    for (&id, &trains) in tokens.ids.iter().zip(&tokens.trains) {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        match parts.last_mut().filter(|(_, kind)| *kind == trains) {
            Some((text, _)) => text.extend_from_slice(bytes),
            None => parts.push((bytes.to_vec(), trains)),
        }
    }
    let part = |(text, trains): (Vec<u8>, bool)| ShownPart {
        text: String::from_utf8_lossy(&text).into_owned(),
        trains,
    };
    Shown {
        place: record.place.to_string(),
        tokens: tokens.ids.len(),
        trained_tokens: tokens.trained(),
        parts: parts.into_iter().map(part).collect(),
    }
}
