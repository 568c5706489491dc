//! `data inspect`: shows the contents of a token file or a text.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::encode::read_parts;
use crate::tokenizer::ParallelEncoder;
use crate::{TokenFile, Tokenizer, resolve_corpus};

/// Tokens read at a time.
const CHUNK: usize = 1 << 20;

/// The result of [`inspect`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InspectReport {
    /// The file, as the user named it.
    pub input: String,
    /// `token file` or `text`.
    pub kind: &'static str,
    /// Kind of the tokenizer.
    pub tokenizer: String,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Number of tokens.
    pub tokens: u64,
    /// Number of tokens of the vocabulary that occur.
    pub distinct_tokens: usize,
    /// Bytes of text.
    pub text_bytes: u64,
    /// Bytes of text for each token.
    pub bytes_per_token: f64,
    /// BLAKE3 of the tokens in hexadecimal; token files only.
    pub tokens_blake3: Option<String>,
    /// The first tokens.
    pub head: Vec<TokenShown>,
    /// The most frequent tokens, most frequent first.
    pub top: Vec<TokenCount>,
}

/// A token and its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenShown {
    /// The token.
    pub id: u32,
    /// Its text; bytes that are not UTF-8 by themselves are shown as U+FFFD.
    pub text: String,
}

/// How often a token occurs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenCount {
    /// The token and its text.
    #[serde(flatten)]
    pub token: TokenShown,
    /// Number of occurrences.
    pub count: u64,
    /// Share of all tokens.
    pub share: f64,
}

impl fmt::Display for InspectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12}{} ({})", self.kind, self.input, cli::bytes(self.text_bytes))?;
        writeln!(
            f,
            "tokenizer   {}, {} tokens",
            self.tokenizer,
            cli::count(self.vocab_size as u64)
        )?;
        writeln!(
            f,
            "tokens      {}, {} different ones, {:.2} bytes of text each",
            cli::count(self.tokens),
            cli::count(self.distinct_tokens as u64),
            self.bytes_per_token
        )?;
        if let Some(hash) = &self.tokens_blake3 {
            writeln!(f, "blake3      {hash} (verified)")?;
        }
        let head: Vec<String> =
            self.head.iter().map(|token| format!("{}={:?}", token.id, token.text)).collect();
        writeln!(f, "head        {}", head.join(" "))?;
        write!(f, "most frequent")?;
        for TokenCount { token, count, share } in &self.top {
            let percent = share * 100.0;
            let count = cli::count(*count);
            write!(f, "\n{count:>12}  {percent:5.2} %  {:>6}  {:?}", token.id, token.text)?;
        }
        Ok(())
    }
}

/// Counts the tokens of a token file (and verifies it) or of a text, and returns `show` of the
/// first and of the most frequent ones.
///
/// # Errors
/// A file that cannot be read or is damaged; a token file that another tokenizer made.
pub fn inspect(path: &Path, tokenizer: &Tokenizer, show: usize) -> Result<InspectReport> {
    let mut tally = Tally { head: Vec::new(), counts: HashMap::new(), tokens: 0, show };
    let (kind, input, text_bytes, hash) = if TokenFile::is_token_file(path) {
        let file = TokenFile::open(path)?;
        check_tokenizer(&file, tokenizer)?;
        file.verify()?;
        for start in (0..file.len()).step_by(CHUNK) {
            tally.add(&file.get(start..file.len().min(start + CHUNK)));
        }
        ("token file", path.display().to_string(), file.text_bytes(), Some(file.hash()))
    } else {
        let corpus = resolve_corpus(path)?;
        let encoder = ParallelEncoder::new(tokenizer);
        let text_bytes = read_parts(&corpus, tokenizer, |part, start| {
            let segments = encoder.encode(part, start == 0);
            let segments = segments.map_err(|missing| missing.behind(start))?;
            segments.iter().for_each(|segment| tally.add(segment));
            Ok(())
        })?;
        ("text", corpus.name().to_owned(), text_bytes, None)
    };
    Ok(InspectReport {
        input,
        kind,
        tokenizer: tokenizer.kind().to_owned(),
        vocab_size: tokenizer.vocab_size(),
        tokens: tally.tokens,
        distinct_tokens: tally.counts.len(),
        text_bytes,
        bytes_per_token: text_bytes as f64 / tally.tokens.max(1) as f64,
        tokens_blake3: hash,
        head: tally.head.iter().map(|&id| shown(tokenizer, id)).collect(),
        top: tally.top(tokenizer),
    })
}

/// Refuses a token file whose ids have another meaning in `tokenizer`.
///
/// # Errors
/// When the file was made with another tokenizer.
pub fn check_tokenizer(file: &TokenFile, tokenizer: &Tokenizer) -> Result<()> {
    ensure!(
        file.tokenizer_hash() == tokenizer.hash(),
        "{} was made with another tokenizer ({} tokens) than the one given ({}, {} tokens); \
         give its tokenizer.json with --tokenizer FILE",
        file.path().display(),
        file.vocab_size(),
        tokenizer.kind(),
        tokenizer.vocab_size()
    );
    Ok(())
}

struct Tally {
    head: Vec<u32>,
    counts: HashMap<u32, u64>,
    tokens: u64,
    show: usize,
}

impl Tally {
    fn add(&mut self, tokens: &[u32]) {
        let missing = self.show.saturating_sub(self.head.len()).min(tokens.len());
        self.head.extend_from_slice(&tokens[..missing]);
        self.tokens += tokens.len() as u64;
        for &token in tokens {
            *self.counts.entry(token).or_default() += 1;
        }
    }

    fn top(&self, tokenizer: &Tokenizer) -> Vec<TokenCount> {
        let mut counts: Vec<(u32, u64)> = self.counts.iter().map(|(&id, &n)| (id, n)).collect();
        counts.sort_unstable_by_key(|&(id, count)| (std::cmp::Reverse(count), id));
        counts.truncate(self.show);
        counts
            .into_iter()
            .map(|(id, count)| TokenCount {
                token: shown(tokenizer, id),
                count,
                share: count as f64 / self.tokens as f64,
            })
            .collect()
    }
}

fn shown(tokenizer: &Tokenizer, id: u32) -> TokenShown {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    TokenShown { id, text: String::from_utf8_lossy(bytes).into_owned() }
}
