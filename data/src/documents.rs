//! The documents of a corpus: its texts and the texts of its records, in parts of bounded size.
//!
//! One thread reads, decompresses and parses; whoever consumes the parts has the other cores. Parts
//! come in batches, since most documents are short.

use std::fmt;
use std::sync::mpsc::{Receiver, SendError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{mem, thread};

use anyhow::{Context, Result, anyhow, ensure};
use config::OnError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::corpus::{Corpus, Source};
use crate::inputs::{Counter, InputFile};
use crate::records::{BadRecord, LinePlace, Passed, Record, Records, kind_of};
use crate::text::{PartStart, for_each_part};

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
    /// Where the part begins in the inputs.
    pub at: Position,
}

pub(crate) type Batch = Vec<Part>;

/// A place in the inputs of a corpus between two parts, and what was met before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    /// Files that were read whole, each as often as it was read.
    pub files: u64,
    /// Records of the file after these.
    pub records: u64,
    /// Its lines, if it is of lines.
    pub lines: u64,
    /// Its bytes without compression, if it is of lines or a text.
    pub bytes: u64,
    /// Of a text, see [`PartStart::read`].
    pub read: u64,
    /// Records that were left out.
    pub skipped: u64,
    /// Files that began with a byte-order mark.
    pub marks: u64,
}

impl Position {
    fn of_part(self, part: PartStart) -> Self {
        Position { bytes: part.byte, read: part.read, ..self }
    }

    fn part(self) -> PartStart {
        PartStart { byte: self.bytes, read: self.read }
    }

    /// What lies before it in a source that begins behind `before` files.
    fn passed(self, before: u64) -> Passed {
        let lines = LinePlace { line: self.lines, byte: self.bytes };
        Passed { files: (self.files - before) as usize, records: self.records, lines }
    }
}

/// Where reading begins.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadFrom {
    pub at: Position,
    /// The first records that were left out before.
    pub first_skipped: Vec<String>,
}

/// The first records that were left out, which both sides see.
#[derive(Debug, Clone, Default)]
pub(crate) struct FirstSkipped(Arc<Mutex<Vec<String>>>);

impl FirstSkipped {
    fn push(&self, bad: &BadRecord) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if first.len() < SHOWN {
            first.push(bad.to_string());
        }
    }

    /// Of the first `count` records that were left out, those that are named.
    pub fn of(&self, count: u64) -> Vec<String> {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.iter().take(usize::try_from(count).unwrap_or(SHOWN)).cloned().collect()
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    let from = ReadFrom::default();
    with_batches_from(corpus, from, counter, last_cut, |batches, _| consume(batches))
}

/// The same from a place on that a part of an earlier reading began at. The report counts documents and
/// bytes from there on, and exceptions from the beginning.
///
/// # Errors
/// Those of [`with_batches`].
pub(crate) fn with_batches_from<T>(
    corpus: &Corpus,
    from: ReadFrom,
    counter: &Counter,
    last_cut: impl Fn(&str) -> Option<usize> + Send,
    consume: impl FnOnce(Receiver<Batch>, FirstSkipped) -> Result<T>,
) -> Result<(T, ReadReport)> {
    let skipped = FirstSkipped(Arc::new(Mutex::new(from.first_skipped)));
    thread::scope(|scope| {
        let (sender, batches) = sync_channel(1);
        let mut reader = Reader::new(sender, from.at, skipped.clone());
        let reader = scope.spawn(move || {
            reader.corpus(corpus, counter, &last_cut)?;
            reader.send()?;
            Ok(reader.finish())
        });
        let consumed = consume(batches, skipped);
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
    skipped: FirstSkipped,
    /// Where the next part begins.
    at: Position,
    /// Where reading begins.
    from: Position,
}

impl Reader {
    fn new(sender: SyncSender<Batch>, from: Position, skipped: FirstSkipped) -> Self {
        let at = Position { skipped: from.skipped, marks: from.marks, ..Position::default() };
        let report = ReadReport::default();
        Reader { sender, batch: Vec::new(), bytes: 0, report, skipped, at, from }
    }

    fn finish(self) -> ReadReport {
        ReadReport {
            byte_order_marks: self.at.marks,
            skipped: self.at.skipped,
            first_skipped: self.skipped.of(self.at.skipped),
            ..self.report
        }
    }

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
        let number = self.at.files;
        self.start_file(number);
        if number < self.from.files {
            counter.add(file.size()?);
            self.start_file(number + 1);
            return Ok(());
        }
        // The file in which reading goes on was opened before.
        let resumed = number == self.from.files && self.from != Position::default();
        let from = if resumed { self.from.part() } else { PartStart::default() };
        let stream = file.stream_from(from.byte, counter).context("cannot read")?;
        if stream.had_mark && !resumed {
            self.at.marks += 1;
        }
        let place = file.to_string();
        let visit = |text: &str, start: PartStart| {
            self.at = self.at.of_part(start);
            let part = Part {
                text: text.to_owned(),
                start: start.byte,
                ends_document: false,
                place: place.clone(),
                at: self.at,
            };
            self.push(part)
        };
        let read = for_each_part(stream.reader, from, last_cut, visit);
        let end = match stream.had_mark {
            true => read.context("behind its byte-order mark of 3 bytes")?,
            false => read?,
        };
        self.at = self.at.of_part(end);
        let (start, at) = (end.byte, self.at);
        self.push(Part { text: String::new(), start, ends_document: true, place, at })?;
        self.start_file(number + 1);
        Ok(())
    }

    /// The next part begins file `number`.
    fn start_file(&mut self, number: u64) {
        let Position { skipped, marks, .. } = self.at;
        self.at = Position { files: number, skipped, marks, ..Position::default() };
    }

    fn records(&mut self, source: &Source, on_error: OnError, counter: &Counter) -> Result<()> {
        let first = self.at.files;
        let behind = first + source.inputs.files().len() as u64;
        if behind <= self.from.files {
            counter.add(source.inputs.size()?);
            self.start_file(behind);
            return Ok(());
        }
        let before = self.report.documents;
        let only = [source.text_field.clone()];
        let mut records = Records::new(&source.inputs, Some(&only), counter.clone());
        let resumed = first <= self.from.files && self.from != Position::default();
        if resumed {
            records = records.resume(self.from.passed(first))?;
        }
        let marks = self.at.marks;
        loop {
            let passed = records.passed();
            let Some(record) = records.next() else { break };
            // Of a record that begins a file, what lies before is known when the file was opened.
            let passed = if records.passed().files == passed.files {
                passed
            } else {
                Passed { files: records.passed().files, ..Passed::default() }
            };
            self.at.marks = marks + records.byte_order_marks();
            self.at = Position {
                files: first + passed.files as u64,
                records: passed.records,
                lines: passed.lines.line,
                bytes: passed.lines.byte,
                read: 0,
                ..self.at
            };
            match record.and_then(|record| text_of(record, &source.text_field, self.at)) {
                Ok(part) => self.push(part)?,
                Err(bad) if on_error == OnError::Skip && !bad.ends_file() => {
                    self.skipped.push(&bad);
                    self.at.skipped += 1;
                }
                Err(bad) => return Err(bad.into()),
            }
        }
        ensure!(
            self.report.documents > before || resumed,
            "{}: no record with a text{}",
            source.inputs,
            match self.skipped.of(self.at.skipped).first() {
                Some(first) => format!("; the first that was left out is {first}"),
                None => String::new(),
            }
        );
        self.start_file(behind);
        Ok(())
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
fn text_of(mut record: Record, field: &str, at: Position) -> Result<Part, BadRecord> {
    match record.fields.remove(field) {
        Some(Value::String(text)) => {
            Ok(Part { text, start: 0, ends_document: true, place: record.place.to_string(), at })
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
