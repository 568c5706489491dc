//! One table for any number of variants of a model, on one text.
//!
//! ```text
//! text --tokenizer of the base--> windows --base--> logits on disk (base/)
//!                                    |                  |
//!                                    +--each variant----+--> Divergence --> one row
//!                                    +--each variant in a child process --> speed, memory
//! ```
//!
//! The base is read once for any number of variants; a variant is in memory only while it is read.
//! Windows and positions are those of `llama-perplexity`, so its figures can be compared with
//! these.

mod base;
mod command;
mod judge;
mod picture;
mod probe;
mod reader;
mod report;
mod table;
mod variant;
mod windows;

use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail, ensure};
use checkpoint::hash::{Digests, hash_file};
use llama_cpp::Cache;

pub use command::{EXAMPLES, SweepArgs, run};
pub use probe::{ProbeArgs, ProbeProgram, Speed, probe};
pub use report::{FORMAT, KlRatio, Row, SweepReport, SweepText, VERSION};
pub use variant::{FileRole, NamedFile};

use crate::metrics::paired_ratio;
use crate::report::Engine;
use base::BaseEngine;
use judge::{Judged, check_interrupt, judge_all};
use reader::Loaded;
use report::mark_front;
use variant::{Described, describe};
use windows::Windows;

/// 1 GiB of the temporary folder: 20,000 tokens of text for a vocabulary of 50,257.
pub const PIECE_BYTES: u64 = 1 << 30;

/// The settings of a sweep.
#[derive(Debug, Clone)]
pub struct SweepJob {
    /// The unquantized GGUF that everything is compared with.
    pub base: PathBuf,
    /// The files to evaluate.
    pub variants: Vec<NamedFile>,
    /// The files to evaluate that are the denominators of ratios.
    pub peers: Vec<NamedFile>,
    /// The text.
    pub text: PathBuf,
    /// Most tokens to read; 0 reads all.
    pub tokens: usize,
    /// Tokens in a window.
    pub context: usize,
    /// The file that keeps the base's logits. If not given, they are in a temporary file, some
    /// windows at a time.
    pub base_logits: Option<PathBuf>,
    /// Most bytes of a temporary file of logits, but at least one window; [`PIECE_BYTES`].
    pub piece_bytes: u64,
    /// The engine that computes the logits.
    pub engine: SweepEngine,
    /// Caches that each file is read with, the first one for pictures and the Pareto front.
    pub caches: Vec<Cache>,
    /// Threads that compute; 0 uses all cores.
    pub threads: usize,
    /// How to start the child process that measures speed and memory; `None` skips this.
    pub probe: Option<ProbeProgram>,
    /// Whether a base that belongs to another model or text, or is damaged, may be replaced.
    pub overwrite: bool,
    /// Checked between windows.
    pub interrupt: cli::Interrupt,
}

/// The engine that computes the logits of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SweepEngine {
    /// llama.cpp with its defaults, which devices run.
    Llama,
    /// The plain Rust pass: weights as they are stored, everything else in f32.
    Reference,
}

/// Measures every file with every cache.
///
/// # Errors
/// When a file cannot be read or belongs to another model, when the base of logits belongs to
/// another model or text, or when the user stops. A variant whose logits are not finite is not an
/// error here; [`SweepReport::check`] turns it into one.
pub fn sweep(job: &SweepJob) -> Result<SweepReport> {
    ensure!(!job.caches.is_empty(), "--kv: expected at least one type of cache");
    let files = describe(&job.base, &job.variants, &job.peers)?;
    let Some(base) = files.first() else { bail!("nothing to sweep") };
    let tokenizer = data::Tokenizer::from_gguf(&base.metadata)
        .with_context(|| format!("{}", job.base.display()))?;
    let (vocab_size, context_length) = {
        let loaded = Loaded::open(&job.base, job.engine)?;
        (loaded.vocab_size(), loaded.context_length())
    };
    let windows = Windows::read(&job.text, &tokenizer, job.tokens, job.context, context_length)?;
    let digests = files.iter().map(digests).collect::<Result<Vec<_>>>()?;
    let model = identity_of(&digests[0])?;
    let identity = windows.identity(vocab_size, job.engine.of_base(), model)?;

    let judged = judge_all(job, &files, &windows, &identity)?;
    let sha256 = |file: &Described| {
        let place = files.iter().position(|other| std::ptr::eq(other, file));
        place.map_or(String::new(), |place| digests[place][0].sha256.clone())
    };
    let mut rows = Vec::with_capacity(judged.len());
    for entry in &judged {
        let row = row(job, entry, sha256(entry.file));
        rows.push(with_speed(row, speed(job, entry, windows.window(0)))?);
    }
    add_ratios(&mut rows, &judged);
    mark_front(&mut rows);
    Ok(SweepReport {
        format: FORMAT.to_owned(),
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        text: SweepText {
            source: name_of(&job.text),
            windows: windows.len(),
            context: windows.context(),
            scored: identity.scored() * windows.len(),
        },
        engine: if job.is_llama() { Engine::LlamaCpp } else { Engine::Reference },
        threads: threads(job.threads),
        base_bytes: identity.file_bytes(),
        rows,
    })
}

impl SweepEngine {
    fn of_base(self) -> BaseEngine {
        match self {
            SweepEngine::Llama => BaseEngine::LlamaCpp,
            SweepEngine::Reference => BaseEngine::Reference,
        }
    }
}

impl SweepJob {
    fn is_llama(&self) -> bool {
        self.engine == SweepEngine::Llama
    }

    /// Whether the base was read with this cache.
    fn is_own_cache(&self, cache: Cache) -> bool {
        cache == Cache::F16 || !self.is_llama()
    }

    fn cache_name(&self, cache: Cache) -> String {
        if self.is_llama() { cache.to_string() } else { "f32".to_owned() }
    }
}

fn speed(job: &SweepJob, entry: &Judged<'_>, window: &[u32]) -> Result<Option<Speed>> {
    let Some(probe) = &job.probe else { return Ok(None) };
    check_interrupt(job)?;
    let speed = probe.measure(&entry.file.path, window, entry.cache, threads(job.threads));
    // Ctrl-C ends the child, too.
    check_interrupt(job)?;
    speed.map(Some)
}

/// If the speed of a file cannot be measured, for example for lack of memory, all files are still
/// evaluated.
fn with_speed(row: Row, speed: Result<Option<Speed>>) -> Result<Row> {
    match speed {
        Ok(speed) => Ok(Row { speed, ..row }),
        Err(error) if error.downcast_ref::<cli::Interrupted>().is_some() => Err(error),
        Err(error) => Ok(Row { speed_problem: Some(cli::one_line(&error)), ..row }),
    }
}

fn row(job: &SweepJob, entry: &Judged<'_>, sha256: String) -> Row {
    let file = entry.file;
    Row {
        label: file.label.clone(),
        recipe: file.recipe.clone(),
        file: name_of(&file.path),
        sha256,
        role: file.role,
        cache: job.cache_name(entry.cache),
        file_bytes: file.file_bytes,
        tensor_bytes: file.tensor_bytes,
        parameters: file.parameters,
        bits_per_weight: 8.0 * file.tensor_bytes as f64 / (file.parameters as f64).max(1.0),
        quality: if entry.problem.is_some() { None } else { entry.divergence.finish() },
        problem: entry.problem.clone(),
        kl_ratio: None,
        pareto: false,
        speed: None,
        speed_problem: None,
        cache_bytes: entry.cache_bytes,
    }
}

/// Compares files of one recipe and cache with the peer among them, or with the last of them.
fn add_ratios(rows: &mut [Row], judged: &[Judged<'_>]) {
    let judged_rows = |row: &Row| row.role != FileRole::Base && row.quality.is_some();
    for index in (0..rows.len()).filter(|&index| judged_rows(&rows[index])).collect::<Vec<_>>() {
        let alike = |other: &Row| {
            let same = other.recipe == rows[index].recipe && other.cache == rows[index].cache;
            same && judged_rows(other)
        };
        let group: Vec<usize> = (0..rows.len()).filter(|&other| alike(&rows[other])).collect();
        let peer = group.iter().rfind(|&&other| rows[other].role == FileRole::Peer);
        let Some(&peer) = peer.or(group.last()).filter(|&&peer| peer != index) else { continue };
        let kl = |index: usize| judged[index].divergence.kl();
        rows[index].kl_ratio = paired_ratio(&kl(index), &kl(peer)).map(|ratio| KlRatio {
            peer: rows[peer].label.clone(),
            value: ratio.value,
            error: ratio.error,
        });
    }
}

/// The number of threads that 0 means.
fn threads(asked: usize) -> usize {
    match asked {
        0 => available_parallelism().map_or(1, |n| n.get()),
        n => n,
    }
}

/// Hashes of a model's file, or of all its parts.
fn digests(file: &Described) -> Result<Vec<Digests>> {
    let hash =
        |path: &PathBuf| hash_file(path).with_context(|| format!("cannot read {}", path.display()));
    file.parts.iter().map(hash).collect()
}

/// One hash for all parts of a model.
fn identity_of(parts: &[Digests]) -> Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    match parts {
        [one] => return Ok(*blake3::Hash::from_hex(&one.blake3)?.as_bytes()),
        parts => parts.iter().for_each(|part| {
            hasher.update(part.blake3.as_bytes());
        }),
    }
    Ok(*hasher.finalize().as_bytes())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
