//! The documents of a corpus: its texts and the texts of its records, in parts of bounded size.
//!
//! One thread reads, decompresses and parses; whoever consumes the parts has the other cores. Parts
//! come in batches, since most documents are short.

use std::fmt;
use std::sync::mpsc::{Receiver, SendError, SyncSender, sync_channel};
use std::{mem, thread};

use anyhow::{Context, Result, anyhow, ensure};
use config::OnError;
use serde::Serialize;
use serde_json::Value;

use crate::corpus::{Corpus, Source};
use crate::inputs::{Counter, InputFile};
use crate::records::{BadRecord, Record, Records, kind_of};
use crate::text::for_each_part;

/// Bytes of text in a batch: enough for every core to have several segments.
const BATCH_BYTES: usize = 4 << 20;
/// Most parts in a batch, however short they are.
const BATCH_PARTS: usize = 1 << 14;
/// Records that are named among those that were left out.
const SHOWN: usize = 5;

/// A document, or a piece of one that encodes as it would inside of the whole.
#[derive(Debug)]
pub(crate) struct Part {
    pub text: String,
    /// Where it begins in its document, in bytes.
    pub start: u64,
    pub ends_document: bool,
    /// Where the document is.
    pub place: String,
}

pub(crate) type Batch = Vec<Part>;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ReadReport {
    /// Bytes of text.
    pub text_bytes: u64,
    /// Texts and records, each as often as it was read.
    pub documents: u64,
    /// Files that began with a byte-order mark, which is left out.
    pub byte_order_marks: u64,
    /// Records that were left out (`on_error = "skip"`).
    pub skipped: u64,
    /// The first few of them, with their places and what was found.
    pub first_skipped: Vec<String>,
    /// Files of folders that are not training data, such as those of a test split.
    pub left_out: Vec<String>,
}

/// A line for everything that is not as usual.
impl fmt::Display for ReadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.documents > 1 {
            writeln!(f, "documents   {}", cli::count(self.documents))?;
        }
        self.write_exceptions(f)
    }
}

impl ReadReport {
    /// What was left out or skipped.
    pub(crate) fn write_exceptions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.byte_order_marks > 0 {
            writeln!(f, "left out    {} byte-order mark(s)", cli::count(self.byte_order_marks))?;
        }
        if let Some(first) = self.left_out.first() {
            let count = cli::count(self.left_out.len() as u64);
            writeln!(f, "left out    {count} file(s) that are not training data, such as {first}")?;
        }
        if self.skipped > 0 {
            writeln!(f, "skipped     {} record(s)", cli::count(self.skipped))?;
        }
        self.first_skipped.iter().try_for_each(|bad| writeln!(f, "            {bad}"))
    }
}

/// Calls `consume` with the batches of a corpus, which another thread reads. `last_cut` finds the last
/// place where a text may be cut; `counter` tells how much of the files was read.
///
/// # Errors
/// Those of reading, or else of `consume`.
pub(crate) fn with_batches<T>(
    corpus: &Corpus,
    counter: &Counter,
    last_cut: impl Fn(&str) -> Option<usize> + Send,
    consume: impl FnOnce(Receiver<Batch>) -> Result<T>,
) -> Result<(T, ReadReport)> {
    thread::scope(|scope| {
        let (sender, batches) = sync_channel(1);
        let reader = scope.spawn(move || {
            let batch = Vec::new();
            let mut reader = Reader { sender, batch, bytes: 0, report: ReadReport::default() };
            reader.corpus(corpus, counter, &last_cut)?;
            reader.send()?;
            Ok(reader.report)
        });
        let consumed = consume(batches);
        let read = reader.join().map_err(|_| anyhow!("the reader of {corpus} failed"))?;
        match (consumed, read) {
            // The reader stopped because nobody took its batches any more.
            (Err(error), Err(stop)) if stop.is::<SendError<Batch>>() => Err(error),
            (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
            (Ok(value), Ok(report)) => Ok((value, report)),
        }
    })
}

struct Reader {
    sender: SyncSender<Batch>,
    batch: Batch,
    bytes: usize,
    report: ReadReport,
}

impl Reader {
    fn corpus(
        &mut self,
        corpus: &Corpus,
        counter: &Counter,
        last_cut: &impl Fn(&str) -> Option<usize>,
    ) -> Result<()> {
        for source in corpus.sources() {
            let left_out = source.inputs.left_out().iter().map(|path| path.display().to_string());
            self.report.left_out.extend(left_out);
            for _ in 0..source.weight {
                if source.inputs.are_records() {
                    self.records(source, corpus.on_error(), counter)?;
                } else {
                    for file in source.inputs.files() {
                        self.text(file, counter, last_cut).with_context(|| file.to_string())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn text(
        &mut self,
        file: &InputFile,
        counter: &Counter,
        last_cut: &impl Fn(&str) -> Option<usize>,
    ) -> Result<()> {
        let stream = file.stream(counter).context("cannot read")?;
        let place = file.to_string();
        let mut start = 0;
        let visit = |text: &str| {
            let part =
                Part { text: text.to_owned(), start, ends_document: false, place: place.clone() };
            start += text.len() as u64;
            self.push(part)
        };
        let read = for_each_part(stream.reader, last_cut, visit);
        if stream.had_mark {
            self.report.byte_order_marks += 1;
            read.context("behind its byte-order mark of 3 bytes")?;
        } else {
            read?;
        }
        self.push(Part { text: String::new(), start, ends_document: true, place })
    }

    fn records(&mut self, source: &Source, on_error: OnError, counter: &Counter) -> Result<()> {
        let before = self.report.documents;
        let only = [source.text_field.clone()];
        let mut records = Records::new(&source.inputs, Some(&only), counter.clone());
        for record in &mut records {
            match record.and_then(|record| text_of(record, &source.text_field)) {
                Ok(part) => self.push(part)?,
                Err(bad) if on_error == OnError::Skip && !bad.ends_file() => self.skip(&bad),
                Err(bad) => return Err(bad.into()),
            }
        }
        self.report.byte_order_marks += records.byte_order_marks();
        ensure!(
            self.report.documents > before,
            "{}: no record with a text{}",
            source.inputs,
            match self.report.first_skipped.first() {
                Some(first) => format!("; the first that was left out is {first}"),
                None => String::new(),
            }
        );
        Ok(())
    }

    fn skip(&mut self, bad: &BadRecord) {
        self.report.skipped += 1;
        if self.report.first_skipped.len() < SHOWN {
            self.report.first_skipped.push(bad.to_string());
        }
    }

    fn push(&mut self, part: Part) -> Result<()> {
        self.report.text_bytes += part.text.len() as u64;
        self.report.documents += u64::from(part.ends_document);
        self.bytes += part.text.len();
        self.batch.push(part);
        if self.bytes >= BATCH_BYTES || self.batch.len() >= BATCH_PARTS {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        self.bytes = 0;
        Ok(self.sender.send(mem::take(&mut self.batch))?)
    }
}

/// The text of a record as a whole document.
fn text_of(mut record: Record, field: &str) -> Result<Part, BadRecord> {
    match record.fields.remove(field) {
        Some(Value::String(text)) => {
            Ok(Part { text, start: 0, ends_document: true, place: record.place.to_string() })
        }
        found => {
            let found = found.as_ref().map_or("missing", kind_of);
            let found = format!(
                "field {field:?} is {found}; expected a string (text_field names the field)"
            );
            Err(BadRecord::new(record.place, found))
        }
    }
}
