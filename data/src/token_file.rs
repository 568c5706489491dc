//! The token file: a corpus as ids, memory-mapped, so that any number of readers share it.
//!
//! ```text
//! byte  0  magic "PGPTOKEN"            all numbers little-endian
//!       8  u32 version, 1
//!      12  u32 bytes in one token, 2 or 4
//!      16  u64 number of tokens
//!      24  u64 size of the vocabulary; every token is below it
//!      32  u64 bytes of text that the tokens were made from
//!      40  32 bytes: hash of the tokenizer
//!      72  32 bytes: BLAKE3 of the tokens as they lie in the file
//!     104  zeros
//!     128  the tokens
//! ```
//!
//! Opening reads the header only, whatever the file's size; [`TokenFile::verify`] reads it all.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;

use crate::Tokenizer;

const MAGIC: &[u8; 8] = b"PGPTOKEN";
const VERSION: u32 = 1;
const HEADER: usize = 128;
/// Tokens that [`TokenFile::verify`] looks at in one go.
const VERIFY_CHUNK: usize = 1 << 20;

/// A token file, opened for reading.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    map: Mmap,
    header: Header,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    token_bytes: usize,
    len: usize,
    vocab_size: u64,
    text_bytes: u64,
    tokenizer_hash: [u8; 32],
    payload_hash: [u8; 32],
}

impl TokenFile {
    /// Maps the file and checks its header and size.
    ///
    /// # Errors
    /// When it cannot be read, is no token file, is of another version, or is cut short.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let file = plain_file::open(path).with_context(|| format!("cannot open {name}"))?;
        let is_file = file.metadata().with_context(|| format!("cannot read {name}"))?.is_file();
        ensure!(is_file, "{name} is not a file");
        // SAFETY: the map is read-only and private to this value. Our own writers never change
        // a token file in place but rename a new one over it, which leaves this map intact.
        let map = unsafe { Mmap::map(&file) }.with_context(|| format!("cannot map {name}"))?;
        let header = Header::parse(&map).with_context(|| format!("{name}"))?;
        Ok(TokenFile { path: path.to_owned(), map, header })
    }

    /// Whether the file begins as a token file does. An unreadable one does not.
    pub fn is_token_file(path: &Path) -> bool {
        use std::io::Read;
        let mut magic = [0; MAGIC.len()];
        plain_file::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
            && &magic == MAGIC
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.header.len
    }

    /// Whether it holds no token.
    pub fn is_empty(&self) -> bool {
        self.header.len == 0
    }

    /// Size of the vocabulary that the tokens are from.
    pub fn vocab_size(&self) -> usize {
        usize::try_from(self.header.vocab_size).unwrap_or(usize::MAX)
    }

    /// Bytes of text that the tokens were made from.
    pub fn text_bytes(&self) -> u64 {
        self.header.text_bytes
    }

    /// Bytes that one token takes in the file: 2 or 4.
    pub fn token_bytes(&self) -> usize {
        self.header.token_bytes
    }

    /// BLAKE3 of the tokens, in hexadecimal: the identity of the data.
    pub fn hash(&self) -> String {
        blake3::Hash::from_bytes(self.header.payload_hash).to_hex().to_string()
    }

    /// [`Tokenizer::hash`] of the tokenizer that made the file.
    pub fn tokenizer_hash(&self) -> [u8; 32] {
        self.header.tokenizer_hash
    }

    /// The tokens at `range`.
    ///
    /// # Panics
    /// As a slice does, when `range` reaches past [`TokenFile::len`].
    pub fn get(&self, range: Range<usize>) -> Vec<u32> {
        let (width, len) = (self.header.token_bytes, self.header.len);
        assert!(range.end <= len, "tokens up to {} of a file of {len}", range.end);
        let bytes = &self.payload()[range.start * width..range.end * width];
        match width {
            2 => bytes
                .chunks_exact(2)
                .map(|token| u32::from(u16::from_le_bytes([token[0], token[1]])))
                .collect(),
            _ => bytes
                .chunks_exact(4)
                .map(|token| u32::from_le_bytes([token[0], token[1], token[2], token[3]]))
                .collect(),
        }
    }

    /// Reads every token: they must have the recorded hash and lie in the vocabulary.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn verify(&self) -> Result<()> {
        let name = self.path.display();
        let mut hasher = blake3::Hasher::new();
        hasher.update_rayon(self.payload());
        if hasher.finalize().as_bytes() != &self.header.payload_hash {
            bail!("{name} is damaged: its tokens do not have the hash in its header; encode again");
        }
        for start in (0..self.len()).step_by(VERIFY_CHUNK) {
            let tokens = self.get(start..self.len().min(start + VERIFY_CHUNK));
            let outside =
                tokens.iter().position(|&token| u64::from(token) >= self.header.vocab_size);
            if let Some(at) = outside {
                bail!(
                    "{name} is damaged: token {} at position {} is outside of the vocabulary of {}",
                    tokens[at],
                    start + at,
                    self.header.vocab_size
                );
            }
        }
        Ok(())
    }

    fn payload(&self) -> &[u8] {
        &self.map[HEADER..]
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self> {
        ensure!(
            bytes.len() >= HEADER && bytes.starts_with(MAGIC),
            "not a token file; make one with `data encode TEXT --output FILE`"
        );
        let u64_at = |at: usize| bytes[at..].first_chunk().map_or(0, |n| u64::from_le_bytes(*n));
        let u32_at = |at: usize| bytes[at..].first_chunk().map_or(0, |n| u32::from_le_bytes(*n));
        let hash_at = |at: usize| bytes[at..].first_chunk().copied().unwrap_or([0; 32]);
        let version = u32_at(8);
        ensure!(
            version == VERSION,
            "token file of version {version}, expected {VERSION}; encode the text again"
        );
        let token_bytes = u32_at(12);
        ensure!(matches!(token_bytes, 2 | 4), "{token_bytes} bytes a token, expected 2 or 4");
        let len = u64_at(16);
        let expected =
            len.checked_mul(token_bytes.into()).and_then(|n| n.checked_add(HEADER as u64));
        ensure!(
            expected == Some(bytes.len() as u64),
            "the header promises {len} tokens of {token_bytes} bytes behind {HEADER} bytes of \
             header, but the file has {} bytes; it was cut short or added to: encode again",
            bytes.len()
        );
        let vocab_size = u64_at(24);
        let largest = if token_bytes == 2 { 1 << 16 } else { 1 << 32 };
        ensure!(vocab_size <= largest, "a vocabulary of {vocab_size}, expected at most {largest}");
        ensure!(
            bytes[104..HEADER].iter().all(|&byte| byte == 0),
            "bytes 104 to {HEADER} of the header are not zero"
        );
        Ok(Header {
            token_bytes: token_bytes as usize,
            len: usize::try_from(len).context("more tokens than this machine can address")?,
            vocab_size,
            text_bytes: u64_at(32),
            tokenizer_hash: hash_at(40),
            payload_hash: hash_at(72),
        })
    }

    fn to_bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.token_bytes as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&(self.len as u64).to_le_bytes());
        bytes[24..32].copy_from_slice(&self.vocab_size.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.text_bytes.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.tokenizer_hash);
        bytes[72..104].copy_from_slice(&self.payload_hash);
        bytes
    }
}

/// Writes the tokens as they come; the header, which knows their number and hash, goes last.
#[derive(Debug)]
pub(crate) struct TokenWriter<'a> {
    out: &'a mut BufWriter<File>,
    header: Header,
    hasher: blake3::Hasher,
    bytes: Vec<u8>,
}

impl<'a> TokenWriter<'a> {
    /// Leaves room for the header. Ids take two bytes where the vocabulary allows it.
    pub fn new(out: &'a mut BufWriter<File>, tokenizer: &Tokenizer) -> Result<Self> {
        out.write_all(&[0; HEADER])?;
        let vocab_size = tokenizer.vocab_size() as u64;
        let header = Header {
            token_bytes: if vocab_size <= 1 << 16 { 2 } else { 4 },
            len: 0,
            vocab_size,
            text_bytes: 0,
            tokenizer_hash: tokenizer.hash(),
            payload_hash: [0; 32],
        };
        Ok(TokenWriter { out, header, hasher: blake3::Hasher::new(), bytes: Vec::new() })
    }

    /// Appends tokens, which must be below the size of the vocabulary.
    pub fn push(&mut self, tokens: &[u32]) -> Result<()> {
        self.bytes.clear();
        if self.header.token_bytes == 2 {
            self.bytes.extend(tokens.iter().flat_map(|&token| (token as u16).to_le_bytes()));
        } else {
            self.bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
        }
        self.header.len += tokens.len();
        self.hasher.update(&self.bytes);
        self.out.write_all(&self.bytes)?;
        Ok(())
    }

    /// Completes the header; gives the number of tokens, the bytes of each and their hash.
    pub fn finish(mut self, text_bytes: u64) -> Result<(u64, usize, String)> {
        let hash = self.hasher.finalize();
        self.header.text_bytes = text_bytes;
        self.header.payload_hash = *hash.as_bytes();
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&self.header.to_bytes())?;
        self.out.seek(SeekFrom::End(0))?;
        Ok((self.header.len as u64, self.header.token_bytes, hash.to_hex().to_string()))
    }
}
