//! The token file: a corpus as ids, memory-mapped, so that any number of readers share it. A large corpus
//! is several of them, shards, with a list (`list.rs`); readers see them as one.
//!
//! ```text
//! byte  0  magic "PGPTOKEN"            all numbers little-endian
//!       8  u32 version: 1 without sections behind the tokens, 2 with them
//!      12  u32 bytes in one token, 2 or 4
//!      16  u64 number of tokens
//!      24  u64 size of the vocabulary; every token is below it
//!      32  u64 bytes of text that the tokens were made from
//!      40  32 bytes: hash of the tokenizer
//!      72  32 bytes: BLAKE3 of everything from byte 128 on
//!     104  u64 number of documents; 0 if the file does not say where they end
//!     112  u32 1 if the file says which tokens train, otherwise 0
//!     116  zeros
//!     128  the tokens, then zeros up to a multiple of 8 bytes
//!          u64 for each document: the tokens up to its end. Never falling, the last one the number of
//!          tokens
//!          one bit for each token, in the order of its bytes from the lowest bit on: 1 if predicting
//!          this token trains; then zeros up to a whole byte
//! ```
//!
//! Version 1 has zeros from byte 104 to 128, and nothing behind the tokens: a text that is one document.
//!
//! Opening reads the header only, whatever the file's size; [`TokenFile::verify`] reads it all.

mod list;
mod shard;
mod writer;

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

pub(crate) use list::{LIST_FILE, ListedShard, Origin, ShardList};
pub(crate) use shard::Shard;
pub use writer::{TokenWriter, Written};

/// A token file, or several that are one corpus, opened for reading.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    sources: Vec<PathBuf>,
    /// At least one.
    members: Vec<Member>,
    len: usize,
    documents: usize,
}

/// A shard and what lies before it.
#[derive(Debug)]
struct Member {
    shard: Shard,
    /// Tokens before it.
    start: usize,
    /// The document that its first one is, or goes on with.
    first_document: usize,
    /// Whether its first document began in the shard before.
    continues: bool,
}

impl TokenFile {
    /// Maps a token file, or all files of a folder that `data encode` wrote, and checks headers and
    /// sizes.
    ///
    /// # Errors
    /// When one cannot be read, is no token file, is of another version, is cut short, or is not the one
    /// that the list names.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_all(&[path])
    }

    /// The same for several, in this order.
    ///
    /// # Errors
    /// Those of [`TokenFile::open`]; files of different tokenizers.
    pub fn open_all<P: AsRef<Path>>(paths: &[P]) -> Result<Self> {
        let first = paths.first().context("no token file is named; expected at least one")?;
        let mut file = TokenFile {
            path: first.as_ref().to_owned(),
            sources: Vec::new(),
            members: Vec::new(),
            len: 0,
            documents: 0,
        };
        for path in paths {
            let path = path.as_ref();
            let source = if path.is_dir() { path.join(LIST_FILE) } else { path.to_owned() };
            if path.is_dir() || list::is_list(path) {
                file.add_list(&source)?;
            } else {
                file.add(Shard::open(path)?, false)?;
            }
            file.sources.push(source);
        }
        Ok(file)
    }

    /// The tokens that the section `[data]` of a run file names, each source as often as its weight says;
    /// `None` if it names texts or records.
    ///
    /// # Errors
    /// Those of [`TokenFile::open_all`]; tokens beside something else.
    pub fn of_run_file(data: &config::Data) -> Result<Option<Self>> {
        let sources: Vec<(&config::Paths, u32)> = match data.source.as_slice() {
            [] => vec![(&data.path, 1)],
            sources => sources.iter().map(|source| (&source.path, source.weight)).collect(),
        };
        let mut paths: Vec<&PathBuf> = Vec::new();
        for (named, weight) in sources {
            (0..weight).for_each(|_| paths.extend(named.as_slice()));
        }
        let (tokens, others): (Vec<&PathBuf>, Vec<&PathBuf>) =
            paths.into_iter().partition(|path| Self::is_token_file(path));
        let Some(first) = tokens.first() else { return Ok(None) };
        if let Some(other) = others.first() {
            bail!(
                "{} holds tokens and {} does not; expected tokens, or what is to be encoded",
                first.display(),
                other.display()
            );
        }
        Self::open_all(&tokens).map(Some)
    }

    /// The files that say what this one holds: the lists of shards, which have their hashes, and token
    /// files that were named themselves.
    pub fn sources(&self) -> &[PathBuf] {
        &self.sources
    }

    fn add_list(&mut self, path: &Path) -> Result<()> {
        let folder = path.parent().unwrap_or(Path::new(""));
        for listed in ShardList::read(path)?.shards {
            let shard = Shard::open(&folder.join(&listed.file))?;
            ensure!(
                shard.len() as u64 == listed.tokens
                    && shard.hash().to_hex().as_str() == listed.blake3,
                "{}: {} is not the file that this list was written for ({} tokens, expected {}); encode \
                 again",
                path.display(),
                listed.file.display(),
                shard.len(),
                listed.tokens
            );
            self.add(shard, listed.continues)?;
        }
        Ok(())
    }

    fn add(&mut self, shard: Shard, continues: bool) -> Result<()> {
        if let Some(first) = self.members.first() {
            ensure!(
                first.shard.tokenizer_hash() == shard.tokenizer_hash(),
                "{} and {} were made with different tokenizers; encode one of them again",
                first.shard.path().display(),
                shard.path().display()
            );
        }
        let continues = continues && !self.members.is_empty();
        let first_document = self.documents - usize::from(continues);
        self.documents = first_document + shard.documents();
        let start = self.len;
        self.len = start.checked_add(shard.len()).context("more tokens than can be addressed")?;
        self.members.push(Member { shard, start, first_document, continues });
        Ok(())
    }

    /// Whether `path` is what [`TokenFile::open`] reads, by how it begins. An unreadable file is not.
    pub fn is_token_file(path: &Path) -> bool {
        if path.is_dir() {
            return list::is_list(&path.join(LIST_FILE));
        }
        let mut magic = [0; shard::MAGIC.len()];
        let begins =
            plain_file::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok();
        begins && &magic == shard::MAGIC || list::is_list(path)
    }

    /// Writes a list of the files, by which [`TokenFile::open`] finds them from anywhere.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_list(&self, path: &Path) -> Result<()> {
        let listed = |member: &Member| {
            let file = member.shard.path();
            let file = std::path::absolute(file)
                .with_context(|| format!("cannot find {}", file.display()))?;
            Ok(ListedShard::new(file, &member.shard, member.continues))
        };
        let shards = self.members.iter().map(listed).collect::<Result<_>>()?;
        ShardList::new(shards, None).write(path, true)
    }

    fn first(&self) -> &Shard {
        &self.members[0].shard
    }

    /// The number of the shard that the token at `position` is in.
    fn member_at(&self, position: usize) -> usize {
        self.members.partition_point(|member| member.start <= position).saturating_sub(1)
    }

    /// The parts of `range` with the shards that they are in.
    fn parts(&self, range: Range<usize>) -> impl Iterator<Item = (&Shard, Range<usize>)> {
        let len = self.len;
        assert!(range.end <= len, "tokens up to {} of a file of {len}", range.end);
        let members = self.members[self.member_at(range.start)..].iter();
        members.take_while(move |member| member.start < range.end).filter_map(move |member| {
            let from = range.start.max(member.start) - member.start;
            let to = (range.end - member.start).min(member.shard.len());
            (from < to).then_some((&member.shard, from..to))
        })
    }

    /// Where the file is, or the first of several.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of files.
    pub fn shards(&self) -> usize {
        self.members.len()
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Size of the vocabulary that the tokens are from.
    pub fn vocab_size(&self) -> usize {
        self.first().vocab_size()
    }

    /// Bytes of text that the tokens were made from.
    pub fn text_bytes(&self) -> u64 {
        self.members.iter().map(|member| member.shard.text_bytes()).fold(0, u64::saturating_add)
    }

    /// Bytes that one token takes in the file: 2 or 4.
    pub fn token_bytes(&self) -> usize {
        self.first().token_bytes()
    }

    /// BLAKE3 of the tokens and of the sections, in hexadecimal: the identity of the data. Of several
    /// files, BLAKE3 of theirs, each followed by a byte that says whether a document goes on in it.
    pub fn hash(&self) -> String {
        if let [only] = self.members.as_slice() {
            return only.shard.hash().to_hex().to_string();
        }
        let mut hasher = blake3::Hasher::new();
        for member in &self.members {
            hasher.update(member.shard.hash().as_bytes()).update(&[u8::from(member.continues)]);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// [`crate::Tokenizer::hash`] of the tokenizer that made the file.
    pub fn tokenizer_hash(&self) -> [u8; 32] {
        self.first().tokenizer_hash()
    }

    /// The tokens at `range`.
    ///
    /// # Panics
    /// As a slice does, when `range` reaches past [`TokenFile::len`].
    pub fn get(&self, range: Range<usize>) -> Vec<u32> {
        let mut parts = self.parts(range);
        let mut tokens = parts.next().map(|(shard, range)| shard.get(range)).unwrap_or_default();
        parts.for_each(|(shard, range)| tokens.extend(shard.get(range)));
        tokens
    }

    /// Reads every token: they must have the recorded hash and lie in the vocabulary.
    ///
    /// # Errors
    /// When a file is damaged.
    pub fn verify(&self) -> Result<()> {
        self.members.iter().try_for_each(|member| member.shard.verify())
    }

    /// The positions of each document; of a file without them, all tokens as one.
    pub fn documents(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        (0..self.documents).map(|index| self.document(index))
    }

    /// The positions of one of [`TokenFile::documents`].
    ///
    /// # Panics
    /// When there are fewer documents.
    pub fn document(&self, index: usize) -> Range<usize> {
        assert!(index < self.documents, "document {index} of {}", self.documents);
        let last = |member: &Member| member.first_document + member.shard.documents() - 1;
        let begins = self.members.partition_point(|member| last(member) < index);
        let ends = self.members.partition_point(|member| member.first_document <= index) - 1;
        let place = |member: &Member| {
            let range = member.shard.document(index - member.first_document);
            member.start + range.start..member.start + range.end
        };
        place(&self.members[begins]).start..place(&self.members[ends]).end
    }

    /// The number of the document that the token at `position` is of.
    pub fn document_at(&self, position: usize) -> usize {
        let member = &self.members[self.member_at(position)];
        member.first_document + member.shard.document_at(position - member.start)
    }

    /// Whether the file says where its documents end.
    pub fn has_documents(&self) -> bool {
        self.documents > 1 || self.members.iter().any(|member| member.shard.has_documents())
    }

    /// Whether the file says which tokens train; otherwise all do.
    pub fn has_mask(&self) -> bool {
        self.members.iter().any(|member| member.shard.has_mask())
    }

    /// For each token at `range`, whether predicting it trains.
    ///
    /// # Panics
    /// As a slice does, when `range` reaches past [`TokenFile::len`].
    pub fn trains(&self, range: Range<usize>) -> Vec<bool> {
        self.parts(range).flat_map(|(shard, range)| shard.trains(range)).collect()
    }
}
