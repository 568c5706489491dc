//! One table for any set of variants of a model on a text.
//!
//! ```text
//! text --tokenizer of the base--> windows --base--> logits on disk (base/)
//!                                    |                  |
//!                                    +--each variant----+--> Divergence --> one row
//!                                    +--each variant in a child process --> speed, memory
//! ```
//!
//! The base is read once, whatever is judged by it; a variant is in memory only while it is read.
//! Windows and positions are those of `llama-perplexity`, so its figures can be put beside these.

mod base;
mod command;
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
use gguf::GgufFile;
use llama::{Cache, Llama};
use reference::Model;

pub use command::{EXAMPLES, SweepArgs, run};
pub use probe::{ProbeArgs, ProbeCommand, Speed, probe};
pub use report::{FORMAT, KlRatio, Row, SweepReport, SweepText, VERSION};
pub use variant::{NamedFile, Role};

use crate::metrics::{Divergence, paired_ratio};
use crate::report::Engine;
use base::{Base, BaseEngine, BaseWriter, Identity, decode, part_of};
use reader::Reader;
use report::mark_front;
use variant::{Described, describe};
use windows::Windows;

/// What to sweep.
#[derive(Debug, Clone)]
pub struct SweepJob {
    /// The unquantized GGUF that everything is judged by.
    pub base: PathBuf,
    /// What is judged.
    pub variants: Vec<NamedFile>,
    /// What is judged and stands below the line in ratios.
    pub peers: Vec<NamedFile>,
    /// The text.
    pub text: PathBuf,
    /// Tokens that are read at most; 0 stands for all.
    pub tokens: usize,
    /// Tokens in a window.
    pub context: usize,
    /// Where the base's logits are kept; a temporary file if not given.
    pub base_logits: Option<PathBuf>,
    /// Who computes.
    pub engine: SweepEngine,
    /// Caches that each file is read with, the first one for pictures and the Pareto front.
    pub caches: Vec<Cache>,
    /// Threads that compute; 0 stands for all cores.
    pub threads: usize,
    /// How to start the child that measures speed and memory; none leaves them out.
    pub probe: Option<ProbeCommand>,
    /// Whether a base that is of something else, or damaged, may be replaced.
    pub overwrite: bool,
    /// Asked between windows.
    pub interrupt: cli::Interrupt,
}

/// Who computes the logits of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SweepEngine {
    /// llama.cpp with its defaults: what devices run.
    Llama,
    /// The plain Rust pass, on weights as they are stored, everything else in f32.
    Reference,
}

/// Measures every file with every cache.
///
/// # Errors
/// When a file cannot be read or is of another model, the base of logits belongs to something
/// else, or the user stops. A variant whose logits are not finite is no error here:
/// [`SweepReport::check`] makes it one.
pub fn sweep(job: &SweepJob) -> Result<SweepReport> {
    ensure!(!job.caches.is_empty(), "--kv: expected at least one type of cache");
    let files = describe(&job.base, &job.variants, &job.peers)?;
    let Some(base_file) = files.first() else { bail!("nothing to sweep") };
    let tokenizer = data::Tokenizer::from_gguf(&base_file.metadata)
        .with_context(|| format!("{}", job.base.display()))?;
    let loaded = Loaded::open(&job.base, job.engine)?;
    let (limit, context) = (job.tokens, job.context);
    let windows = Windows::read(&job.text, &tokenizer, limit, context, loaded.context_length())?;
    let digests = digests(base_file)?;
    let identity =
        windows.identity(loaded.vocab_size(), job.engine.of_base(), identity_of(&digests)?)?;

    let scratch = tempfile::tempdir().context("no temporary folder for logits")?;
    let place = job.base_logits.clone().unwrap_or_else(|| scratch.path().join("base.kld"));
    let base = stored_base(job, &place, &windows, &identity, &loaded)?;
    drop(loaded);

    let mut run = Run { job, windows, base, rows: Vec::new(), divergences: Vec::new() };
    for file in &files {
        run.file(file)?;
    }
    Ok(run.finish(identity.file_bytes()))
}

impl SweepEngine {
    fn of_base(self) -> BaseEngine {
        match self {
            SweepEngine::Llama => BaseEngine::LlamaCpp,
            SweepEngine::Reference => BaseEngine::Reference,
        }
    }
}

/// A model in memory.
enum Loaded {
    Llama(Llama),
    Reference(Model),
}

impl Loaded {
    fn open(path: &Path, engine: SweepEngine) -> Result<Self> {
        match engine {
            SweepEngine::Llama => Ok(Loaded::Llama(Llama::load(path)?)),
            SweepEngine::Reference => {
                let place = || format!("{}", path.display());
                let file = GgufFile::open(path).with_context(place)?;
                Ok(Loaded::Reference(Model::load(&file).with_context(place)?))
            }
        }
    }

    fn vocab_size(&self) -> usize {
        match self {
            Loaded::Llama(llama) => llama.vocab_size(),
            Loaded::Reference(model) => model.config().vocab_size,
        }
    }

    fn context_length(&self) -> usize {
        match self {
            Loaded::Llama(llama) => llama.context_length(),
            Loaded::Reference(model) => model.config().context_length,
        }
    }

    fn reader(&self, context: usize, cache: Cache, threads: usize) -> Result<Reader<'_>> {
        match self {
            Loaded::Llama(llama) => Reader::llama(llama, context, cache, threads),
            Loaded::Reference(model) => Ok(Reader::Reference { model }),
        }
    }

    /// Bytes of the keys and values of a window, where llama.cpp keeps them.
    fn cache_bytes(&self, context: usize, cache: Cache) -> Option<u64> {
        match self {
            Loaded::Llama(llama) => Some(llama.cache_bytes(context, cache)),
            Loaded::Reference(_) => None,
        }
    }
}

/// Opens the base at `path`, or writes what is missing of it.
fn stored_base(
    job: &SweepJob,
    path: &Path,
    windows: &Windows,
    identity: &Identity,
    model: &Loaded,
) -> Result<Base> {
    if path.exists() {
        match Base::open(path, identity) {
            Ok(base) => return Ok(base),
            Err(error) if !job.overwrite => return Err(error.into()),
            Err(_) => {}
        }
    }
    let mut writer = BaseWriter::open(path, identity, job.overwrite)?;
    let progress = cli::Progress::new("base", windows.len() as u64, cli::Meter::Items);
    progress.note(&announcement(job, path, identity, writer.done()));
    progress.set(writer.done() as u64);
    let mut reader = model.reader(windows.context(), Cache::F16, job.threads)?;
    while let Some(window) = writer.next() {
        check_interrupt(job)?;
        let mut rows = writer.window(window);
        reader.read(windows.window(window), identity.first(), |logits| {
            if let Some(place) = logits.iter().position(|logit| !logit.is_finite()) {
                let token = place % identity.vocab_size as usize;
                bail!(
                    "{}: a logit of window {window} is {} (token {token}): nothing can be judged \
                     by it",
                    job.base.display(),
                    logits[place]
                );
            }
            Ok(rows.rows(logits)?)
        })?;
        rows.finish()?;
        progress.advance(1);
    }
    progress.finish();
    Ok(writer.finish()?)
}

/// What is about to be written, and how large it is.
fn announcement(job: &SweepJob, path: &Path, identity: &Identity, done: usize) -> String {
    let scored = identity.scored() as u64 * u64::from(identity.windows);
    let kept = match &job.base_logits {
        Some(_) if done > 0 => {
            format!("in {}, {done} windows of it already", part_of(path).display())
        }
        Some(_) => format!("in {}", path.display()),
        None => format!(
            "in {} until the end (--base-logits FILE keeps them)",
            std::env::temp_dir().display()
        ),
    };
    format!(
        "base logits: {} windows of {} tokens, {} positions x {} tokens in 16 bits: {} {kept}",
        identity.windows,
        identity.context,
        cli::count(scored),
        cli::count(identity.vocab_size.into()),
        cli::bytes(identity.file_bytes()),
    )
}

fn check_interrupt(job: &SweepJob) -> Result<()> {
    if job.interrupt.requested() { Err(cli::Interrupted.into()) } else { Ok(()) }
}

/// The sweep under way.
struct Run<'a> {
    job: &'a SweepJob,
    windows: Windows,
    base: Base,
    rows: Vec<Row>,
    /// The divergences behind each row, for ratios.
    divergences: Vec<Vec<f64>>,
}

impl Run<'_> {
    /// A row for each cache.
    fn file(&mut self, file: &Described) -> Result<()> {
        let context = self.windows.context();
        let digests = digests(file)?;
        for &cache in &self.job.caches {
            let loaded = Loaded::open(&file.path, self.job.engine)?;
            ensure!(
                loaded.vocab_size() == self.base.identity().vocab_size as usize,
                "{} has a vocabulary of {}, but {} one of {}: they are not of the same model",
                file.path.display(),
                loaded.vocab_size(),
                self.job.base.display(),
                self.base.identity().vocab_size
            );
            let (divergence, problem) = self.judge(file, &loaded, cache)?;
            let cache_bytes = loaded.cache_bytes(context, cache);
            // The child is to have the machine for itself.
            drop(loaded);
            let speed = self.speed(file, cache)?;
            self.divergences.push(divergence.kl());
            self.rows.push(Row {
                label: file.label.clone(),
                recipe: file.recipe.clone(),
                file: name_of(&file.path),
                sha256: digests[0].sha256.clone(),
                role: file.role,
                cache: self.cache_name(cache),
                file_bytes: file.file_bytes,
                tensor_bytes: file.tensor_bytes,
                parameters: file.parameters,
                bits_per_weight: 8.0 * file.tensor_bytes as f64 / (file.parameters as f64).max(1.0),
                quality: if problem.is_some() { None } else { divergence.finish() },
                problem,
                kl_ratio: None,
                pareto: false,
                speed,
                cache_bytes,
            });
        }
        Ok(())
    }

    /// All windows against the stored base; and which logit was not finite, if one was.
    fn judge(
        &self,
        file: &Described,
        loaded: &Loaded,
        cache: Cache,
    ) -> Result<(Divergence, Option<String>)> {
        let identity = self.base.identity();
        let first = identity.first();
        let mut divergence = Divergence::new();
        // The base with its own cache is what was stored.
        let itself = file.role == Role::Base && (cache == Cache::F16 || !self.is_llama());
        let mut reader = match itself {
            true => None,
            false => Some(loaded.reader(identity.context as usize, cache, self.job.threads)?),
        };
        let title = format!("{} {}", file.label, self.cache_name(cache));
        let progress = cli::Progress::new(&title, self.windows.len() as u64, cli::Meter::Items);
        for index in 0..self.windows.len() {
            check_interrupt(self.job)?;
            let window = self.windows.window(index);
            let rows = self.base.rows(index)?;
            let Some(reader) = &mut reader else {
                let mut copy = vec![0.0; identity.vocab_size as usize];
                for position in 0..identity.scored() {
                    decode(rows(position), &mut copy);
                    let next = &window[first + position + 1..][..1];
                    divergence
                        .add(next, &copy, |_, row| decode(rows(position), row))
                        .map_err(|problem| anyhow::anyhow!("window {index}: {problem}"))?;
                }
                progress.advance(1);
                continue;
            };
            let (mut done, mut problem) = (0, None);
            reader.read(window, first, |logits| {
                let count = logits.len() / identity.vocab_size as usize;
                let next = &window[first + done + 1..][..count];
                if problem.is_none() {
                    let base = |i: usize, row: &mut [f32]| decode(rows(done + i), row);
                    problem = divergence.add(next, logits, base).err();
                }
                done += count;
                Ok(())
            })?;
            if let Some(problem) = problem {
                progress.finish();
                return Ok((divergence, Some(format!("window {index}: {problem}"))));
            }
            progress.advance(1);
        }
        progress.finish();
        Ok((divergence, None))
    }

    fn speed(&self, file: &Described, cache: Cache) -> Result<Option<Speed>> {
        let Some(probe) = &self.job.probe else { return Ok(None) };
        check_interrupt(self.job)?;
        let threads = threads(self.job.threads);
        let speed = probe.measure(&file.path, self.windows.window(0), cache, threads);
        // A Ctrl-C ends the child, too.
        check_interrupt(self.job)?;
        speed.map(Some)
    }

    fn is_llama(&self) -> bool {
        self.job.engine == SweepEngine::Llama
    }

    fn cache_name(&self, cache: Cache) -> String {
        if self.is_llama() { cache.to_string() } else { "f32".to_owned() }
    }

    fn finish(mut self, base_bytes: u64) -> SweepReport {
        self.add_ratios();
        mark_front(&mut self.rows);
        let identity = self.base.identity();
        SweepReport {
            format: FORMAT.to_owned(),
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            text: SweepText {
                source: name_of(&self.job.text),
                windows: self.windows.len(),
                context: self.windows.context(),
                scored: identity.scored() * self.windows.len(),
            },
            engine: if self.is_llama() { Engine::LlamaCpp } else { Engine::Reference },
            threads: threads(self.job.threads),
            base_bytes,
            rows: self.rows,
        }
    }

    /// Holds files of one recipe and cache against the peer among them, or else the last of them.
    fn add_ratios(&mut self) {
        for index in 0..self.rows.len() {
            let row = &self.rows[index];
            let alike = |&other: &usize| {
                let other = &self.rows[other];
                other.recipe == row.recipe
                    && other.cache == row.cache
                    && other.role != Role::Base
                    && other.quality.is_some()
            };
            if row.role == Role::Base || row.quality.is_none() {
                continue;
            }
            let group: Vec<usize> = (0..self.rows.len()).filter(alike).collect();
            let peer = group.iter().rfind(|&&i| self.rows[i].role == Role::Peer);
            let Some(&peer) = peer.or(group.last()) else { continue };
            if peer == index {
                continue;
            }
            let ratio = paired_ratio(&self.divergences[index], &self.divergences[peer]);
            let peer = self.rows[peer].label.clone();
            self.rows[index].kl_ratio =
                ratio.map(|ratio| KlRatio { peer, value: ratio.value, error: ratio.error });
        }
    }
}

/// The threads that 0 stands for.
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
