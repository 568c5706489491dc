//! `data inspect`: shows the contents of a token file or a text.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::corpus::Corpus;
use crate::encode::{Encoded, for_each_token};
use crate::{ReadReport, TokenFile, Tokenizer};

/// Tokens read at a time.
const CHUNK: usize = 1 << 20;
/// Documents whose beginnings are shown.
const SHOWN_DOCUMENTS: usize = 3;
/// Tokens of each.
const SHOWN_TOKENS: usize = 24;

/// The result of [`inspect`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InspectReport {
    /// The file, as the user named it.
    pub input: String,
    /// `token file`, `text` or `records`.
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
    /// The documents, where there may be several.
    pub documents: Option<DocumentsReport>,
    /// What was read; not for token files.
    #[serde(skip)]
    pub read: Option<ReadReport>,
    /// BLAKE3 of the tokens in hexadecimal; token files only.
    pub tokens_blake3: Option<String>,
    /// The first tokens.
    pub head: Vec<TokenShown>,
    /// The most frequent tokens, most frequent first.
    pub top: Vec<TokenCount>,
}

/// The documents of several texts, of records, or of a token file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DocumentsReport {
    /// How many there are.
    pub count: u64,
    /// Tokens of the shortest one, without an end-of-text token unless the token file has it.
    pub shortest: u64,
    /// Tokens of one on average.
    pub mean: f64,
    /// Tokens of the longest one.
    pub longest: u64,
    /// Tokens of the documents that are trained on; less than all where a token file says so.
    pub training_tokens: u64,
    /// How the first few begin.
    pub first: Vec<String>,
}

impl fmt::Display for DocumentsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "documents   {}, of {} to {} tokens, {:.1} on average",
            cli::count(self.count),
            cli::count(self.shortest),
            cli::count(self.longest),
            self.mean
        )?;
        self.first.iter().try_for_each(|text| writeln!(f, "            {text:?}"))
    }
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
        if let Some(documents) = &self.documents {
            write!(f, "{documents}")?;
            if documents.training_tokens < self.tokens {
                writeln!(f, "trains      {} tokens", cli::count(documents.training_tokens))?;
            }
        }
        if let Some(read) = &self.read {
            read.write_exceptions(f)?;
        }
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

/// Counts the tokens of a corpus, and returns `show` of the first and of the most frequent ones.
///
/// # Errors
/// As for [`crate::encode_file`], on the reading side.
pub fn inspect(corpus: &Corpus, tokenizer: &Tokenizer, show: usize) -> Result<InspectReport> {
    let mut tally = Tally::new(show);
    let progress = cli::Progress::new("inspect", corpus.size()?, cli::Meter::Bytes);
    let read = for_each_token(corpus, tokenizer, &progress, |event| {
        match event {
            Encoded::Tokens(tokens) => tally.add(tokens, tokens.len() as u64),
            Encoded::End => tally.end_document(tokenizer),
        }
        Ok(())
    })?;
    progress.finish();
    let are_records = corpus.inputs().any(crate::Inputs::are_records);
    let kind = if are_records { "records" } else { "text" };
    let documents = (!corpus.is_one_text()).then(|| tally.documents());
    let mut report = tally.report(corpus.to_string(), kind, tokenizer, read.text_bytes);
    report.documents = documents;
    report.read = Some(read);
    Ok(report)
}

/// Counts the tokens of a token file, which is verified, as [`inspect`] does.
///
/// # Errors
/// A file that cannot be read or is damaged, or that another tokenizer made.
pub fn inspect_tokens(path: &Path, tokenizer: &Tokenizer, show: usize) -> Result<InspectReport> {
    let file = TokenFile::open(path)?;
    check_tokenizer(&file, tokenizer)?;
    file.verify()?;
    let mut tally = Tally::new(show);
    for document in file.documents() {
        for start in document.clone().step_by(CHUNK) {
            let range = start..document.end.min(start + CHUNK);
            let training = file.trains(range.clone()).into_iter().filter(|trains| *trains).count();
            tally.add(&file.get(range), training as u64);
        }
        tally.end_document(tokenizer);
    }
    let documents = (file.has_documents() || file.has_mask()).then(|| tally.documents());
    let name = path.display().to_string();
    let mut report = tally.report(name, "token file", tokenizer, file.text_bytes());
    report.documents = documents;
    report.tokens_blake3 = Some(file.hash());
    Ok(report)
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
    training: u64,
    show: usize,
    /// Tokens before the document that is being read, and its first ones.
    before: u64,
    start: Vec<u32>,
    documents: u64,
    shortest: u64,
    longest: u64,
    first: Vec<String>,
}

impl Tally {
    fn new(show: usize) -> Self {
        Tally {
            head: Vec::new(),
            counts: HashMap::new(),
            tokens: 0,
            training: 0,
            show,
            before: 0,
            start: Vec::new(),
            documents: 0,
            shortest: u64::MAX,
            longest: 0,
            first: Vec::new(),
        }
    }

    fn add(&mut self, tokens: &[u32], training: u64) {
        let missing = self.show.saturating_sub(self.head.len()).min(tokens.len());
        self.head.extend_from_slice(&tokens[..missing]);
        if self.first.len() < SHOWN_DOCUMENTS {
            let missing = SHOWN_TOKENS.saturating_sub(self.start.len()).min(tokens.len());
            self.start.extend_from_slice(&tokens[..missing]);
        }
        self.tokens += tokens.len() as u64;
        self.training += training;
        for &token in tokens {
            *self.counts.entry(token).or_default() += 1;
        }
    }

    fn end_document(&mut self, tokenizer: &Tokenizer) {
        let length = self.tokens - self.before;
        self.before = self.tokens;
        self.documents += 1;
        self.shortest = self.shortest.min(length);
        self.longest = self.longest.max(length);
        if self.first.len() < SHOWN_DOCUMENTS {
            self.first.push(tokenizer.decode(&self.start));
        }
        self.start.clear();
    }

    fn documents(&self) -> DocumentsReport {
        DocumentsReport {
            count: self.documents,
            shortest: self.shortest.min(self.longest),
            mean: self.tokens as f64 / self.documents.max(1) as f64,
            longest: self.longest,
            training_tokens: self.training,
            first: self.first.clone(),
        }
    }

    fn report(
        &self,
        input: String,
        kind: &'static str,
        tokenizer: &Tokenizer,
        text_bytes: u64,
    ) -> InspectReport {
        InspectReport {
            input,
            kind,
            tokenizer: tokenizer.kind().to_owned(),
            vocab_size: tokenizer.vocab_size(),
            tokens: self.tokens,
            distinct_tokens: self.counts.len(),
            text_bytes,
            bytes_per_token: text_bytes as f64 / self.tokens.max(1) as f64,
            documents: None,
            read: None,
            tokens_blake3: None,
            head: self.head.iter().map(|&id| shown(tokenizer, id)).collect(),
            top: self.top(tokenizer),
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
