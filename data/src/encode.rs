//! Text to token file, in parallel and in bounded memory.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use checkpoint::atomic;
use serde::Serialize;

use crate::corpus::{Corpus, Source};
use crate::text::for_each_part;
use crate::token_file::TokenWriter;
use crate::tokenizer::{ParallelEncoder, WordsBuilder};
use crate::{TokenFile, Tokenizer, resolve_corpus};

/// What [`encode_file`] did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EncodeReport {
    /// The text, as it was named.
    pub input: String,
    /// The token file.
    pub output: PathBuf,
    /// Kind of the tokenizer.
    pub tokenizer: String,
    /// Size of its vocabulary.
    pub vocab_size: usize,
    /// Size of the text in bytes.
    pub text_bytes: u64,
    /// Number of tokens.
    pub tokens: u64,
    /// Bytes of one token in the file.
    pub token_bytes: usize,
    /// BLAKE3 of the tokens, in hexadecimal.
    pub tokens_blake3: String,
    /// Threads that encoded.
    pub threads: usize,
    /// Wall time of reading, encoding and writing, in seconds, without the disk's own time to
    /// make the file safe at the end.
    pub seconds: f64,
    /// Millions of bytes of text a second.
    pub megabytes_per_second: f64,
}

impl fmt::Display for EncodeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_token = self.text_bytes as f64 / self.tokens.max(1) as f64;
        writeln!(f, "text        {} ({})", self.input, cli::bytes(self.text_bytes))?;
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
        writeln!(f, "blake3      {}", self.tokens_blake3)?;
        write!(f, "output      {} ({} bytes a token)", self.output.display(), self.token_bytes)
    }
}

/// Encodes a text (a file, a known corpus or `builtin`) on all threads of the rayon pool into a
/// token file at `output`, which appears whole or not at all.
///
/// Memory does not grow with the text: it is read, encoded and written a few MiB at a time.
///
/// # Errors
/// A text that is missing or not UTF-8 or has something that the vocabulary lacks, an output that
/// exists (unless `force`) or cannot be written.
pub fn encode_file(
    text: &Path,
    tokenizer: &Tokenizer,
    output: &Path,
    force: bool,
) -> Result<EncodeReport> {
    let corpus = resolve_corpus(text)?;
    if let Source::File(path) = corpus.source() {
        check_input(path, output)?;
    }
    let progress = cli::Progress::new("encode", corpus.size()?, cli::Meter::Bytes);
    let (text_bytes, seconds, (tokens, token_bytes, hash)) =
        atomic::write_file::<_, anyhow::Error>(output, force, |out| {
            let mut writer = TokenWriter::new(out, tokenizer)?;
            let encoder = ParallelEncoder::new(tokenizer);
            let start = Instant::now();
            let text_bytes = read_parts(&corpus, tokenizer, |part, start| {
                let segments = encoder.encode(part, start == 0);
                for segment in segments.map_err(|missing| missing.behind(start))? {
                    writer.push(&segment)?;
                }
                progress.advance(part.len() as u64);
                Ok(())
            })?;
            Ok((text_bytes, start.elapsed().as_secs_f64(), writer.finish(text_bytes)?))
        })?;
    progress.finish();
    Ok(EncodeReport {
        input: corpus.name().to_owned(),
        output: output.to_owned(),
        tokenizer: tokenizer.kind().to_owned(),
        vocab_size: tokenizer.vocab_size(),
        text_bytes,
        tokens,
        token_bytes,
        tokens_blake3: hash,
        threads: rayon::current_num_threads(),
        seconds,
        megabytes_per_second: text_bytes as f64 / 1e6 / seconds.max(1e-9),
    })
}

/// A token file is no text, and `force` must not replace the text by its tokens.
fn check_input(text: &Path, output: &Path) -> Result<()> {
    let name = text.display();
    ensure!(!TokenFile::is_token_file(text), "{name} is a token file already; expected a text");
    ensure!(
        !atomic::same_place(text, output),
        "{name} is the text and the output at once; name another output"
    );
    Ok(())
}

/// The `simple` tokenizer of a text (a file, a known corpus or `builtin`), read in parts.
///
/// # Errors
/// As for [`encode_file`], on the reading side.
pub fn simple_from_file(text: &Path) -> Result<Tokenizer> {
    let corpus = resolve_corpus(text)?;
    let mut builder = WordsBuilder::default();
    let before_space = |part: &str| part.rfind(char::is_whitespace);
    for_each_part(open(&corpus)?, before_space, |part| {
        builder.add(part);
        Ok(())
    })
    .with_context(|| corpus.name().to_owned())?;
    Ok(Tokenizer::from_words(builder.finish()))
}

/// Calls `visit` with the parts of a corpus and where each begins, in bytes; each encodes as it
/// would inside of the whole.
pub(crate) fn read_parts(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    mut visit: impl FnMut(&str, u64) -> Result<()>,
) -> Result<u64> {
    let mut start = 0;
    let visit = |part: &str| {
        visit(part, start)?;
        start += part.len() as u64;
        Ok(())
    };
    for_each_part(open(corpus)?, |part| tokenizer.last_cut(part), visit)
        .with_context(|| corpus.name().to_owned())
}

/// The text of a corpus.
pub(crate) fn open(corpus: &Corpus) -> Result<Box<dyn Read + '_>> {
    Ok(match corpus.source() {
        Source::Builtin(text) => Box::new(text.as_bytes()),
        Source::File(path) => {
            let file = plain_file::open(path);
            Box::new(file.with_context(|| format!("cannot open {}", path.display()))?)
        }
    })
}
