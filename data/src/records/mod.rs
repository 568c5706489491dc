//! The records of files: JSON Lines, JSON arrays, CSV and Parquet, one object after another.
//!
//! Memory is bounded by the largest record, at most [`LARGEST_RECORD`]; of Parquet, by a page of each
//! column.

mod csv;
mod json;
mod lines;
mod object;
mod parquet;

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

pub(crate) use object::kind_of;

use crate::inputs::{Counter, Format, InputFile, Inputs};

/// Most bytes of one record.
pub const LARGEST_RECORD: usize = 256 << 20;

/// One object of a file of records.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Where it stands.
    pub place: Place,
    /// Its fields.
    pub fields: Map<String, Value>,
}

/// Where a record stands: `train.jsonl: line 17`, `shard.parquet: row 17`, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    file: Arc<str>,
    unit: &'static str,
    number: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.file, self.unit, self.number)
    }
}

/// A record that cannot be read, or a file of which nothing more can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    place: Place,
    found: String,
    is_last: bool,
}

impl BadRecord {
    /// A record at `place` with something wrong in it: what was found, and what was expected.
    pub fn new(place: Place, found: impl Into<String>) -> Self {
        BadRecord { place, found: found.into(), is_last: false }
    }

    /// Nothing behind `place` can be read either.
    fn last(place: Place, found: impl Into<String>) -> Self {
        BadRecord { place, found: found.into(), is_last: true }
    }

    /// Whether the rest of the file cannot be read, so that skipping this record does not help.
    pub fn ends_file(&self) -> bool {
        self.is_last
    }

    /// Where it stands.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.number {
            0 => write!(f, "{}: {}", self.place.file, self.found),
            _ => write!(f, "{}: {}", self.place, self.found),
        }
    }
}

impl std::error::Error for BadRecord {}

/// The records of some files, one after another. After a record that is bad the next one follows; after
/// [`BadRecord::ends_file`], nothing.
///
/// Inputs that are texts give one [`BadRecord`].
pub fn records(inputs: &Inputs) -> Records<'_> {
    Records::new(inputs, None, Counter::default())
}

/// The iterator of [`records`].
pub struct Records<'a> {
    files: std::slice::Iter<'a, InputFile>,
    current: Option<FileRecords<'a>>,
    /// The fields that are wanted; all of them if there is no list.
    only: Option<&'a [String]>,
    counter: Counter,
    marks: u64,
    ended: bool,
    passed: Passed,
}

/// What lies before a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Passed {
    /// Files that were read whole.
    pub files: usize,
    /// Records of the file after these, bad ones as well.
    pub records: u64,
    /// Of JSON Lines, its lines.
    pub lines: LinePlace,
}

/// Lines of a file before a record, and the bytes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LinePlace {
    pub line: u64,
    pub byte: u64,
}

/// The records of one file.
trait RecordReader: Iterator<Item = Result<Record, BadRecord>> {
    /// How far a file of lines is read.
    fn line_place(&self) -> LinePlace {
        LinePlace::default()
    }

    /// Passes over as many of the next `most` records as can be without reading them, before the first
    /// one is read. Returns their number.
    fn skip_some(&mut self, _most: u64) -> u64 {
        0
    }
}

type FileRecords<'a> = Box<dyn RecordReader + 'a>;

impl<'a> Records<'a> {
    /// Records with the fields `only`, or with all of them; counts what is read from the files.
    pub(crate) fn new(inputs: &'a Inputs, only: Option<&'a [String]>, counter: Counter) -> Self {
        let files = inputs.files().iter();
        let passed = Passed::default();
        Records { files, current: None, only, counter, marks: 0, ended: false, passed }
    }

    /// The same from the record on that `passed` lies before.
    ///
    /// # Errors
    /// When the file that it is in cannot be opened, or ends before it.
    pub(crate) fn resume(mut self, passed: Passed) -> Result<Self, BadRecord> {
        let before = self.files.as_slice().get(..passed.files).unwrap_or_default();
        // A file that has gone is missed by whoever reads it.
        before.iter().for_each(|file| self.counter.add(file.size().unwrap_or(0)));
        self.files = self.files.as_slice().get(passed.files..).unwrap_or_default().iter();
        if let Some(file) = self.files.next() {
            let mut records = self.open(file, passed.lines)?;
            // Of lines, the place is found by its byte.
            if file.format() != Format::JsonL {
                let skipped = records.skip_some(passed.records);
                for _ in skipped..passed.records {
                    if let Some(Err(bad)) = records.next()
                        && bad.ends_file()
                    {
                        return Err(bad);
                    }
                }
            }
            self.current = Some(records);
        }
        // That of the file was seen before.
        self.marks = 0;
        self.passed = passed;
        Ok(self)
    }

    /// What lies before the next record.
    pub(crate) fn passed(&self) -> Passed {
        let lines = self.current.as_ref().map(|file| file.line_place()).unwrap_or_default();
        Passed { lines, ..self.passed }
    }

    /// Files so far that began with a byte-order mark, which is left out.
    pub fn byte_order_marks(&self) -> u64 {
        self.marks
    }

    fn open(&mut self, file: &'a InputFile, at: LinePlace) -> Result<FileRecords<'a>, BadRecord> {
        let name: Arc<str> = file.to_string().into();
        let whole = Place { file: name.clone(), unit: "record", number: 0 };
        let only = self.only;
        if file.format() == Format::Parquet {
            return parquet::open(file, name, only, self.counter.clone());
        }
        if file.format() == Format::Text {
            return Err(BadRecord::last(
                whole,
                "a text; expected records: .jsonl, .ndjson, .json, .csv, .tsv or .parquet",
            ));
        }
        let from = if file.format() == Format::JsonL { at.byte } else { 0 };
        let stream = file.stream_from(from, &self.counter);
        let stream = stream
            .map_err(|error| BadRecord::last(whole.clone(), format!("cannot read: {error}")))?;
        self.marks += u64::from(stream.had_mark);
        let reader = stream.reader;
        match file.format() {
            Format::Csv => csv::open(reader, b',', name, only),
            Format::Tsv => csv::open(reader, b'\t', name, only),
            Format::Json => json::open(reader, name, only),
            _ => Ok(Box::new(lines::Lines::behind(at, reader, name, only))),
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            if let Some(item) = self.current.as_mut().and_then(Iterator::next) {
                self.ended = item.as_ref().is_err_and(BadRecord::ends_file);
                self.passed.records += 1;
                return Some(item);
            }
            let file = self.files.next()?;
            if self.current.is_some() {
                self.passed = Passed { files: self.passed.files + 1, ..Passed::default() };
            }
            match self.open(file, LinePlace::default()) {
                Ok(records) => self.current = Some(records),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}
