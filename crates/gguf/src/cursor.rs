//! The read position in a file's header, with checks of the bytes that are left.
//!
//! Both readers of this crate, the strict one and the one for files of other programs, check here
//! before they read bytes or allocate memory.

use crate::{GgufError, limits};

/// Minimum size of a key, in bytes: length, one letter, type, one byte of value.
pub(crate) const MIN_KEY_BYTES: u64 = 8 + 1 + 4 + 1;

/// Bytes, with a read position.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.at as u64
    }

    pub fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Moves to the position where only the last `left` bytes are unread.
    pub fn leave(&mut self, left: usize) {
        self.at = self.bytes.len() - left;
    }

    /// Fails unless `needed` bytes are left.
    pub fn need(&self, needed: u64, what: impl Fn() -> String) -> Result<(), GgufError> {
        if needed > self.left() { Err(self.cut(what(), needed)) } else { Ok(()) }
    }

    pub fn cut(&self, what: String, needed: u64) -> GgufError {
        GgufError::Truncated { what, at: self.at as u64, needed, left: self.left() }
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: u64, what: impl Fn() -> String) -> Result<&'a [u8], GgufError> {
        self.need(length, what)?;
        let (taken, rest) = self.rest().split_at(length as usize);
        self.leave(rest.len());
        Ok(taken)
    }

    /// Refuses a count beyond `limit`, or one that the bytes left cannot hold.
    pub fn check_count(
        &self,
        what: &str,
        count: u64,
        limit: u64,
        min_bytes: u64,
    ) -> Result<(), GgufError> {
        if count > limit {
            return Err(GgufError::TooMany { what: what.to_owned(), count, limit });
        }
        self.need(count * min_bytes, || format!("the section of {count} {what}"))
    }

    /// A name of `length` bytes, in UTF-8, printable.
    pub fn checked_name(
        &mut self,
        length: u64,
        limit: usize,
        what: impl Fn() -> String,
    ) -> Result<&'a str, GgufError> {
        if length > limit as u64 {
            return Err(GgufError::NameTooLong { what: what(), length, limit: limit as u64 });
        }
        let bytes = self.take(length, &what)?;
        let name =
            std::str::from_utf8(bytes).map_err(|_| GgufError::NameNotUtf8 { what: what() })?;
        limits::check_name(name, limit, what)?;
        Ok(name)
    }
}
