//! A teacher's predictions on disk: the likeliest tokens at each position that trains.
//!
//! ```text
//! byte 0  magic "PGPTEACH"                          all numbers little-endian
//!      8  u64 bytes of the header
//!     16  the header: JSON with the fields of `Header`
//!         for each position, in the order of the windows and of the positions in each:
//!         k tokens as u32, then the logarithms of their probabilities as f32, the likeliest first
//! ```

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use kernels::Predictions;
use model::Teacher;
use serde::{Deserialize, Serialize};

use crate::corpus::{Corpus, Split};

const MAGIC: &[u8; 8] = b"PGPTEACH";
const VERSION: u32 = 1;
/// A token and the logarithm of its probability.
const BYTES_PER_TOKEN: usize = 8;
/// Largest header, in bytes.
const HEADER_LIMIT: u64 = 1 << 16;

/// What the positions are of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Version of the format.
    pub version: u32,
    /// Hash of the token file.
    pub tokens_hash: String,
    /// Tokens in a window.
    pub context: usize,
    /// Windows of the training split.
    pub windows: usize,
    /// Positions that train, in all of them.
    pub positions: u64,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Tokens that are recorded for each position.
    pub k: usize,
    /// What the teacher's logits were divided by.
    pub temperature: f32,
}

impl Header {
    /// For the training split of a corpus.
    pub fn of(corpus: &Corpus, vocab_size: usize, k: usize, temperature: f32) -> Self {
        Header {
            version: VERSION,
            tokens_hash: corpus.tokens_hash(),
            context: corpus.context(),
            windows: corpus.windows(Split::Train),
            positions: starts(corpus).last().copied().unwrap_or(0),
            vocab_size,
            k,
            temperature,
        }
    }

    /// Writes everything before the first position.
    pub fn write(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let text = serde_json::to_string(self)?;
        out.write_all(MAGIC)?;
        out.write_all(&(text.len() as u64).to_le_bytes())?;
        out.write_all(text.as_bytes())?;
        Ok(())
    }
}

/// Writes positions: `ids` and `log_probabilities` `[M, k]`.
pub(super) fn write_positions(
    out: &mut impl Write,
    k: usize,
    ids: &[u32],
    log_probabilities: &[f32],
) -> std::io::Result<()> {
    for (ids, log_probabilities) in ids.chunks_exact(k).zip(log_probabilities.chunks_exact(k)) {
        for id in ids {
            out.write_all(&id.to_le_bytes())?;
        }
        for log_probability in log_probabilities {
            out.write_all(&log_probability.to_le_bytes())?;
        }
    }
    Ok(())
}

/// The number of positions that train before each window of the training split, and of all.
fn starts(corpus: &Corpus) -> Vec<u64> {
    let windows = 0..corpus.windows(Split::Train);
    let counts = windows.map(|window| corpus.trained_tokens(Split::Train, &[window]) as u64);
    let mut sum = 0;
    let mut starts = vec![0];
    starts.extend(counts.map(|count| {
        sum += count;
        sum
    }));
    starts
}

/// Recorded predictions for the training split of a corpus.
pub struct Recorded {
    path: PathBuf,
    file: Mutex<File>,
    header: Header,
    /// Byte of the first position.
    begins: u64,
    /// As of [`starts`].
    starts: Vec<u64>,
}

impl Recorded {
    /// Opens a recording for a student with `vocab_size` tokens.
    ///
    /// # Errors
    /// When the file cannot be read, is not a recording or is cut short, or was made of other tokens,
    /// windows, or at another temperature.
    pub fn open(
        path: &Path,
        corpus: &Corpus,
        vocab_size: usize,
        temperature: f32,
    ) -> anyhow::Result<Self> {
        let name = path.display();
        let mut file = plain_file::open(path).with_context(|| {
            format!("cannot read {name}; `train --record` writes it from train.teacher.model")
        })?;
        let (header, begins) = read_header(&mut file).with_context(|| format!("{name}"))?;
        let expected = Header::of(corpus, vocab_size, header.k, temperature);
        for (what, found, expected) in [
            ("the version", header.version.to_string(), expected.version.to_string()),
            ("train.teacher.temperature", header.temperature.to_string(), temperature.to_string()),
            ("data.context", header.context.to_string(), expected.context.to_string()),
            ("the vocabulary", header.vocab_size.to_string(), vocab_size.to_string()),
            ("the hash of the tokens", header.tokens_hash.clone(), expected.tokens_hash.clone()),
            ("the number of windows", header.windows.to_string(), expected.windows.to_string()),
            (
                "the number of positions",
                header.positions.to_string(),
                expected.positions.to_string(),
            ),
        ] {
            ensure!(
                found == expected,
                "{name} was recorded for another run: {what} is {found} there and {expected} here; \
                 record again with `train --record --force`"
            );
        }
        let bytes = (header.k as u64)
            .checked_mul(BYTES_PER_TOKEN as u64)
            .and_then(|row| row.checked_mul(header.positions))
            .and_then(|all| all.checked_add(begins));
        let found = file.metadata().with_context(|| format!("cannot read {name}"))?.len();
        ensure!(
            bytes == Some(found),
            "{name} has {found} bytes, expected {}: record again with `train --record --force`",
            bytes.map_or("fewer".to_owned(), |bytes| bytes.to_string())
        );
        let starts = starts(corpus);
        Ok(Recorded { path: path.to_owned(), file: Mutex::new(file), header, begins, starts })
    }

    /// What was recorded for the positions of a batch of windows that train.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else than predictions.
    pub fn of(&self, windows: &[usize], device: &Device) -> anyhow::Result<Teacher<'static>> {
        let (mut ids, mut log_probabilities) = (Vec::new(), Vec::new());
        let k = self.header.k;
        for &window in windows {
            let bytes = self.window(window)?;
            for row in bytes.chunks_exact(k * BYTES_PER_TOKEN) {
                let (words, _) = row.as_chunks::<4>();
                ids.extend(words[..k].iter().map(|&word| u32::from_le_bytes(word)));
                log_probabilities.extend(words[k..].iter().map(|&word| f32::from_le_bytes(word)));
            }
        }
        let is_token = ids.iter().all(|&id| (id as usize) < self.header.vocab_size);
        let is_logarithm = log_probabilities.iter().all(|&log: &f32| log <= 1e-3);
        ensure!(
            is_token && is_logarithm,
            "{} is damaged: it holds a token outside of the vocabulary or a probability above 1; record \
             again with `train --record --force`",
            self.path.display()
        );
        let device = device.clone().inner();
        let shape = [ids.len() / k, k];
        let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
        Ok(Teacher::Recorded(Box::new(Predictions::Recorded {
            ids: Tensor::from_data(TensorData::new(ids, shape), &device),
            log_probabilities: Tensor::from_data(
                TensorData::new(log_probabilities, shape),
                &device,
            ),
        })))
    }

    fn window(&self, window: usize) -> anyhow::Result<Vec<u8>> {
        let row = (self.header.k * BYTES_PER_TOKEN) as u64;
        let [from, to] = [self.starts[window], self.starts[window + 1]];
        let mut bytes = vec![0; ((to - from) * row) as usize];
        // A thread that panicked has left no half state: the place is set anew each time.
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.begins + from * row))
            .and_then(|_| file.read_exact(&mut bytes))
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(bytes)
    }
}

/// The header, and the byte behind it.
fn read_header(file: &mut File) -> anyhow::Result<(Header, u64)> {
    let mut start = [0; 16];
    file.read_exact(&mut start).context("it is too short to be a recording of a teacher")?;
    let (magic, length) = start.split_at(8);
    ensure!(magic == MAGIC, "it is not a recording of a teacher, which `train --record` writes");
    let length = length.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
    ensure!(
        length <= HEADER_LIMIT,
        "its header has {length} bytes, expected at most {HEADER_LIMIT}"
    );
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text).context("its header is cut short")?;
    let header: Header = serde_json::from_slice(&text).context("its header")?;
    let most = config::limits::RECORDED_TOKENS;
    ensure!(
        (1..=most).contains(&header.k),
        "it has {} tokens for a position, expected 1 to {most}",
        header.k
    );
    Ok((header, 16 + length))
}
