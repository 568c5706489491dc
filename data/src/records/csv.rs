//! Comma- or tab-separated values with a line of names, through the `csv` crate. Every value is a
//! string.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use csv::{ErrorKind, ReaderBuilder, StringRecord};
use serde_json::{Map, Value};

use super::{BadRecord, FileRecords, LARGEST_RECORD, Place, Record, RecordReader};

/// The records of a stream of separated values.
pub(super) fn open<'a>(
    reader: Box<dyn BufRead + Send>,
    delimiter: u8,
    file: Arc<str>,
    only: Option<&'a [String]>,
) -> Result<FileRecords<'a>, BadRecord> {
    let left = Arc::new(AtomicUsize::new(LARGEST_RECORD));
    let capped = Capped { reader, left: left.clone() };
    let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(capped);
    let place = Place { file: file.clone(), unit: "line", number: 1 };
    let names = reader.headers().map_err(|error| BadRecord::last(place.clone(), found(&error)))?;
    let names: Vec<String> = names.iter().map(str::to_owned).collect();
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        let found = format!("two columns are called {:?}; expected different names", twice.1);
        return Err(BadRecord::last(place, found));
    }
    Ok(Box::new(Rows { reader, left, names, file, only, row: StringRecord::new(), number: 0 }))
}

struct Rows<'a, R> {
    reader: csv::Reader<R>,
    left: Arc<AtomicUsize>,
    names: Vec<String>,
    file: Arc<str>,
    only: Option<&'a [String]>,
    row: StringRecord,
    /// Of the last record that was read.
    number: u64,
}

impl<R: Read> Iterator for Rows<'_, R> {
    type Item = Result<Record, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left.store(LARGEST_RECORD, Ordering::Relaxed);
        let read = self.reader.read_record(&mut self.row);
        // The crate's count of lines is one behind where lines end with CRLF.
        self.number += 1;
        let place = Place { file: self.file.clone(), unit: "record", number: self.number };
        match read {
            Ok(false) => None,
            Ok(true) => {
                let is_wanted = |name: &String| self.only.is_none_or(|only| only.contains(name));
                let fields: Map<String, Value> = self
                    .names
                    .iter()
                    .zip(&self.row)
                    .filter(|(name, _)| is_wanted(name))
                    .map(|(name, value)| (name.clone(), Value::from(value)))
                    .collect();
                Some(Ok(Record { place, fields }))
            }
            Err(error) if error.is_io_error() => Some(Err(BadRecord::last(place, found(&error)))),
            Err(error) => Some(Err(BadRecord::new(place, found(&error)))),
        }
    }
}

impl<R: Read> RecordReader for Rows<'_, R> {}

fn found(error: &csv::Error) -> String {
    match error.kind() {
        ErrorKind::Io(error) => format!("cannot read: {error}"),
        ErrorKind::Utf8 { err, .. } => {
            format!("column {} is not UTF-8; expected UTF-8", err.field() + 1)
        }
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns; expected the {expected_len} of the first line")
        }
        _ => error.to_string(),
    }
}

/// Stops a record without end, such as one with an open quotation mark.
struct Capped<R> {
    reader: R,
    left: Arc<AtomicUsize>,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let left = self.left.load(Ordering::Relaxed);
        let Some(left) = left.checked_sub(read) else {
            return Err(io::Error::other(format!(
                "a record of more than {LARGEST_RECORD} bytes (is a quotation mark left open?)"
            )));
        };
        self.left.store(left, Ordering::Relaxed);
        Ok(read)
    }
}
