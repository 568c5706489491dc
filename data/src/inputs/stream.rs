//! An input as a stream of plain bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Compression, FilePlace, InputFile};

const BUFFER: usize = 256 << 10;
const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// Bytes that were read from files, as they lie there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The plain bytes of an input.
pub(crate) struct Stream {
    pub reader: Box<dyn BufRead + Send>,
    /// Whether the bytes began with a byte-order mark, which is left out.
    pub had_mark: bool,
}

impl InputFile {
    /// Opens it as it is without compression and byte-order mark, at byte `from` of that. A file that is
    /// not compressed is not read up to there.
    pub(crate) fn stream_from(&self, from: u64, counter: &Counter) -> io::Result<Stream> {
        if let (FilePlace::File(path), Compression::Plain, 1..) =
            (&self.place, self.compression, from)
            && path.is_file()
        {
            let mut file = plain_file::open(path)?;
            let mut start = Vec::new();
            file.by_ref().take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut start)?;
            let had_mark = start == BYTE_ORDER_MARK;
            let at = from + if had_mark { BYTE_ORDER_MARK.len() as u64 } else { 0 };
            file.seek(SeekFrom::Start(at))?;
            counter.add(at);
            let raw = Counted { raw: Box::new(file), counter: counter.clone() };
            return Ok(Stream {
                reader: Box::new(BufReader::with_capacity(BUFFER, raw)),
                had_mark,
            });
        }
        let mut stream = self.stream(counter)?;
        let passed = io::copy(&mut stream.reader.by_ref().take(from), &mut io::sink())?;
        if passed < from {
            let found = format!("it has {passed} bytes of text; expected more than {from}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, found));
        }
        Ok(stream)
    }

    /// Opens it as it is without compression and byte-order mark.
    pub(crate) fn stream(&self, counter: &Counter) -> io::Result<Stream> {
        let raw: Box<dyn Read + Send> = match &self.place {
            FilePlace::Builtin(text) => Box::new(text.as_bytes()),
            FilePlace::File(path) => Box::new(plain_file::open_stream(path)?),
            FilePlace::Stdin => Box::new(io::stdin()),
        };
        let raw = Counted { raw, counter: counter.clone() };
        let mut reader: Box<dyn BufRead + Send> = match self.compression {
            Compression::Plain => Box::new(BufReader::with_capacity(BUFFER, raw)),
            Compression::Gzip => {
                let plain =
                    flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER, raw));
                Box::new(BufReader::with_capacity(BUFFER, plain))
            }
            Compression::Zstd => {
                let plain = zstd::stream::read::Decoder::new(raw)?;
                Box::new(BufReader::with_capacity(BUFFER, plain))
            }
        };
        // A buffer may hold less than the mark at first, so what was read goes in front again.
        let mut start = Vec::with_capacity(BYTE_ORDER_MARK.len());
        reader.by_ref().take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut start)?;
        let had_mark = start == BYTE_ORDER_MARK;
        if had_mark {
            start.clear();
        }
        Ok(Stream { reader: Box::new(Cursor::new(start).chain(reader)), had_mark })
    }

    /// Opens it for reading out of order.
    pub(crate) fn file(&self) -> io::Result<File> {
        match &self.place {
            FilePlace::File(path) => plain_file::open(path),
            FilePlace::Builtin(_) | FilePlace::Stdin => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

struct Counted<R> {
    raw: R,
    counter: Counter,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.raw.read(buffer)?;
        self.counter.add(read as u64);
        Ok(read)
    }
}
