//! `data filter`: the documents of a corpus without duplicates and without those that rules for quality
//! refuse, as JSON Lines.
//!
//! One thread reads, the others apply the rules; duplicates are looked for in the order of the inputs, so
//! the first of several stays. Memory grows with the documents that are kept: 16 bytes each for exact
//! duplicates and 112 for near ones, in tables that are up to half empty.

mod command;
mod minhash;
mod report;
mod rules;
mod words;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use checkpoint::atomic;
use rayon::prelude::*;
use rustc_hash::FxBuildHasher;
use serde_json::{Map, Value};

pub(crate) use command::FilterArgs;
pub use report::{Dropped, Example, FilterReport};
pub use rules::{Finding, Limits, Rule};

use crate::corpus::Corpus;
use crate::inputs::{Counter, InputFile};
use crate::records::{BadRecord, LARGEST_RECORD, Records, kind_of};
use crate::skipped::Skipped;
use minhash::{Bands, Kept};

/// Bytes of text that are judged at a time.
const BATCH_BYTES: usize = 8 << 20;
/// Most documents of them.
const BATCH_DOCUMENTS: usize = 1 << 13;

/// What [`filter`] does.
#[derive(Debug, Clone)]
pub struct FilterJob<'a> {
    /// What is read.
    pub corpus: &'a Corpus,
    /// The field that holds the text.
    pub text_field: &'a str,
    /// The file of JSON Lines that is written, compressed if it ends in `.gz` or `.zst`.
    pub output: &'a Path,
    /// The rules for single documents.
    pub limits: Limits,
    /// Whether near-duplicates are left out, not only equal texts.
    pub near_duplicates: bool,
    /// Documents of each rule that the report shows.
    pub show: usize,
    /// Whether an existing output is replaced.
    pub force: bool,
}

/// A document on its way.
struct Document {
    place: String,
    fields: Map<String, Value>,
}

/// What is known of a document by itself.
struct Judged {
    place: String,
    start: String,
    bytes: usize,
    finding: Option<Finding>,
    hash: u128,
    bands: Option<Bands>,
    line: Vec<u8>,
}

/// Writes the documents of a corpus that the rules keep, with all fields of their records. A text becomes
/// a record with `text` and `source`, its file.
///
/// # Errors
/// Inputs that cannot be read; an output that exists (unless `force`), is an input, or cannot be written.
pub fn filter(job: &FilterJob<'_>) -> Result<FilterReport> {
    for input in job.corpus.files() {
        ensure!(
            !atomic::same_place(input, job.output),
            "{} is an input and the output at once; name another output",
            input.display()
        );
    }
    let progress = cli::Progress::new("filter", job.corpus.size()?, cli::Meter::Bytes);
    let report = atomic::write_file::<_, anyhow::Error>(job.output, job.force, |out| {
        let ending = job.output.extension().unwrap_or_default();
        if ending == "zst" {
            let mut packed = zstd::stream::write::Encoder::new(out, 0)?;
            let report = filter_into(job, &progress, &mut packed)?;
            packed.finish()?;
            Ok(report)
        } else if ending == "gz" {
            let mut packed = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            let report = filter_into(job, &progress, &mut packed)?;
            packed.finish()?;
            Ok(report)
        } else {
            filter_into(job, &progress, out)
        }
    })?;
    progress.finish();
    Ok(report)
}

fn filter_into(
    job: &FilterJob<'_>,
    progress: &cli::Progress,
    out: &mut impl Write,
) -> Result<FilterReport> {
    let counter = Counter::default();
    thread::scope(|scope| {
        let (sender, batches) = sync_channel::<Vec<Document>>(1);
        let reader = scope.spawn(|| {
            let skipped = Skipped::new(job.corpus.on_error());
            let mut reader = Reader { job, sender, batch: Vec::new(), bytes: 0, skipped };
            reader.read(&counter).map(|()| reader.skipped)
        });
        let mut sieve = Sieve::new(job);
        let sieved = batches.into_iter().try_for_each(|batch| {
            let judged: Vec<Judged> = batch
                .into_par_iter()
                .map(|document| judge(job, document))
                .collect::<Result<_>>()?;
            judged.into_iter().try_for_each(|judged| sieve.add(judged, out))?;
            progress.set(counter.get());
            Ok(())
        });
        let read = reader.join().map_err(|_| anyhow!("the reader of {} failed", job.corpus))?;
        match (sieved, read) {
            // The reader stopped because nobody took its batches any more.
            (Err(error), Err(stop)) if stop.is::<Stopped>() => Err(error),
            (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
            (Ok(()), Ok(skipped)) => Ok(FilterReport { skipped, ..sieve.report }),
        }
    })
}

/// Nobody takes what was read.
#[derive(Debug)]
struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nobody takes what was read")
    }
}

impl std::error::Error for Stopped {}

struct Reader<'a> {
    job: &'a FilterJob<'a>,
    sender: SyncSender<Vec<Document>>,
    batch: Vec<Document>,
    bytes: usize,
    skipped: Skipped,
}

impl Reader<'_> {
    fn read(&mut self, counter: &Counter) -> Result<()> {
        for inputs in self.job.corpus.inputs() {
            if inputs.are_records() {
                for record in Records::new(inputs, None, counter.clone()) {
                    match record.and_then(|record| self.checked(record)) {
                        Ok(document) => self.push(document)?,
                        Err(bad) => self.skipped.add(bad)?,
                    }
                }
            } else {
                for file in inputs.files() {
                    let document = whole_text(file, counter).with_context(|| file.to_string())?;
                    self.push(document)?;
                }
            }
        }
        self.send()
    }

    fn checked(&self, record: crate::Record) -> Result<Document, BadRecord> {
        let field = self.job.text_field;
        match record.fields.get(field) {
            Some(Value::String(_)) => {
                Ok(Document { place: record.place.to_string(), fields: record.fields })
            }
            found => {
                let found = found.map_or("missing", kind_of);
                let found = format!(
                    "field {field:?} is {found}; expected a string (text_field names the field)"
                );
                Err(BadRecord::new(record.place, found))
            }
        }
    }

    fn push(&mut self, document: Document) -> Result<()> {
        self.bytes += text_of(self.job, &document).len();
        self.batch.push(document);
        if self.bytes >= BATCH_BYTES || self.batch.len() >= BATCH_DOCUMENTS {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        self.bytes = 0;
        self.sender.send(std::mem::take(&mut self.batch)).map_err(|_| Stopped.into())
    }
}

/// A text file as a record.
fn whole_text(file: &InputFile, counter: &Counter) -> Result<Document> {
    let stream = file.stream(counter).context("cannot read")?;
    let mut bytes = Vec::new();
    let most = LARGEST_RECORD as u64;
    stream.reader.take(most + 1).read_to_end(&mut bytes).context("cannot read")?;
    if bytes.len() as u64 > most {
        bail!("a text of more than {most} bytes; expected documents, one in a file or in a record");
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        anyhow!("the text is not UTF-8 at byte {}", error.utf8_error().valid_up_to())
    })?;
    let place = file.to_string();
    let mut fields = Map::new();
    fields.insert("text".to_owned(), text.into());
    fields.insert("source".to_owned(), place.clone().into());
    Ok(Document { place, fields })
}

/// The text of a document that was checked, or of a text file.
fn text_of<'d>(job: &FilterJob<'_>, document: &'d Document) -> &'d str {
    let found = document.fields.get(job.text_field).or_else(|| document.fields.get("text"));
    found.and_then(Value::as_str).unwrap_or_default()
}

fn judge(job: &FilterJob<'_>, document: Document) -> Result<Judged> {
    const SHOWN: usize = 80;
    let text = text_of(job, &document);
    let finding = job.limits.judge(text);
    let hash = blake3::hash(text.as_bytes());
    let hash = u128::from_le_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 16]));
    let bands = (job.near_duplicates && finding.is_none()).then(|| minhash::bands(text)).flatten();
    let start = text.chars().take(SHOWN).collect();
    let bytes = text.len();
    let mut line = Vec::new();
    if finding.is_none() {
        serde_json::to_writer(&mut line, &document.fields)?;
        line.push(b'\n');
    }
    Ok(Judged { place: document.place, start, bytes, finding, hash, bands, line })
}

/// Decides in the order of the documents.
struct Sieve {
    report: FilterReport,
    show: usize,
    is_exact: bool,
    seen: HashSet<u128, FxBuildHasher>,
    kept: Kept,
}

impl Sieve {
    fn new(job: &FilterJob<'_>) -> Self {
        let is_exact = !job.limits.without.contains(&Rule::Duplicate);
        let report = FilterReport::new(job.corpus.to_string(), job.output.to_owned());
        let (seen, kept) = (HashSet::default(), Kept::default());
        Sieve { report, show: job.show, is_exact, seen, kept }
    }

    fn add(&mut self, judged: Judged, out: &mut impl Write) -> Result<()> {
        self.report.documents += 1;
        self.report.text_bytes += judged.bytes as u64;
        let finding = self.finding(&judged);
        match finding {
            None => {
                self.report.kept += 1;
                self.report.kept_bytes += judged.bytes as u64;
                out.write_all(&judged.line)?;
            }
            Some((rule, measured)) => {
                let dropped = self.report.dropped.entry(rule).or_default();
                dropped.documents += 1;
                dropped.text_bytes += judged.bytes as u64;
                if dropped.examples.len() < self.show {
                    let (place, start) = (judged.place, judged.start);
                    dropped.examples.push(Example { place, start, measured });
                }
            }
        }
        Ok(())
    }

    fn finding(&mut self, judged: &Judged) -> Option<(Rule, Option<Finding>)> {
        if let Some(finding) = &judged.finding {
            return Some((finding.rule, Some(finding.clone())));
        }
        if self.is_exact && !self.seen.insert(judged.hash) {
            return Some((Rule::Duplicate, None));
        }
        let bands = judged.bands.as_ref()?;
        (!self.kept.insert(bands)).then_some((Rule::NearDuplicate, None))
    }
}

/// The path of the report of a filtering, as a user names it.
fn write_report(report: &FilterReport, path: &Path, force: bool) -> Result<()> {
    atomic::write_file::<_, anyhow::Error>(path, force, |out| {
        serde_json::to_writer_pretty(&mut *out, report)?;
        out.write_all(b"\n")?;
        Ok(())
    })
}
