//! A writer that reports its first failure and then takes everything: for a library that writes on
//! after a failure, and complains on standard error when that fails too.

use std::io::{self, Seek, SeekFrom, Write};

/// Passes everything to `out` until that fails.
pub struct FailedOnce<W> {
    out: W,
    has_failed: bool,
    /// Where the library believes that it is, and how long the file, after a failure.
    place: u64,
    end: u64,
}

impl<W> FailedOnce<W> {
    pub fn new(out: W) -> Self {
        FailedOnce { out, has_failed: false, place: 0, end: 0 }
    }

    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.has_failed |= result.is_err();
        result
    }
}

impl<W: Write> Write for FailedOnce<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self.has_failed {
            true => Ok(bytes.len()),
            false => self.out.write(bytes),
        };
        let written = self.noted(written)?;
        self.place += written as u64;
        self.end = self.end.max(self.place);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = if self.has_failed { Ok(()) } else { self.out.flush() };
        self.noted(flushed)
    }
}

impl<W: Seek> Seek for FailedOnce<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match (self.has_failed, to) {
            (false, to) => self.out.seek(to),
            (true, SeekFrom::Start(place)) => Ok(place),
            (true, SeekFrom::End(by)) => Ok(self.end.saturating_add_signed(by)),
            // It may have failed while a header was written anew; then the library asks again where
            // the file ends, and takes a place before its entry for an entry that is too large.
            (true, SeekFrom::Current(by)) => Ok(self.end.saturating_add_signed(by)),
        };
        self.place = self.noted(place)?;
        self.end = self.end.max(self.place);
        Ok(self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds three bytes.
    struct Room(Vec<u8>);

    impl Write for Room {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match 3 - self.0.len() {
                0 => Err(io::ErrorKind::StorageFull.into()),
                left => {
                    let taken = left.min(bytes.len());
                    self.0.extend_from_slice(&bytes[..taken]);
                    Ok(taken)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Room {
        fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
            panic!("it is not asked behind its failure")
        }
    }

    #[test]
    fn only_the_first_failure_is_reported_and_nothing_is_written_behind_it() {
        let mut out = FailedOnce::new(Room(Vec::new()));
        out.write_all(b"ab").unwrap();
        assert!(out.write_all(b"cd").is_err());
        out.write_all(b"ef").unwrap();
        assert_eq!(out.seek(SeekFrom::End(0)).unwrap(), 5);
        assert_eq!(out.seek(SeekFrom::Start(0)).unwrap(), 0);
        out.write_all(b"gh").unwrap();
        assert_eq!(out.out.0, b"abc");
    }
}
