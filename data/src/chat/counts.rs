//! What became of conversations.

use std::fmt;

use anyhow::Result;
use config::OnError;
use serde::Serialize;

use super::encode::Fitted;
use super::preference::PreferenceTokens;
use super::tokens::ChatTokens;
use crate::records::BadRecord;
use crate::skipped::Skipped;

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Conversations.
    #[default]
    Conversations,
    /// Pairs of answers, with the tokens of both sides.
    Pairs,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Conversations => "conversations",
            Unit::Pairs => "pairs",
        })
    }
}

/// Something that becomes tokens.
pub(super) trait Counted {
    const UNIT: Unit;

    /// Its tokens, and those of them that train.
    fn tokens(&self) -> [usize; 2];
}

impl Counted for ChatTokens {
    const UNIT: Unit = Unit::Conversations;

    fn tokens(&self) -> [usize; 2] {
        [self.ids.len(), self.trained()]
    }
}

impl Counted for PreferenceTokens {
    const UNIT: Unit = Unit::Pairs;

    fn tokens(&self) -> [usize; 2] {
        let [chosen, rejected] = [&self.chosen, &self.rejected].map(Counted::tokens);
        [chosen[0] + rejected[0], chosen[1] + rejected[1]]
    }
}

/// What became of the conversations of some files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ChatCounts {
    /// What is counted: conversations, or pairs of answers.
    pub unit: Unit,
    /// Those that train.
    pub conversations: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Those of them that train.
    pub trained_tokens: u64,
    /// Conversations among them that were cut, since they are longer than a window.
    pub cut: u64,
    /// Conversations that were left out, since they are longer than a window.
    pub dropped: u64,
    /// Records that were left out, since they are not conversations.
    pub skipped: Skipped,
}

impl ChatCounts {
    pub(super) fn new(on_error: OnError) -> Self {
        ChatCounts { skipped: Skipped::new(on_error), ..ChatCounts::default() }
    }

    /// Counts one, and gives its tokens if it trains.
    ///
    /// # Errors
    /// The record, if it cannot be read and such ones are not left out.
    pub(super) fn add<T: Counted>(
        &mut self,
        found: Result<Fitted<T>, BadRecord>,
    ) -> Result<Option<T>> {
        self.unit = T::UNIT;
        match found {
            Err(bad) => self.skipped.add(bad)?,
            Ok(Fitted::Dropped) => self.dropped += 1,
            Ok(Fitted::Kept(tokens, is_cut)) => {
                self.conversations += 1;
                let [all, trained] = tokens.tokens();
                self.tokens += all as u64;
                self.trained_tokens += trained as u64;
                self.cut += u64::from(is_cut);
                return Ok(Some(tokens));
            }
        }
        Ok(None)
    }

    /// One line: how many conversations and tokens there are, and what was left out.
    pub fn summary(&self) -> String {
        let mut text = format!(
            "{} {} of {} tokens, of which {} train",
            cli::count(self.conversations),
            self.unit,
            cli::count(self.tokens),
            cli::count(self.trained_tokens)
        );
        for (count, what) in [
            (self.cut, "cut to data.context"),
            (self.dropped, "left out as too long for data.context"),
            (self.skipped.count(), "left out as not readable"),
        ] {
            if count > 0 {
                text.push_str(&format!("; {} {what}", cli::count(count)));
            }
        }
        text
    }
}

impl fmt::Display for ChatCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trained = 100.0 * self.trained_tokens as f64 / self.tokens.max(1) as f64;
        writeln!(
            f,
            "tokens         {}, of which {} train ({trained:.1} %)",
            cli::count(self.tokens),
            cli::count(self.trained_tokens)
        )?;
        writeln!(
            f,
            "too long       {} cut, {} left out",
            cli::count(self.cut),
            cli::count(self.dropped)
        )?;
        write!(f, "{}", self.skipped)
    }
}
