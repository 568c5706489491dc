//! Conversations to a token file.

use std::path::Path;

use anyhow::{Result, ensure};
use checkpoint::atomic;
use config::{ChatFormat, TooLong, TrainOn};
use rayon::prelude::*;
use serde_json::Value;

use super::counts::ChatCounts;
use super::formats::{Example, example};
use super::template::TrainingTemplate;
use super::tokens::{ChatTokens, chat_tokens};
use crate::Tokenizer;
use crate::corpus::Corpus;
use crate::inputs::Counter;
use crate::records::{BadRecord, Record, Records};
use crate::token_file::TokenWriter;

/// Conversations that are rendered in one process.
const BATCH: usize = 64;
/// Batches that are read before they are encoded on all threads.
const BATCHES: usize = 32;

/// How conversations become tokens.
pub struct ChatSettings<'a> {
    /// Writes them.
    pub template: &'a TrainingTemplate,
    /// The layout of the records; recognised if `None`.
    pub format: Option<ChatFormat>,
    /// Which tokens train.
    pub train_on: TrainOn,
    /// What happens to a conversation of more than `context + 1` tokens.
    pub too_long: TooLong,
    /// Positions of a window.
    pub context: usize,
}

/// A conversation, or a pair of them, whose length is known.
pub(super) enum Fitted<T = ChatTokens> {
    /// It has a place in a window; whether it was cut for that.
    Kept(T, bool),
    /// It is too long.
    Dropped,
}

/// Encodes the conversations of a corpus on all threads of the rayon pool into a token file that
/// says where each ends and which tokens train. Memory does not grow with the files.
///
/// # Errors
/// A record that is not a conversation or that the template refuses, unless the corpus leaves such
/// ones out; no conversation that trains; an output that exists (unless `force`) or cannot be
/// written.
pub fn encode_chat(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    settings: &ChatSettings<'_>,
    output: &Path,
    force: bool,
) -> Result<ChatCounts> {
    refuse_as_output(corpus, output)?;
    let mut counts = ChatCounts::new(corpus.on_error());
    let progress = cli::Progress::new("encode", corpus.size()?, cli::Meter::Bytes);
    atomic::write_file::<_, anyhow::Error>(output, force, |out| {
        let mut writer = TokenWriter::new(out, tokenizer)?;
        let read = Counter::default();
        for_each_conversation(corpus, tokenizer, settings, &read, |_, fitted| {
            progress.set(read.get());
            if let Some(tokens) = counts.add(fitted)? {
                writer.push_masked(&tokens.ids, &tokens.trains)?;
                writer.end_document()?;
            }
            Ok(())
        })?;
        ensure!(
            counts.conversations > 0,
            "{corpus} holds no conversation that trains: {} left out as too long for data.context = \
             {}, {} as not readable",
            counts.dropped,
            settings.context,
            counts.skipped.count()
        );
        writer.finish(read.get())
    })?;
    progress.finish();
    Ok(counts)
}

/// Refuses an output that is one of the inputs.
pub(super) fn refuse_as_output(corpus: &Corpus, output: &Path) -> Result<()> {
    for path in corpus.files() {
        ensure!(
            !atomic::same_place(path, output),
            "{} is an input and the output at once; name another output",
            path.display()
        );
    }
    Ok(())
}

/// Calls `visit` with the tokens of each record of a corpus, in order; counts what was read.
pub(super) fn for_each_conversation(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    settings: &ChatSettings<'_>,
    read: &Counter,
    visit: impl FnMut(&Result<Record, BadRecord>, Result<Fitted, BadRecord>) -> Result<()>,
) -> Result<()> {
    for_each_record(corpus, read, |batch| encode_batch(batch, tokenizer, settings), visit)
}

/// Calls `visit` with each record of a corpus, in order, and with what `encode` gives for it: one
/// value for each record of at most [`BATCH`]. Counts what was read.
pub(super) fn for_each_record<T: Send>(
    corpus: &Corpus,
    read: &Counter,
    encode: impl Fn(&[Result<Record, BadRecord>]) -> Vec<Result<T, BadRecord>> + Sync,
    mut visit: impl FnMut(&Result<Record, BadRecord>, Result<T, BadRecord>) -> Result<()>,
) -> Result<()> {
    let sources = corpus.sources().iter();
    for source in sources.flat_map(|source| std::iter::repeat_n(source, source.weight as usize)) {
        let mut records = Records::new(&source.inputs, None, read.clone());
        loop {
            let batch: Vec<Result<Record, BadRecord>> =
                records.by_ref().take(BATCH * BATCHES).collect();
            if batch.is_empty() {
                break;
            }
            let encoded: Vec<Vec<Result<T, BadRecord>>> =
                batch.par_chunks(BATCH).map(&encode).collect();
            for (record, found) in batch.iter().zip(encoded.into_iter().flatten()) {
                visit(record, found)?;
            }
        }
    }
    Ok(())
}

/// The tokens of each record; those of one process together.
fn encode_batch(
    batch: &[Result<Record, BadRecord>],
    tokenizer: &Tokenizer,
    settings: &ChatSettings<'_>,
) -> Vec<Result<Fitted, BadRecord>> {
    let mut found: Vec<Option<Result<Fitted, BadRecord>>> = batch.iter().map(|_| None).collect();
    let mut open: Vec<Open<'_>> = Vec::new();
    for (at, record) in batch.iter().enumerate() {
        match record {
            Err(bad) => found[at] = Some(Err(bad.clone())),
            Ok(record) => match example(&record.fields, settings.format) {
                Ok(example) => open.push(Open { at, record, example, is_cut: false }),
                Err(error) => found[at] = Some(Err(bad(record, &error))),
            },
        }
    }
    // Each round renders what is left; what does not fit loses its oldest turn.
    while !open.is_empty() {
        let examples: Vec<Example> = open.iter().map(|open| open.example.clone()).collect();
        let rendered = settings.template.render(&examples, settings.train_on == TrainOn::Last);
        let mut too_long = Vec::new();
        for (mut open, answered) in open.into_iter().zip(rendered) {
            let tokens = answered.and_then(|answered| chat_tokens(tokenizer, &answered));
            let at = open.at;
            found[at] = match tokens {
                Err(error) => Some(Err(bad(open.record, &error))),
                Ok(tokens) if tokens.ids.len() <= settings.context + 1 => {
                    Some(Ok(kept(tokens, open.is_cut, settings.train_on)))
                }
                Ok(_) if settings.too_long == TooLong::Drop => Some(Ok(Fitted::Dropped)),
                Ok(tokens) => match without_oldest_turn(&open.example) {
                    Some(shorter) => {
                        open.example = shorter;
                        open.is_cut = true;
                        too_long.push(open);
                        None
                    }
                    None => Some(Ok(without_first_tokens(tokens, settings))),
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

/// A conversation that has to be rendered.
struct Open<'r> {
    /// Its place in the batch.
    at: usize,
    record: &'r Record,
    example: Example,
    is_cut: bool,
}

pub(super) fn bad(record: &Record, error: &anyhow::Error) -> BadRecord {
    BadRecord::new(record.place.clone(), format!("{error:#}"))
}

fn kept(mut tokens: ChatTokens, is_cut: bool, train_on: TrainOn) -> Fitted {
    if train_on == TrainOn::All {
        tokens.trains.fill(true);
    }
    // The first token is never predicted.
    if let Some(first) = tokens.trains.first_mut() {
        *first = false;
    }
    if tokens.trained() == 0 { Fitted::Dropped } else { Fitted::Kept(tokens, is_cut) }
}

/// The last tokens of a turn that is too long by itself, as many as a window holds.
fn without_first_tokens(mut tokens: ChatTokens, settings: &ChatSettings<'_>) -> Fitted {
    let cut = tokens.ids.len() - (settings.context + 1);
    tokens.ids.drain(..cut);
    tokens.trains.drain(..cut);
    kept(tokens, true, settings.train_on)
}

/// The conversation without its first question and what follows up to the next; the system prompt
/// stays. `None` if there is one question only, or what is left has no answer that trains.
pub(super) fn without_oldest_turn(example: &Example) -> Option<Example> {
    let role = |message: &Value, role: &str| message["role"] == role;
    let system = usize::from(example.messages.first().is_some_and(|first| role(first, "system")));
    let is_question = |&at: &usize| role(&example.messages[at], "user");
    let mut questions = (system..example.messages.len()).filter(is_question);
    let second = questions.nth(1)?;
    let kept = &example.messages[second..];
    if !kept.iter().any(|message| role(message, "assistant")) {
        return None;
    }
    Some(Example {
        messages: [&example.messages[..system], kept].concat(),
        tools: example.tools.clone(),
        first: example.first.saturating_sub(second - system),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conversation(roles: &str) -> Example {
        let role = |letter| match letter {
            's' => "system",
            'u' => "user",
            _ => "assistant",
        };
        let messages = roles
            .chars()
            .enumerate()
            .map(|(at, letter)| json!({ "role": role(letter), "content": at.to_string() }))
            .collect();
        Example { messages, tools: Value::Null, first: 0 }
    }

    fn contents(example: &Example) -> String {
        example.messages.iter().filter_map(|message| message["content"].as_str()).collect()
    }

    #[test]
    fn the_oldest_turn_goes_and_the_system_prompt_stays() {
        let left = |roles| without_oldest_turn(&conversation(roles)).map(|left| contents(&left));
        assert_eq!(left("suauaua").as_deref(), Some("03456"));
        assert_eq!(left("uaua").as_deref(), Some("23"));
        assert_eq!(left("uaaua").as_deref(), Some("34"));
        assert_eq!(left("sua"), None);
        assert_eq!(left("uau"), None, "the rest has no answer");
        let mut prompt = conversation("suaua");
        prompt.first = 4;
        let left = without_oldest_turn(&prompt).unwrap();
        assert_eq!((contents(&left).as_str(), left.first), ("034", 2));
    }
}
