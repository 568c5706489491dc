//! Pairs of answers to a token file, and back as rows of a batch.

use std::path::Path;

use anyhow::{Result, ensure};
use config::{ChatFormat, TooLong};

use super::counts::ChatCounts;
use super::encode::{Fitted, bad, for_each_record, refuse_as_output, without_oldest_turn};
use super::formats::recognised;
use super::preference::{PreferencePair, PreferenceTokens, preference_pair, preference_tokens};
use super::template::TrainingTemplate;
use super::tokens::ChatTokens;
use crate::corpus::Corpus;
use crate::inputs::Counter;
use crate::records::{BadRecord, Record, Records};
use crate::token_file::TokenWriter;
use crate::windows::Window;
use crate::{TokenFile, Tokenizer};

/// How pairs become tokens.
pub struct PairSettings<'a> {
    /// Writes both sides.
    pub template: &'a TrainingTemplate,
    /// What happens to a pair of which a side has more than `context + 1` tokens. A cut leaves both
    /// sides with the same prompt, and never takes a part of an answer.
    pub too_long: TooLong,
    /// Positions of a row.
    pub context: usize,
}

/// Whether the first record of a corpus that can be read is a pair of answers.
pub fn holds_pairs(corpus: &Corpus) -> bool {
    let first = corpus.sources().iter().find_map(|source| {
        let mut records = Records::new(&source.inputs, None, Counter::default());
        records.find_map(Result::ok)
    });
    first.is_some_and(|record| {
        recognised(&record.fields).is_ok_and(|it| it == ChatFormat::Preference)
    })
}

/// Encodes the pairs of a corpus on all threads of the rayon pool into a token file in which each
/// pair is two documents: with the preferred answer, then with the other one. Memory does not grow
/// with the files.
///
/// # Errors
/// A record that is not a pair or that the template refuses, unless the corpus leaves such ones out;
/// no pair that trains; an output that exists (unless `force`) or cannot be written.
pub fn encode_pairs(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    settings: &PairSettings<'_>,
    output: &Path,
    force: bool,
) -> Result<ChatCounts> {
    refuse_as_output(corpus, output)?;
    let mut counts = ChatCounts::new(corpus.on_error());
    let progress = cli::Progress::new("encode", corpus.size()?, cli::Meter::Bytes);
    checkpoint::atomic::write_file::<_, anyhow::Error>(output, force, |out| {
        let mut writer = TokenWriter::new(out, tokenizer)?;
        let read = Counter::default();
        let encode = |batch: &[_]| encode_batch(batch, tokenizer, settings);
        for_each_record(corpus, &read, encode, |_, fitted| {
            progress.set(read.get());
            let Some(PreferenceTokens { chosen, rejected }) = counts.add(fitted)? else {
                return Ok(());
            };
            for side in [chosen, rejected] {
                writer.push_masked(&side.ids, &side.trains)?;
                writer.end_document()?;
            }
            Ok(())
        })?;
        ensure!(
            counts.conversations > 0,
            "{corpus} holds no pair of answers that trains: {} left out as too long for data.context \
             = {}, {} as not readable",
            counts.dropped,
            settings.context,
            counts.skipped.count()
        );
        writer.finish(read.get())
    })?;
    progress.finish();
    Ok(counts)
}

/// A pair that has to be rendered.
struct Open<'r> {
    /// Its place in the batch.
    at: usize,
    record: &'r Record,
    pair: PreferencePair,
    is_cut: bool,
}

/// The tokens of each record; those of one process together.
fn encode_batch(
    batch: &[Result<Record, BadRecord>],
    tokenizer: &Tokenizer,
    settings: &PairSettings<'_>,
) -> Vec<Result<Fitted<PreferenceTokens>, BadRecord>> {
    let mut found: Vec<Option<Result<Fitted<PreferenceTokens>, BadRecord>>> =
        batch.iter().map(|_| None).collect();
    let mut open: Vec<Open<'_>> = Vec::new();
    for (at, record) in batch.iter().enumerate() {
        match record {
            Err(bad) => found[at] = Some(Err(bad.clone())),
            Ok(record) => match preference_pair(&record.fields) {
                Ok(pair) => open.push(Open { at, record, pair, is_cut: false }),
                Err(error) => found[at] = Some(Err(bad(record, &error))),
            },
        }
    }
    // Each round renders what is left; what does not fit loses its oldest turn.
    while !open.is_empty() {
        let pairs: Vec<PreferencePair> = open.iter().map(|open| open.pair.clone()).collect();
        let rendered = preference_tokens(&pairs, settings.template, tokenizer);
        let mut too_long = Vec::new();
        for (mut open, tokens) in open.into_iter().zip(rendered) {
            let at = open.at;
            found[at] = match tokens {
                Err(error) => Some(Err(bad(open.record, &error))),
                Ok(tokens) if excess(&tokens, settings.context) == 0 => {
                    Some(Ok(Fitted::Kept(tokens, open.is_cut)))
                }
                Ok(_) if settings.too_long == TooLong::Drop => Some(Ok(Fitted::Dropped)),
                Ok(tokens) => match without_oldest_turn_of_prompt(&open.pair) {
                    Some(shorter) => {
                        open.pair = shorter;
                        open.is_cut = true;
                        too_long.push(open);
                        None
                    }
                    None => Some(Ok(without_first_tokens(tokens, settings.context))),
                },
            };
        }
        open = too_long;
    }
    let missing = |record: &Result<Record, BadRecord>| match record {
        Ok(record) => BadRecord::new(record.place.clone(), "it was not rendered"),
        Err(bad) => bad.clone(),
    };
    found
        .into_iter()
        .zip(batch)
        .map(|(found, record)| found.unwrap_or_else(|| Err(missing(record))))
        .collect()
}

/// The tokens that the longer side has more than a row of `context` positions takes.
fn excess(tokens: &PreferenceTokens, context: usize) -> usize {
    let longest = tokens.chosen.ids.len().max(tokens.rejected.ids.len());
    longest.saturating_sub(context + 1)
}

/// The pair without the oldest turn of its prompt; `None` if the prompt has one question only.
fn without_oldest_turn_of_prompt(pair: &PreferencePair) -> Option<PreferencePair> {
    let shorter = PreferencePair {
        chosen: without_oldest_turn(&pair.chosen)?,
        rejected: without_oldest_turn(&pair.rejected)?,
    };
    let is_whole = [(&pair.chosen, &shorter.chosen), (&pair.rejected, &shorter.rejected)]
        .iter()
        .all(|(before, after)| {
            after.first > 0 && before.messages[before.first..] == after.messages[after.first..]
        });
    is_whole.then_some(shorter)
}

/// The pair without as many first tokens of both sides as it has too many; dropped if an answer would
/// lose a token, or the token before it.
fn without_first_tokens(mut tokens: PreferenceTokens, context: usize) -> Fitted<PreferenceTokens> {
    let cut = excess(&tokens, context);
    for side in [&mut tokens.chosen, &mut tokens.rejected] {
        let answer = side.trains.iter().position(|&trains| trains).unwrap_or_default();
        if answer <= cut {
            return Fitted::Dropped;
        }
        let ChatTokens { ids, trains } = side;
        ids.drain(..cut);
        trains.drain(..cut);
    }
    Fitted::Kept(tokens, true)
}

/// Some of the pairs of a token file that [`encode_pairs`] wrote.
#[derive(Debug)]
pub struct PairWindows {
    pairs: Vec<usize>,
}

impl PairWindows {
    /// The number of pairs in a file.
    pub fn count(tokens: &TokenFile) -> usize {
        tokens.documents().len() / 2
    }

    /// Those with the given numbers.
    pub fn new(pairs: Vec<usize>) -> Self {
        PairWindows { pairs }
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The number in the file of pair `index`.
    ///
    /// # Panics
    /// As for a slice, when `index` is not below [`PairWindows::len`].
    pub fn number(&self, index: usize) -> usize {
        self.pairs[index]
    }

    /// Pair `index` as two windows: with the preferred answer, then with the other one. Each is as long
    /// as its conversation.
    ///
    /// # Panics
    /// As [`PairWindows::number`].
    pub fn get(&self, tokens: &TokenFile, index: usize) -> [Window; 2] {
        self.sides(index).map(|document| {
            let range = tokens.document(document);
            let (mut ids, trains) = (tokens.get(range.clone()), tokens.trains(range));
            let (mut trained, mut targets) = (Vec::new(), Vec::new());
            for (at, (&id, &trains)) in ids.iter().zip(&trains).enumerate().skip(1) {
                if trains {
                    trained.push(at as u32 - 1);
                    targets.push(id);
                }
            }
            ids.pop();
            Window { inputs: ids, trained: Some(trained), targets, documents: None }
        })
    }

    /// Tokens of pair `index` that train, of both sides.
    pub fn trained(&self, tokens: &TokenFile, index: usize) -> usize {
        let count = |document| {
            let trains = tokens.trains(tokens.document(document));
            trains.into_iter().skip(1).filter(|&trains| trains).count()
        };
        self.sides(index).into_iter().map(count).sum()
    }

    /// Positions of pair `index`, of both sides.
    pub fn positions(&self, tokens: &TokenFile, index: usize) -> usize {
        let positions = |document| tokens.document(document).len().saturating_sub(1);
        self.sides(index).into_iter().map(positions).sum()
    }

    fn sides(&self, index: usize) -> [usize; 2] {
        let first = 2 * self.number(index);
        [first, first + 1]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn side(length: usize, answer: usize) -> ChatTokens {
        let trains = (0..length).map(|at| at >= answer).collect();
        ChatTokens { ids: (0..length as u32).collect(), trains }
    }

    #[test]
    fn a_cut_leaves_the_same_prompt_and_whole_answers() {
        let tokens = PreferenceTokens { chosen: side(10, 6), rejected: side(8, 6) };
        let Fitted::Kept(cut, true) = without_first_tokens(tokens.clone(), 6) else { panic!() };
        assert_eq!((cut.chosen.ids[0], cut.rejected.ids[0]), (3, 3));
        assert_eq!((cut.chosen.trained(), cut.rejected.trained()), (4, 2));
        // Six tokens would go, and the first of an answer is never predicted.
        assert!(matches!(without_first_tokens(tokens, 3), Fitted::Dropped));
    }

    #[test]
    fn the_oldest_turn_of_the_prompt_goes_from_both_sides() {
        let user = |text: &str| json!({ "role": "user", "content": text });
        let assistant = |text: &str| json!({ "role": "assistant", "content": text });
        let record = json!({ "prompt": [user("a"), assistant("b"), user("c")],
            "chosen": [assistant("d"), user("e"), assistant("f")], "rejected": [assistant("g")] });
        let pair = preference_pair(record.as_object().unwrap()).unwrap();
        let shorter = without_oldest_turn_of_prompt(&pair).unwrap();
        assert_eq!(shorter.chosen.messages.len(), 4);
        assert_eq!(shorter.rejected.messages, [user("c"), assistant("g")]);
        assert_eq!((shorter.chosen.first, shorter.rejected.first), (1, 1));
        assert_eq!(without_oldest_turn_of_prompt(&shorter), None, "an answer would be cut");
    }
}
