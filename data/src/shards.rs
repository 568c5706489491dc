//! A corpus of any size as a folder of token files (shards), written so that an encoding that was
//! stopped goes on with the first shard that is not finished.
//!
//! ```text
//! tokens.partial/                  while it is written; its lock keeps other encoders out
//!     shard-00000.bin ...          each appears whole
//!     journal.jsonl                what is read and how; then, for each shard, where the next one begins
//! tokens/                          the same folder when it is complete
//!     shard-00000.bin ...
//!     tokens.json                  the list
//! ```
//!
//! Shards are cut by the number of their tokens, so a document may go on in the next one. Equal inputs
//! and settings give equal shards, whether or not the encoding was stopped.

mod journal;
mod settings;

use std::fs;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use checkpoint::atomic::{self, AtomicError};
use checkpoint::{CheckpointError, RunLock};

pub(crate) use settings::Settings;

use crate::corpus::Corpus;
use crate::documents::{Position, ReadFrom, ReadReport};
use crate::encode::{EncodedPart, EncodedParts, check_inputs, end_of_document, with_tokens};
use crate::token_file::{LIST_FILE, ListedShard, Origin, Shard, ShardList};
use crate::{EncodeReport, TokenFile, TokenWriter, Tokenizer};

use journal::{Entry, Journal, Next};

/// Most bytes of a shard unless the user says otherwise.
pub const SHARD_BYTES: u64 = 1 << 30;
/// Least bytes that may be asked for.
const SMALLEST: u64 = 4 << 10;
/// Most shards of a corpus; a reader has all of them open.
const MOST_SHARDS: usize = 1 << 16;
const LOCK_FILE: &str = ".lock";

/// Encodes the documents of a corpus, as [`crate::encode_file`] does, into a folder of token files of at
/// most `shard_bytes` each. The folder appears at `output` when it is complete; until then it is
/// `OUTPUT.partial`. The same call after one that was stopped goes on with the first shard that is
/// missing. An input that can be read only once is encoded from the beginning again.
///
/// # Errors
/// Those of [`crate::encode_file`]; another encoder that writes the same folder; inputs, a tokenizer or
/// settings that have changed since an encoding was stopped (unless `force`, which starts anew).
pub fn encode_shards(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    output: &Path,
    shard_bytes: u64,
    force: bool,
) -> Result<EncodeReport> {
    ensure!(shard_bytes >= SMALLEST, "shards of {shard_bytes} bytes; expected at least {SMALLEST}");
    check_inputs(corpus, output)?;
    check_output(output, force)?;
    let end = end_of_document(corpus, tokenizer)?;
    let settings = Settings::of(corpus, tokenizer, shard_bytes)?;
    let (folder, lock) = lock(output)?;
    let start = Instant::now();
    let mut work = Work::open(folder, settings, corpus, force)?;
    let resumed = work.journal.entries.clone();
    let before = resumed.last().map_or(0, |entry| entry.next.text_bytes);
    let read = match work.complete.take() {
        Some(read) => read,
        None => work.encode(corpus, tokenizer, end)?,
    };
    let seconds = start.elapsed().as_secs_f64();
    work.publish(output, force)?;
    drop(lock);
    let file = TokenFile::open(output)?;
    Ok(EncodeReport {
        input: corpus.to_string(),
        output: output.to_owned(),
        tokenizer: tokenizer.kind().to_owned(),
        vocab_size: tokenizer.vocab_size(),
        tokens: file.len() as u64,
        shards: Some(file.shards()),
        resumed_tokens: resumed.iter().map(|entry| entry.shard.tokens).sum(),
        token_bytes: file.token_bytes(),
        tokens_blake3: file.hash(),
        threads: rayon::current_num_threads(),
        seconds,
        megabytes_per_second: (read.text_bytes - before) as f64 / 1e6 / seconds.max(1e-9),
        read,
    })
}

/// Refuses what is not replaced, before anything is read.
fn check_output(output: &Path, force: bool) -> Result<()> {
    let name = output.display();
    if output.symlink_metadata().is_err() {
        return Ok(());
    }
    ensure!(output.is_dir(), "{name} is a file; name a folder for the shards");
    let is_empty = fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_none());
    ensure!(
        is_empty || TokenFile::is_token_file(output),
        "{name} holds something else than shards of tokens, which is not replaced; name another folder"
    );
    ensure!(is_empty || force, AtomicError::Exists { path: output.to_owned() });
    Ok(())
}

/// Makes the folder that is written into, and keeps others out of it.
fn lock(output: &Path) -> Result<(PathBuf, RunLock)> {
    let name = output.file_name().with_context(|| {
        format!("{} does not end in a name; write the name out", output.display())
    })?;
    let mut partial = name.to_owned();
    partial.push(".partial");
    let partial = output.with_file_name(partial);
    atomic::create_folders(&partial)
        .with_context(|| format!("cannot write in the folder {}", partial.display()))?;
    match RunLock::take(&partial, "data encode") {
        Err(CheckpointError::InUse { holder, .. }) => bail!(
            "{} is being written by {holder}: wait until that is done, or name another output",
            output.display()
        ),
        lock => Ok((partial, lock?)),
    }
}

/// An encoding that is not finished.
struct Work {
    folder: PathBuf,
    settings: Settings,
    journal: Journal,
    /// What was read, if all shards and the list are there already.
    complete: Option<ReadReport>,
}

impl Work {
    /// What is left of an earlier encoding, or a new one.
    fn open(folder: PathBuf, settings: Settings, corpus: &Corpus, force: bool) -> Result<Self> {
        atomic::remove_leftovers(&folder);
        let is_stream = corpus.inputs().any(crate::Inputs::is_stream);
        let list = folder.join(LIST_FILE);
        if !force && !is_stream {
            if list.exists() {
                let origin = ShardList::read(&list)?.origin;
                let origin = origin.with_context(|| format!("{}: no origin", list.display()))?;
                settings.check(&origin.settings, &folder)?;
                let journal = Journal::read(&folder)?.map(|(_, journal)| journal);
                let journal = journal.unwrap_or_default();
                return Ok(Work { folder, settings, journal, complete: Some(origin.read) });
            }
            if let Some((before, journal)) = Journal::read(&folder)? {
                settings.check(&before, &folder)?;
                journal.entries.iter().try_for_each(|entry| check_shard(&folder, entry))?;
                let journal = journal.start(&folder, &settings)?;
                return Ok(Work { folder, settings, journal, complete: None });
            }
        }
        if is_stream && Journal::read(&folder).is_ok_and(|found| found.is_some()) {
            cli::note(&format!(
                "{corpus} can be read only once, so the encoding that was stopped starts anew"
            ));
        }
        clear(&folder)?;
        let journal = Journal::default().start(&folder, &settings)?;
        Ok(Work { folder, settings, journal, complete: None })
    }

    /// Gives the folder its name, with nothing but shards and their list in it.
    fn publish(self, output: &Path, force: bool) -> Result<()> {
        for name in [journal::FILE, LOCK_FILE] {
            let path = self.folder.join(name);
            if path.exists() {
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(atomic::publish_folder(&self.folder, output, force)?)
    }

    /// Writes the shards that are missing, and the list.
    fn encode(
        &mut self,
        corpus: &Corpus,
        tokenizer: &Tokenizer,
        end: Option<u32>,
    ) -> Result<ReadReport> {
        let progress = cli::Progress::new("encode", corpus.size()?, cli::Meter::Bytes);
        let next = self.journal.entries.last().map(|entry| entry.next.clone()).unwrap_or_default();
        let from = ReadFrom { at: next.at, first_skipped: next.first_skipped.clone() };
        let mut filler = Filler::new(&next, end, self.settings.shard_bytes);
        let mut last = None;
        let ((), mut read) = with_tokens(corpus, tokenizer, &progress, from, |mut parts| {
            while last.is_none() {
                let number = self.journal.entries.len();
                ensure!(
                    number < MOST_SHARDS,
                    "more than {MOST_SHARDS} shards; name larger ones with --max-bytes"
                );
                let file = PathBuf::from(format!("shard-{number:05}.bin"));
                let continues = filler.in_document;
                let path = self.folder.join(&file);
                let (is_full, written) =
                    atomic::write_file::<_, anyhow::Error>(&path, true, |out| {
                        let mut writer = TokenWriter::new(out, tokenizer)?;
                        let is_full = filler.fill(&mut parts, &mut writer)?;
                        let written = writer.finish(mem::take(&mut filler.shard_text_bytes))?;
                        Ok((is_full, written))
                    })?;
                let (tokens, blake3) = (written.tokens, written.hash);
                let shard = ListedShard { file, tokens, blake3, continues };
                if is_full {
                    let first_skipped = parts.first_skipped();
                    let next = filler.next(|count| first_skipped.of(count));
                    self.journal.append(Entry { shard, next })?;
                } else {
                    last = Some(shard);
                }
            }
            Ok(())
        })?;
        progress.finish();
        read.text_bytes += next.text_bytes;
        read.documents += next.documents;
        let shards = self.journal.entries.iter().map(|entry| entry.shard.clone()).chain(last);
        let origin = Origin { settings: self.settings.clone(), read: read.clone() };
        ShardList::new(shards.collect(), Some(origin)).write(&self.folder.join(LIST_FILE), true)?;
        Ok(read)
    }
}

/// Refuses a shard that is not the one of the journal.
fn check_shard(folder: &Path, entry: &Entry) -> Result<()> {
    let path = folder.join(&entry.shard.file);
    let again = "; add --force to encode from the beginning";
    let shard =
        Shard::open(&path).map_err(|error| error.context(format!("cannot go on{again}")))?;
    let found = ListedShard::new(entry.shard.file.clone(), &shard, entry.shard.continues);
    ensure!(found == entry.shard, "{} is not the file that was written{again}", path.display());
    Ok(())
}

/// Removes what an encoding wrote into its folder.
fn clear(folder: &Path) -> Result<()> {
    let failed = || format!("cannot write in the folder {}", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_shard = name.starts_with("shard-") && name.ends_with(".bin");
        if is_shard || name == LIST_FILE || name == journal::FILE {
            fs::remove_file(&path).with_context(failed)?;
        } else {
            ensure!(
                name == LOCK_FILE,
                "{}: {name} is not of an encoding; move it elsewhere, or name another output",
                folder.display()
            );
        }
    }
    Ok(())
}

/// Fills shards with the tokens of parts.
struct Filler {
    end: Option<u32>,
    shard_bytes: u64,
    part: Option<EncodedPart>,
    /// Tokens of the part that are written, its end-of-text token included.
    written: u64,
    /// Whether a shard before this one has the beginning of the part.
    is_begun: bool,
    /// Whether the next token goes on with a document.
    in_document: bool,
    /// Of the parts before.
    text_bytes: u64,
    documents: u64,
    /// Of the parts that begin in this shard.
    shard_text_bytes: u64,
}

impl Filler {
    fn new(next: &Next, end: Option<u32>, shard_bytes: u64) -> Self {
        Filler {
            end,
            shard_bytes,
            part: None,
            written: next.part_tokens,
            is_begun: next.part_tokens > 0,
            in_document: next.in_document,
            text_bytes: next.text_bytes,
            documents: next.documents,
            shard_text_bytes: 0,
        }
    }

    /// Writes tokens until the shard is full (true) or the corpus ends.
    fn fill(&mut self, parts: &mut EncodedParts<'_>, writer: &mut TokenWriter<'_>) -> Result<bool> {
        loop {
            if self.part.is_none() {
                self.part = parts.next_part()?;
            }
            let Some(part) = self.part.take() else { return Ok(false) };
            if !self.write(&part, writer)? {
                self.part = Some(part);
                return Ok(true);
            }
            let bytes = part.part.text.len() as u64;
            self.text_bytes += bytes;
            self.documents += u64::from(part.part.ends_document);
            if !mem::take(&mut self.is_begun) {
                self.shard_text_bytes += bytes;
            }
            self.written = 0;
        }
    }

    /// Writes what is left of a part; false if the shard is full before its end.
    fn write(&mut self, part: &EncodedPart, writer: &mut TokenWriter<'_>) -> Result<bool> {
        let mut before = 0;
        for tokens in &part.tokens {
            let from = self.written.saturating_sub(before).min(tokens.len() as u64) as usize;
            before += tokens.len() as u64;
            let left = &tokens[from..];
            let fits = left.len().min(usize::try_from(writer.room(self.shard_bytes))?);
            writer.push(&left[..fits])?;
            self.written += fits as u64;
            self.in_document |= fits > 0;
            if fits < left.len() {
                return Ok(self.stop(part));
            }
        }
        if let Some(end) = self.end.filter(|_| part.part.ends_document)
            && self.written == before
        {
            if writer.room(self.shard_bytes) == 0 {
                return Ok(self.stop(part));
            }
            writer.push(&[end])?;
            writer.end_document()?;
            self.written += 1;
            self.in_document = false;
        }
        Ok(true)
    }

    /// The rest of the part goes into the next shard; its text counts where it begins.
    fn stop(&mut self, part: &EncodedPart) -> bool {
        if self.written > 0 && !mem::replace(&mut self.is_begun, true) {
            self.shard_text_bytes += part.part.text.len() as u64;
        }
        false
    }

    /// Where the next shard begins.
    fn next(&self, first_skipped: impl Fn(u64) -> Vec<String>) -> Next {
        let at = self.part.as_ref().map_or(Position::default(), |part| part.part.at);
        Next {
            at,
            part_tokens: self.written,
            in_document: self.in_document,
            text_bytes: self.text_bytes,
            documents: self.documents,
            first_skipped: first_skipped(at.skipped),
        }
    }
}

#[cfg(test)]
mod tests;
