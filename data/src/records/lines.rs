//! JSON Lines: one object on each line.

use std::io::{self, BufRead};
use std::sync::Arc;

use super::{BadRecord, LARGEST_RECORD, LinePlace, Place, Record, RecordReader, object};

/// The records of a stream of lines.
pub(super) struct Lines<'a, R> {
    reader: R,
    file: Arc<str>,
    only: Option<&'a [String]>,
    line: Vec<u8>,
    /// Of the last line that was read.
    number: u64,
    /// Bytes of all lines that were read.
    bytes: u64,
    most: usize,
}

/// What [`Lines::read_line`] found.
enum Line {
    Whole,
    TooLong,
    End,
}

impl<'a, R: BufRead> Lines<'a, R> {
    pub fn new(reader: R, file: Arc<str>, only: Option<&'a [String]>) -> Self {
        Self::behind(LinePlace::default(), reader, file, only)
    }

    /// The lines behind those that `before` counts, where `reader` stands.
    pub fn behind(
        before: LinePlace,
        reader: R,
        file: Arc<str>,
        only: Option<&'a [String]>,
    ) -> Self {
        let LinePlace { line: number, byte: bytes } = before;
        Lines { reader, file, only, line: Vec::new(), number, bytes, most: LARGEST_RECORD }
    }

    fn place(&self) -> Place {
        Place { file: self.file.clone(), unit: "line", number: self.number }
    }

    /// Reads up to the next line feed. What is too long is read past, and not kept.
    fn read_line(&mut self) -> io::Result<Line> {
        self.line.clear();
        let (mut is_empty, mut is_too_long) = (true, false);
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                return Ok(match (is_too_long, is_empty) {
                    (true, _) => Line::TooLong,
                    (_, true) => Line::End,
                    _ => Line::Whole,
                });
            }
            is_empty = false;
            let end = memchr::memchr(b'\n', buffer);
            let piece = &buffer[..end.unwrap_or(buffer.len())];
            is_too_long |= self.line.len() + piece.len() > self.most;
            if !is_too_long {
                self.line.extend_from_slice(piece);
            }
            let used = piece.len() + usize::from(end.is_some());
            self.reader.consume(used);
            self.bytes += used as u64;
            if end.is_some() {
                return Ok(if is_too_long { Line::TooLong } else { Line::Whole });
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<'_, R> {
    type Item = Result<Record, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.number += 1;
            match self.read_line() {
                Ok(Line::End) => return None,
                Ok(Line::TooLong) => {
                    let found =
                        format!("a line of more than {} bytes; expected at most that", self.most);
                    return Some(Err(BadRecord::new(self.place(), found)));
                }
                Err(error) => {
                    return Some(Err(BadRecord::last(
                        self.place(),
                        format!("cannot read: {error}"),
                    )));
                }
                Ok(Line::Whole) if self.line.trim_ascii().is_empty() => {}
                Ok(Line::Whole) => {
                    let fields = object::parse(&self.line, self.only);
                    return Some(match fields {
                        Ok(fields) => Ok(Record { place: self.place(), fields }),
                        Err(found) => Err(BadRecord::new(self.place(), found)),
                    });
                }
            }
        }
    }
}

impl<R: BufRead> RecordReader for Lines<'_, R> {
    fn line_place(&self) -> LinePlace {
        LinePlace { line: self.number, byte: self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_beyond_the_limit_is_passed_over_without_being_kept() {
        let text = format!("{{\"a\": 1}}\n{{\"a\": \"{}\"}}\n{{\"a\": 3}}", "x".repeat(100));
        let mut lines = Lines::new(text.as_bytes(), "f".into(), None);
        lines.most = 20;
        assert_eq!(lines.next().unwrap().unwrap().fields["a"], 1);
        let error = lines.next().unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "f: line 2: a line of more than 20 bytes; expected at most that"
        );
        assert!(!error.ends_file() && lines.line.capacity() <= 64);
        let third = lines.next().unwrap().unwrap();
        assert_eq!((third.fields["a"].as_u64(), third.place.number), (Some(3), 3));
        assert!(lines.next().is_none() && lines.next().is_none());
    }
}
