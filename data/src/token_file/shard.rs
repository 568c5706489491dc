//! One token file: its layout, its header, and the map of it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;

pub(super) const MAGIC: &[u8; 8] = b"PGPTOKEN";
/// A file without sections.
const VERSION: u32 = 1;
/// A file with sections.
const VERSION_SECTIONS: u32 = 2;
pub(super) const HEADER: usize = 128;
/// Bytes of the end of one document.
pub(super) const END_BYTES: usize = 8;
/// Tokens that `TokenFile::verify` looks at in one go.
const VERIFY_CHUNK: usize = 1 << 20;

/// A token file, opened for reading.
#[derive(Debug)]
pub(crate) struct Shard {
    path: PathBuf,
    map: Mmap,
    header: Header,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub token_bytes: usize,
    pub len: usize,
    pub vocab_size: u64,
    pub text_bytes: u64,
    pub tokenizer_hash: [u8; 32],
    pub payload_hash: [u8; 32],
    pub documents: usize,
    pub has_mask: bool,
}

impl Shard {
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
        Ok(Shard { path: path.to_owned(), map, header })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.header.len
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

    /// BLAKE3 of the tokens and of the sections: the identity of the data.
    pub fn hash(&self) -> blake3::Hash {
        blake3::Hash::from_bytes(self.header.payload_hash)
    }

    /// [`crate::Tokenizer::hash`] of the tokenizer that made the file.
    pub fn tokenizer_hash(&self) -> [u8; 32] {
        self.header.tokenizer_hash
    }

    /// The tokens at `range`.
    ///
    /// # Panics
    /// As a slice does, when `range` reaches past [`Shard::len`].
    pub fn get(&self, range: Range<usize>) -> Vec<u32> {
        let (width, len) = (self.header.token_bytes, self.header.len);
        assert!(range.end <= len, "tokens up to {} of a file of {len}", range.end);
        let bytes = &self.tokens()[range.start * width..range.end * width];
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
        self.verify_sections()
    }

    /// Number of documents; of a file without them, all tokens are one.
    pub fn documents(&self) -> usize {
        self.header.documents.max(1)
    }

    /// The positions of one of [`Shard::documents`].
    ///
    /// # Panics
    /// When there are fewer documents.
    pub fn document(&self, index: usize) -> Range<usize> {
        assert!(index < self.header.documents.max(1), "document {index}");
        let start = if index == 0 { 0 } else { self.document_end(index - 1) };
        start..self.document_end(index)
    }

    fn document_end(&self, index: usize) -> usize {
        let at = self.header.ends_at() + index * END_BYTES;
        let end = self.map.get(at..).and_then(|bytes| bytes.first_chunk());
        let end = end.map_or(u64::MAX, |end| u64::from_le_bytes(*end));
        if self.header.documents == 0 { self.len() } else { end.min(self.len() as u64) as usize }
    }

    /// The number of the document that the token at `position` is of.
    pub fn document_at(&self, position: usize) -> usize {
        let (mut low, mut high) = (0, self.header.documents.max(1));
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.document(middle).start <= position { low = middle } else { high = middle }
        }
        low
    }

    /// Whether the file says where its documents end.
    pub fn has_documents(&self) -> bool {
        self.header.documents > 0
    }

    /// Whether the file says which tokens train; otherwise all do.
    pub fn has_mask(&self) -> bool {
        self.header.has_mask
    }

    /// For each token at `range`, whether predicting it trains.
    ///
    /// # Panics
    /// As a slice does, when `range` reaches past [`Shard::len`].
    pub fn trains(&self, range: Range<usize>) -> Vec<bool> {
        let len = self.len();
        assert!(range.end <= len, "tokens up to {} of a file of {len}", range.end);
        if !self.header.has_mask {
            return vec![true; range.len()];
        }
        let mask = &self.map[self.header.mask_at()..];
        range.map(|at| mask[at / 8] >> (at % 8) & 1 == 1).collect()
    }

    fn payload(&self) -> &[u8] {
        &self.map[HEADER..]
    }

    fn tokens(&self) -> &[u8] {
        &self.payload()[..self.header.len * self.header.token_bytes]
    }

    /// What hash and size cannot say of the sections.
    fn verify_sections(&self) -> Result<()> {
        let name = self.path.display();
        let (header, mut before) = (&self.header, 0);
        for index in 0..header.documents {
            let at = header.ends_at() + index * END_BYTES;
            let end = self.map[at..].first_chunk().map_or(0, |end| u64::from_le_bytes(*end));
            let is_last = index + 1 == header.documents;
            if end < before || end > header.len as u64 || is_last && end != header.len as u64 {
                bail!(
                    "{name} is damaged: document {} of {} ends at token {end}, the one before at \
                     {before}, and there are {} tokens",
                    index + 1,
                    header.documents,
                    header.len
                );
            }
            before = end;
        }
        let spare = header.len % 8;
        if header.has_mask && spare > 0 && self.map.last().is_some_and(|last| last >> spare != 0) {
            bail!("{name} is damaged: bits behind the last token are set");
        }
        Ok(())
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
            [VERSION, VERSION_SECTIONS].contains(&version),
            "token file of version {version}, expected {VERSION} or {VERSION_SECTIONS}; encode the text \
             again"
        );
        let token_bytes = u32_at(12);
        ensure!(matches!(token_bytes, 2 | 4), "{token_bytes} bytes a token, expected 2 or 4");
        let len = u64_at(16);
        let zeros = if version == VERSION { 104 } else { 116 };
        ensure!(
            bytes[zeros..HEADER].iter().all(|&byte| byte == 0),
            "bytes {zeros} to {HEADER} of the header are not zero"
        );
        let (documents, mask) = (u64_at(104), u32_at(112));
        ensure!(mask <= 1, "{mask} where 1 says that the file tells which tokens train, and 0 not");
        ensure!(
            version == VERSION || documents > 0 || mask == 1,
            "a file of version {VERSION_SECTIONS} without sections; encode the text again"
        );
        let expected = size_of_file(len, token_bytes, documents, mask == 1, version);
        ensure!(
            expected == Some(bytes.len() as u64),
            "the header promises {len} tokens of {token_bytes} bytes and {documents} documents behind \
             {HEADER} bytes of header, but the file has {} bytes; it was cut short or added to: encode \
             again",
            bytes.len()
        );
        let vocab_size = u64_at(24);
        let largest = if token_bytes == 2 { 1 << 16 } else { 1 << 32 };
        ensure!(vocab_size <= largest, "a vocabulary of {vocab_size}, expected at most {largest}");
        Ok(Header {
            token_bytes: token_bytes as usize,
            len: usize::try_from(len).context("more tokens than this machine can address")?,
            vocab_size,
            text_bytes: u64_at(32),
            tokenizer_hash: hash_at(40),
            payload_hash: hash_at(72),
            documents: usize::try_from(documents)?,
            has_mask: mask == 1,
        })
    }

    fn version(&self) -> u32 {
        if self.documents > 0 || self.has_mask { VERSION_SECTIONS } else { VERSION }
    }

    /// Where the ends of documents begin in a file that has sections.
    fn ends_at(&self) -> usize {
        HEADER + (self.len * self.token_bytes).next_multiple_of(END_BYTES)
    }

    fn mask_at(&self) -> usize {
        self.ends_at() + self.documents * END_BYTES
    }

    pub fn to_bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&self.version().to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.token_bytes as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&(self.len as u64).to_le_bytes());
        bytes[24..32].copy_from_slice(&self.vocab_size.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.text_bytes.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.tokenizer_hash);
        bytes[72..104].copy_from_slice(&self.payload_hash);
        bytes[104..112].copy_from_slice(&(self.documents as u64).to_le_bytes());
        bytes[112..116].copy_from_slice(&u32::from(self.has_mask).to_le_bytes());
        bytes
    }
}

/// Bytes of a whole file; none where that is beyond 64 bits.
fn size_of_file(len: u64, width: u32, documents: u64, mask: bool, version: u32) -> Option<u64> {
    let tokens = len.checked_mul(width.into())?;
    if version == VERSION {
        return tokens.checked_add(HEADER as u64);
    }
    let mask = if mask { len.div_ceil(8) } else { 0 };
    tokens
        .checked_next_multiple_of(END_BYTES as u64)?
        .checked_add(documents.checked_mul(END_BYTES as u64)?)?
        .checked_add(mask)?
        .checked_add(HEADER as u64)
}
