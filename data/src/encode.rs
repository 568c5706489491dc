//! Text to token file, in parallel and in bounded memory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use anyhow::{Result, ensure};
use checkpoint::atomic;
use serde::Serialize;

use crate::corpus::Corpus;
use crate::documents::{
    Batch, FirstSkipped, Part, ReadFrom, ReadReport, with_batches, with_batches_from,
};
use crate::inputs::Counter;
use crate::token_file::TokenWriter;
use crate::tokenizer::{ParallelEncoder, WordsBuilder};
use crate::{TokenFile, Tokenizer};

/// What [`encode_file`] did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EncodeReport {
    /// The inputs, as they were named.
    pub input: String,
    /// The token file.
    pub output: PathBuf,
    /// Kind of the tokenizer.
    pub tokenizer: String,
    /// Size of its vocabulary.
    pub vocab_size: usize,
    /// Number of tokens.
    pub tokens: u64,
    /// Files of the output, if it is a folder of shards.
    pub shards: Option<usize>,
    /// Tokens of them that an encoding which was stopped had written.
    pub resumed_tokens: u64,
    /// Bytes of one token in the file.
    pub token_bytes: usize,
    /// BLAKE3 of the tokens and of where documents end, in hexadecimal.
    pub tokens_blake3: String,
    /// Threads that encoded.
    pub threads: usize,
    /// Wall time of reading, encoding and writing, in seconds, without the disk's own time to
    /// make the file safe at the end.
    pub seconds: f64,
    /// Millions of bytes of text a second, of those that were encoded now.
    pub megabytes_per_second: f64,
    /// What was read of the inputs.
    #[serde(flatten)]
    pub read: ReadReport,
}

impl fmt::Display for EncodeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_token = self.read.text_bytes as f64 / self.tokens.max(1) as f64;
        writeln!(f, "text        {} ({})", self.input, cli::bytes(self.read.text_bytes))?;
        write!(f, "{}", self.read)?;
        writeln!(
            f,
            "tokenizer   {}, {} tokens",
            self.tokenizer,
            cli::count(self.vocab_size as u64)
        )?;
        writeln!(f, "tokens      {} ({per_token:.2} bytes each)", cli::count(self.tokens))?;
        writeln!(
            f,
            "speed       {:.1} MB/s on {} threads ({})",
            self.megabytes_per_second,
            self.threads,
            cli::seconds(self.seconds)
        )?;
        if self.resumed_tokens > 0 {
            let resumed = cli::count(self.resumed_tokens);
            writeln!(f, "resumed     {resumed} tokens were there already")?;
        }
        writeln!(f, "blake3      {}", self.tokens_blake3)?;
        if let Some(shards) = self.shards {
            writeln!(f, "shards      {}", cli::count(shards as u64))?;
        }
        write!(f, "output      {} ({} bytes a token)", self.output.display(), self.token_bytes)
    }
}

/// Encodes the documents of a corpus on all threads of the rayon pool into a token file at `output`,
/// which appears whole or not at all.
///
/// One text becomes its tokens and nothing else. Otherwise an end-of-text token follows each document,
/// and the file says where documents end. The tokens do not depend on the number of threads.
///
/// Memory does not grow with the corpus: a few MiB are read, encoded and written at a time, or one
/// record where that is larger. An encoding that was killed starts again from the beginning;
/// [`crate::encode_shards`] goes on instead.
///
/// # Errors
/// Inputs that cannot be read or have something that the vocabulary lacks, documents without an
/// end-of-text token to separate them, an output that exists (unless `force`) or cannot be written.
pub fn encode_file(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    output: &Path,
    force: bool,
) -> Result<EncodeReport> {
    check_inputs(corpus, output)?;
    let end = end_of_document(corpus, tokenizer)?;
    let progress = cli::Progress::new("encode", corpus.size()?, cli::Meter::Bytes);
    let (read, seconds, written) = atomic::write_file::<_, anyhow::Error>(output, force, |out| {
        let mut writer = TokenWriter::new(out, tokenizer)?;
        let start = Instant::now();
        let read = for_each_token(corpus, tokenizer, &progress, |event| match (event, end) {
            (Encoded::Tokens(tokens), _) => writer.push(tokens),
            (Encoded::End, Some(end)) => {
                writer.push(&[end])?;
                writer.end_document()
            }
            (Encoded::End, None) => Ok(()),
        })?;
        let written = writer.finish(read.text_bytes)?;
        Ok((read, start.elapsed().as_secs_f64(), written))
    })?;
    progress.finish();
    Ok(EncodeReport {
        input: corpus.to_string(),
        output: output.to_owned(),
        tokenizer: tokenizer.kind().to_owned(),
        vocab_size: tokenizer.vocab_size(),
        tokens: written.tokens,
        shards: None,
        resumed_tokens: 0,
        token_bytes: written.token_bytes,
        tokens_blake3: written.hash,
        threads: rayon::current_num_threads(),
        seconds,
        megabytes_per_second: read.text_bytes as f64 / 1e6 / seconds.max(1e-9),
        read,
    })
}

/// A token file is no text, and `force` must not replace an input by its tokens.
pub(crate) fn check_inputs(corpus: &Corpus, output: &Path) -> Result<()> {
    for input in corpus.files() {
        let name = input.display();
        ensure!(
            !input.exists() || !TokenFile::is_token_file(input),
            "{name} is a token file already; expected a text"
        );
        ensure!(
            !atomic::same_place(input, output),
            "{name} is an input and the output at once; name another output"
        );
    }
    Ok(())
}

/// The token behind each document; none behind a text that is alone.
pub(crate) fn end_of_document(corpus: &Corpus, tokenizer: &Tokenizer) -> Result<Option<u32>> {
    if corpus.is_one_text() {
        return Ok(None);
    }
    let end = tokenizer.end_of_text();
    ensure!(
        end.is_some(),
        "{corpus}: several documents, and the tokenizer ({}) has no end-of-text token to separate them; \
         expected one text file, or a tokenizer whose folder names its end-of-text token",
        tokenizer.kind()
    );
    Ok(end)
}

/// The `simple` tokenizer of a corpus, which is read in parts.
///
/// # Errors
/// As for [`encode_file`], on the reading side; inputs that cannot be read twice.
pub fn simple_from_file(corpus: &Corpus) -> Result<Tokenizer> {
    corpus.check_repeatable()?;
    let before_space = |part: &str| part.rfind(char::is_whitespace);
    let (words, _) = with_batches(corpus, &Counter::default(), before_space, |batches| {
        let mut builder = WordsBuilder::default();
        batches.into_iter().flatten().for_each(|part| builder.add(&part.text));
        Ok(builder.finish())
    })?;
    Ok(Tokenizer::from_words(words))
}

/// What encoding a corpus gives, in the order of its documents.
pub(crate) enum Encoded<'a> {
    Tokens(&'a [u32]),
    /// The end of a document.
    End,
}

/// Calls `visit` with the tokens of a corpus and the ends of its documents.
pub(crate) fn for_each_token(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    progress: &cli::Progress,
    mut visit: impl FnMut(Encoded<'_>) -> Result<()>,
) -> Result<ReadReport> {
    let from = ReadFrom::default();
    let ((), read) = with_tokens(corpus, tokenizer, progress, from, |mut parts| {
        while let Some(part) = parts.next_part()? {
            part.tokens.iter().try_for_each(|tokens| visit(Encoded::Tokens(tokens)))?;
            if part.part.ends_document {
                visit(Encoded::End)?;
            }
        }
        Ok(())
    })?;
    Ok(read)
}

/// Calls `consume` with the encoded parts of a corpus from a place on.
pub(crate) fn with_tokens<T>(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    progress: &cli::Progress,
    from: ReadFrom,
    consume: impl FnOnce(EncodedParts<'_>) -> Result<T>,
) -> Result<(T, ReadReport)> {
    let counter = Counter::default();
    let last_cut = |part: &str| tokenizer.last_cut(part);
    with_batches_from(corpus, from, &counter, last_cut, |batches, skipped| {
        consume(EncodedParts {
            batches,
            skipped,
            encoder: ParallelEncoder::new(tokenizer),
            parts: Vec::new().into_iter(),
            progress,
            counter: counter.clone(),
            shown: 0,
        })
    })
}

/// A part of a document and its tokens, in several vectors.
pub(crate) struct EncodedPart {
    pub part: Part,
    pub tokens: Vec<Vec<u32>>,
}

/// The encoded parts of a corpus. A batch of them is encoded at a time, on all threads of the pool.
pub(crate) struct EncodedParts<'a> {
    batches: Receiver<Batch>,
    skipped: FirstSkipped,
    encoder: ParallelEncoder<'a>,
    parts: std::vec::IntoIter<EncodedPart>,
    progress: &'a cli::Progress,
    counter: Counter,
    shown: u64,
}

impl EncodedParts<'_> {
    /// The next part; none at the end.
    ///
    /// # Errors
    /// When the vocabulary lacks something of a text.
    pub fn next_part(&mut self) -> Result<Option<EncodedPart>> {
        loop {
            if let Some(part) = self.parts.next() {
                return Ok(Some(part));
            }
            self.progress.advance(self.counter.get() - self.shown);
            self.shown = self.counter.get();
            let Ok(batch) = self.batches.recv() else { return Ok(None) };
            self.parts = self.encode(batch)?.into_iter();
        }
    }

    /// The first of the records that were left out.
    pub fn first_skipped(&self) -> &FirstSkipped {
        &self.skipped
    }

    fn encode(&self, batch: Batch) -> Result<Vec<EncodedPart>> {
        let texts: Vec<_> =
            batch.iter().map(|part| (part.text.as_str(), part.start == 0)).collect();
        let segments = self.encoder.encode_texts(&texts).map_err(|(index, missing)| {
            let part = &batch[index];
            anyhow::Error::from(missing.behind(part.start)).context(part.place.clone())
        })?;
        let mut segments = segments.into_iter().peekable();
        let parts = batch.into_iter().enumerate().map(|(index, part)| {
            let mut tokens = Vec::with_capacity(1);
            while let Some((_, found)) = segments.next_if(|(of, _)| *of == index) {
                tokens.push(found);
            }
            EncodedPart { part, tokens }
        });
        Ok(parts.collect())
    }
}
