//! Writes a token file.

use std::io::{BufWriter, Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, ensure};
use checkpoint::atomic::NamedFile;
use tempfile::SpooledTempFile;

use super::shard::{END_BYTES, HEADER, Header};
use crate::Tokenizer;

/// Bytes of a section that are kept in memory; what is beyond goes into a temporary file.
const SECTION_IN_MEMORY: usize = 16 << 20;

/// Writes the tokens as they come, then the sections; the header, which knows all numbers and the
/// hash, goes last. A file without sections is of version 1.
#[derive(Debug)]
pub struct TokenWriter<'a> {
    out: &'a mut BufWriter<NamedFile>,
    header: Header,
    hasher: blake3::Hasher,
    bytes: Vec<u8>,
    ends: Section,
    last_end: usize,
    mask: Option<Mask>,
}

/// What a finished token file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Number of tokens.
    pub tokens: u64,
    /// Bytes of one token.
    pub token_bytes: usize,
    /// BLAKE3 of everything behind the header, in hexadecimal.
    pub hash: String,
}

impl<'a> TokenWriter<'a> {
    /// Leaves room for the header. Ids take two bytes where the vocabulary allows it.
    ///
    /// # Errors
    /// When the disk is full; so for all that writes.
    pub fn new(out: &'a mut BufWriter<NamedFile>, tokenizer: &Tokenizer) -> Result<Self> {
        out.write_all(&[0; HEADER])?;
        let vocab_size = tokenizer.vocab_size() as u64;
        let header = Header {
            token_bytes: if vocab_size <= 1 << 16 { 2 } else { 4 },
            len: 0,
            vocab_size,
            text_bytes: 0,
            tokenizer_hash: tokenizer.hash(),
            payload_hash: [0; 32],
            documents: 0,
            has_mask: false,
        };
        Ok(TokenWriter {
            out,
            header,
            hasher: blake3::Hasher::new(),
            bytes: Vec::new(),
            ends: Section::default(),
            last_end: 0,
            mask: None,
        })
    }

    /// Appends tokens that train, which must be below the size of the vocabulary.
    ///
    /// # Errors
    /// Those of writing.
    pub fn push(&mut self, tokens: &[u32]) -> Result<()> {
        if let Some(mask) = &mut self.mask {
            mask.push(std::iter::repeat_n(true, tokens.len()))?;
        }
        self.write_tokens(tokens)
    }

    /// Appends tokens, each with whether predicting it trains.
    ///
    /// # Errors
    /// When there are not as many of both; when the disk is full.
    pub fn push_masked(&mut self, tokens: &[u32], trains: &[bool]) -> Result<()> {
        ensure!(
            tokens.len() == trains.len(),
            "{} tokens with {} bits that say which train; expected as many",
            tokens.len(),
            trains.len()
        );
        if self.mask.is_none() {
            let mut mask = Mask::default();
            mask.push(std::iter::repeat_n(true, self.header.len))?;
            self.mask = Some(mask);
        }
        if let Some(mask) = &mut self.mask {
            mask.push(trains.iter().copied())?;
        }
        self.write_tokens(tokens)
    }

    /// The tokens since the last end are a document.
    ///
    /// # Errors
    /// Those of writing.
    pub fn end_document(&mut self) -> Result<()> {
        self.ends.write(&(self.header.len as u64).to_le_bytes())?;
        self.header.documents += 1;
        self.last_end = self.header.len;
        Ok(())
    }

    /// How many tokens more fit into a file of `most` bytes, if each document that is open is ended.
    pub(crate) fn room(&self, most: u64) -> u64 {
        let ends = (self.header.documents as u64 + 1) * END_BYTES as u64;
        let tokens =
            most.saturating_sub(HEADER as u64 + ends) / END_BYTES as u64 * END_BYTES as u64;
        (tokens / self.header.token_bytes as u64).saturating_sub(self.header.len as u64)
    }

    fn write_tokens(&mut self, tokens: &[u32]) -> Result<()> {
        self.bytes.clear();
        if self.header.token_bytes == 2 {
            self.bytes.extend(tokens.iter().flat_map(|&token| (token as u16).to_le_bytes()));
        } else {
            self.bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
        }
        self.header.len += tokens.len();
        self.write_bytes()
    }

    fn write_bytes(&mut self) -> Result<()> {
        self.hasher.update(&self.bytes);
        self.out.write_all(&self.bytes)?;
        Ok(())
    }

    /// Completes sections and header. Tokens behind the last end of a document are one as well.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self, text_bytes: u64) -> Result<Written> {
        if self.header.documents > 0 && self.last_end < self.header.len {
            self.end_document()?;
        }
        let mask = self.mask.take();
        self.header.has_mask = mask.is_some();
        if self.header.documents > 0 || self.header.has_mask {
            let used = self.header.len * self.header.token_bytes;
            self.bytes.clear();
            self.bytes.resize(used.next_multiple_of(END_BYTES) - used, 0);
            self.write_bytes()?;
        }
        let ends = std::mem::take(&mut self.ends);
        self.append(ends)?;
        if let Some(mask) = mask {
            self.append(mask.finish()?)?;
        }
        let hash = self.hasher.finalize();
        self.header.text_bytes = text_bytes;
        self.header.payload_hash = *hash.as_bytes();
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&self.header.to_bytes())?;
        self.out.seek(SeekFrom::End(0))?;
        Ok(Written {
            tokens: self.header.len as u64,
            token_bytes: self.header.token_bytes,
            hash: hash.to_hex().to_string(),
        })
    }

    fn append(&mut self, section: Section) -> Result<()> {
        let mut section = section.0;
        section.seek(SeekFrom::Start(0)).context("cannot read a temporary file")?;
        loop {
            self.bytes.clear();
            let part = Read::by_ref(&mut section).take(1 << 20).read_to_end(&mut self.bytes);
            if part.context("cannot read a temporary file")? == 0 {
                return Ok(());
            }
            self.write_bytes()?;
        }
    }
}

/// What is written behind the tokens, until their number is known.
#[derive(Debug)]
struct Section(SpooledTempFile);

impl Default for Section {
    fn default() -> Self {
        Section(SpooledTempFile::new(SECTION_IN_MEMORY))
    }
}

impl Section {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).context("cannot write a temporary file")
    }
}

/// Bits, from the lowest of each byte on.
#[derive(Debug, Default)]
struct Mask {
    section: Section,
    bytes: Vec<u8>,
    last: u8,
    used: u32,
}

impl Mask {
    fn push(&mut self, bits: impl Iterator<Item = bool>) -> Result<()> {
        const BUFFER: usize = 1 << 16;
        for bit in bits {
            self.last |= u8::from(bit) << self.used;
            self.used += 1;
            if self.used == u8::BITS {
                self.bytes.push(std::mem::take(&mut self.last));
                self.used = 0;
            }
            if self.bytes.len() >= BUFFER {
                self.section.write(&self.bytes)?;
                self.bytes.clear();
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Section> {
        if self.used > 0 {
            self.bytes.push(self.last);
        }
        self.section.write(&self.bytes)?;
        Ok(self.section)
    }
}
