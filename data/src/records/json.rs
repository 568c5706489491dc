//! A JSON document with an array of objects, read one element at a time.
//!
//! The text between two elements is scanned here, byte by byte; each element is parsed by `serde_json`.

use std::io::{BufRead, Cursor, Read};
use std::sync::Arc;

use super::Record;
use super::lines::Lines;
use super::{BadRecord, FileRecords, LARGEST_RECORD, Place, RecordReader, object};

/// Bytes that are looked at to tell JSON Lines from one document.
const SNIFF: usize = 1 << 20;

/// The records of a `.json` file: of an array, of an object with one array, or of lines, as many files
/// with this ending hold.
pub(super) fn open<'a>(
    reader: Box<dyn BufRead + Send>,
    file: Arc<str>,
    only: Option<&'a [String]>,
) -> Result<FileRecords<'a>, BadRecord> {
    let place = || Place { file: file.clone(), unit: "record", number: 0 };
    let mut reader = reader;
    let mut start = Vec::new();
    let read = reader.by_ref().take(SNIFF as u64).read_to_end(&mut start);
    read.map_err(|error| BadRecord::last(place(), format!("cannot read: {error}")))?;
    let are_lines = are_lines(&start);
    let reader = Cursor::new(start).chain(reader);
    if are_lines {
        return Ok(Box::new(Lines::new(reader, file, only)));
    }
    Ok(Box::new(Elements::new(reader, file, only)))
}

/// Whether the first line is an object and another one follows.
fn are_lines(start: &[u8]) -> bool {
    let start = start.trim_ascii_start();
    let Some(end) = memchr::memchr(b'\n', start) else { return false };
    let (line, rest) = start.split_at(end);
    rest.trim_ascii_start().starts_with(b"{") && object::parse(line, Some(&[])).is_ok()
}

/// Where the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    /// In the array; whether an element went before.
    Array {
        behind_element: bool,
    },
    End,
}

struct Elements<'a, R> {
    reader: R,
    file: Arc<str>,
    only: Option<&'a [String]>,
    state: State,
    /// Whether the array is the value of a field.
    in_object: bool,
    element: Vec<u8>,
    number: u64,
    most: usize,
}

impl<'a, R: BufRead> Elements<'a, R> {
    fn new(reader: R, file: Arc<str>, only: Option<&'a [String]>) -> Self {
        Elements {
            reader,
            file,
            only,
            state: State::Start,
            in_object: false,
            element: Vec::new(),
            number: 0,
            most: LARGEST_RECORD,
        }
    }

    fn place(&self) -> Place {
        Place { file: self.file.clone(), unit: "record", number: self.number }
    }

    fn last(&mut self, found: impl Into<String>) -> BadRecord {
        self.state = State::End;
        BadRecord::last(self.place(), found)
    }

    /// The next byte that is not white space, still unread; none at the end.
    fn peek(&mut self) -> Result<Option<u8>, BadRecord> {
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) => return Err(self.last(format!("cannot read: {error}"))),
            };
            if buffer.is_empty() {
                return Ok(None);
            }
            let spaces = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let found = buffer.get(spaces).copied();
            self.reader.consume(spaces);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn skip(&mut self) {
        self.reader.consume(1);
    }

    /// Goes to the first element.
    fn find_array(&mut self) -> Result<(), BadRecord> {
        match self.peek()? {
            Some(b'[') => {
                self.skip();
                self.state = State::Array { behind_element: false };
                Ok(())
            }
            Some(b'{') => {
                self.skip();
                self.in_object = true;
                self.find_field(false)
            }
            None => {
                self.state = State::End;
                Ok(())
            }
            Some(_) => {
                Err(self
                    .last("not an array of objects, nor an object with one; expected one of them"))
            }
        }
    }

    /// Goes to the array among the fields of an object, or to the end behind it.
    fn find_field(&mut self, had_array: bool) -> Result<(), BadRecord> {
        loop {
            match self.peek()? {
                Some(b',') => self.skip(),
                Some(b'}') if had_array => {
                    self.skip();
                    return self.finish();
                }
                Some(b'"') => {
                    self.read_value()?;
                    if self.peek()? != Some(b':') {
                        return Err(
                            self.last("a field without a value; expected `:` behind its name")
                        );
                    }
                    self.skip();
                    if self.peek()? != Some(b'[') {
                        self.read_value()?;
                    } else if had_array {
                        return Err(self.last(
                            "an object with several arrays; expected one, or an array of objects",
                        ));
                    } else {
                        self.skip();
                        self.state = State::Array { behind_element: false };
                        return Ok(());
                    }
                }
                Some(b'}') => {
                    return Err(self.last(
                        "an object without an array; expected an array of objects, or objects on \
                         lines of their own",
                    ));
                }
                _ => return Err(self.last("the object ends too early, or is not JSON")),
            }
        }
    }

    /// Nothing may follow.
    fn finish(&mut self) -> Result<(), BadRecord> {
        self.state = State::End;
        match self.peek()? {
            None => Ok(()),
            Some(_) => Err(self.last("something follows behind the array; expected its end")),
        }
    }

    /// Reads one value of any kind into `element`, without looking at what it says.
    fn read_value(&mut self) -> Result<(), BadRecord> {
        self.element.clear();
        let mut scan = Scan::default();
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) => return Err(self.last(format!("cannot read: {error}"))),
            };
            if buffer.is_empty() {
                return match scan.is_closed {
                    true => Ok(()),
                    false => Err(self.last("the file ends inside of a value; it was cut short")),
                };
            }
            let end = buffer.iter().position(|&byte| scan.ends_before(byte));
            let piece = &buffer[..end.unwrap_or(buffer.len())];
            if self.element.len() + piece.len() > self.most {
                let found =
                    format!("a value of more than {} bytes; expected at most that", self.most);
                return Err(self.last(found));
            }
            self.element.extend_from_slice(piece);
            let used = piece.len();
            self.reader.consume(used);
            if end.is_some() {
                return Ok(());
            }
        }
    }

    fn step(&mut self) -> Result<Option<Record>, BadRecord> {
        if self.state == State::Start {
            self.find_array()?;
        }
        let State::Array { behind_element } = self.state else { return Ok(None) };
        match (self.peek()?, behind_element) {
            (Some(b']'), _) => {
                self.skip();
                if self.in_object {
                    self.find_field(true)?
                } else {
                    self.finish()?
                }
                return Ok(None);
            }
            (Some(b','), true) => {
                self.skip();
                self.peek()?;
            }
            (Some(_), false) => {}
            (Some(_), true) => {
                return Err(
                    self.last("no comma between two elements, or an element that is not JSON")
                );
            }
            (None, _) => return Err(self.last("the array has no end; the file was cut short")),
        }
        self.number += 1;
        self.read_value()?;
        self.state = State::Array { behind_element: true };
        object::parse(&self.element, self.only)
            .map(|fields| Some(Record { place: self.place(), fields }))
            .map_err(|found| BadRecord::new(self.place(), found))
    }
}

impl<R: BufRead> Iterator for Elements<'_, R> {
    type Item = Result<Record, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

impl<R: BufRead> RecordReader for Elements<'_, R> {}

/// Finds the end of a JSON value.
#[derive(Debug, Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// Whether the value has begun and all that it opened is closed.
    is_closed: bool,
    has_begun: bool,
}

impl Scan {
    /// Whether the value ends before this byte; otherwise the byte belongs to it.
    fn ends_before(&mut self, byte: u8) -> bool {
        if self.is_closed {
            return true;
        }
        if self.in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => {
                    self.in_string = false;
                    self.is_closed = self.depth == 0;
                }
                _ => {}
            }
            return false;
        }
        match byte {
            // The end of a number or a word is what follows it.
            b',' | b']' | b'}' if self.depth == 0 => return true,
            byte if byte.is_ascii_whitespace() && self.depth == 0 && self.has_begun => return true,
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth -= 1;
                self.is_closed = self.depth == 0;
            }
            _ => {}
        }
        self.has_begun = true;
        false
    }
}
