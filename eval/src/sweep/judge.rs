//! The passes of a sweep: writes the base's logits to the disk, and compares all other passes with
//! them.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use llama_cpp::Cache;

use super::SweepJob;
use super::base::{Base, BaseWriter, Identity, decode, part_of};
use super::reader::{Loaded, Reader};
use super::variant::{Described, FileRole};
use super::windows::Windows;
use crate::metrics::Divergence;

/// One file with one cache, and its results so far.
pub struct Judged<'a> {
    /// The file.
    pub file: &'a Described,
    /// The types of keys and values.
    pub cache: Cache,
    /// Its divergences from the base.
    pub divergence: Divergence,
    /// The logit that was not finite.
    pub problem: Option<String>,
    /// Bytes of keys and values of a window.
    pub cache_bytes: Option<u64>,
}

/// Evaluates every file with every cache on all windows.
///
/// With `--base-logits`, the base's logits for all windows are stored in that file. Otherwise,
/// windows are processed in pieces of `job.piece_bytes`, which limits the disk space for a text of
/// any length.
///
/// # Errors
/// When a file cannot be read or belongs to another model, when the base of logits belongs to
/// another model or text, or when the user stops.
pub fn judge_all<'a>(
    job: &SweepJob,
    files: &'a [Described],
    windows: &Windows,
    identity: &Identity,
) -> Result<Vec<Judged<'a>>> {
    let mut judged: Vec<Judged> = files
        .iter()
        .flat_map(|file| job.caches.iter().map(move |&cache| (file, cache)))
        .map(|(file, cache)| Judged {
            file,
            cache,
            divergence: Divergence::new(),
            problem: None,
            cache_bytes: None,
        })
        .collect();
    let Some(place) = &job.base_logits else {
        let piece = (job.piece_bytes / identity.window_bytes().max(1)).max(1) as usize;
        cli::note(&announcement(identity, &temporary(identity, piece)));
        for start in (0..windows.len()).step_by(piece) {
            let piece = windows.part(start..(start + piece).min(windows.len()));
            let folder = tempfile::tempdir()?;
            let identity =
                piece.identity(identity.vocab_size as usize, identity.engine, identity.model)?;
            let base = stored(job, &folder.path().join("base"), &piece, &identity)?;
            // The mapped file stays readable without its name; if the process is killed from here
            // on, no file remains.
            #[cfg(unix)]
            drop(folder);
            judge_piece(job, &mut judged, &piece, start, &base)?;
        }
        return Ok(judged);
    };
    let base = stored(job, place, windows, identity)?;
    judge_piece(job, &mut judged, windows, 0, &base)?;
    Ok(judged)
}

fn temporary(identity: &Identity, piece: usize) -> String {
    let folder = std::env::temp_dir();
    let keep = "--base-logits FILE keeps them";
    match piece < identity.windows as usize {
        false => format!("in {} until the end ({keep})", folder.display()),
        true => {
            let piece = cli::bytes(identity.window_bytes() * piece as u64);
            format!("in pieces of {piece} in {}, one after the other ({keep})", folder.display())
        }
    }
}

/// The file to be written, and its size.
fn announcement(identity: &Identity, place: &str) -> String {
    format!(
        "base logits: {} windows of {} tokens, {} positions x {} tokens in 16 bits: {} {place}",
        identity.windows,
        identity.context,
        cli::count(identity.scored() as u64 * u64::from(identity.windows)),
        cli::count(identity.vocab_size.into()),
        cli::bytes(identity.file_bytes()),
    )
}

/// Opens the base at `path`, or writes the missing windows.
fn stored(job: &SweepJob, path: &Path, windows: &Windows, identity: &Identity) -> Result<Base> {
    if path.exists() {
        match Base::open(path, identity) {
            Ok(base) => return Ok(base),
            Err(error) if !(job.overwrite && error.is_of_ours()) => return Err(error.into()),
            Err(_) => {}
        }
    }
    let mut writer = BaseWriter::open(path, identity, job.overwrite)?;
    let progress = cli::Progress::new("base", windows.len() as u64, cli::Meter::Items);
    if job.base_logits.is_some() {
        progress.note(&announcement(identity, &kept(path, writer.done())));
    }
    progress.set(writer.done() as u64);
    let model = Loaded::open(&job.base, job.engine)?;
    let mut reader = model.reader(windows.context(), Cache::F16, job.threads)?;
    while let Some(window) = writer.next() {
        check_interrupt(job)?;
        let mut rows = writer.window(window);
        reader.read(windows.window(window), identity.first(), |logits| {
            check_finite(&job.base, window, logits, identity)?;
            Ok(rows.rows(logits)?)
        })?;
        rows.finish()?;
        progress.advance(1);
    }
    progress.finish();
    Ok(writer.finish()?)
}

fn kept(path: &Path, done: usize) -> String {
    match done {
        0 => format!("in {}", path.display()),
        done => format!("in {}, {done} windows of it already", part_of(path).display()),
    }
}

fn check_finite(path: &Path, window: usize, logits: &[f32], identity: &Identity) -> Result<()> {
    if let Some(place) = logits.iter().position(|logit| !logit.is_finite()) {
        let token = place % identity.vocab_size as usize;
        bail!(
            "{}: a logit of window {window} is {} (token {token}): nothing can be judged by it",
            path.display(),
            logits[place]
        );
    }
    Ok(())
}

/// Every file and cache on some windows, of which the first is the one at `offset` of the text.
fn judge_piece(
    job: &SweepJob,
    judged: &mut [Judged<'_>],
    windows: &Windows,
    offset: usize,
    base: &Base,
) -> Result<()> {
    for entry in judged.iter_mut().filter(|entry| entry.problem.is_none()) {
        let loaded = Loaded::open(&entry.file.path, job.engine)?;
        check_vocabulary(&job.base, &entry.file.path, &loaded, base)?;
        entry.cache_bytes = loaded.cache_bytes(windows.context(), entry.cache);
        let identity = base.identity();
        // The base with its own cache is what was stored.
        let mut reader = match entry.file.role == FileRole::Base && job.is_own_cache(entry.cache) {
            true => None,
            false => Some(loaded.reader(windows.context(), entry.cache, job.threads)?),
        };
        let title = format!("{} {}", entry.file.label, job.cache_name(entry.cache));
        let progress = cli::Progress::new(&title, windows.len() as u64, cli::Meter::Items);
        for index in 0..windows.len() {
            check_interrupt(job)?;
            let (window, rows) = (windows.window(index), base.rows(index)?);
            let result = match &mut reader {
                None => itself(entry, window, identity, &rows),
                Some(reader) => against(entry, reader, window, identity, &rows)?,
            };
            if let Err(problem) = result {
                entry.problem = Some(format!("window {}: {problem}", offset + index));
                break;
            }
            progress.advance(1);
        }
        progress.finish();
    }
    Ok(())
}

type Finite = Result<(), crate::metrics::NotFinite>;

/// Compares the stored base with itself, which gives only its perplexity.
fn itself<'b>(
    entry: &mut Judged<'_>,
    window: &[u32],
    identity: &Identity,
    rows: &(impl Fn(usize) -> &'b [u8] + Sync),
) -> Finite {
    let mut copy = vec![0.0; identity.vocab_size as usize];
    for position in 0..identity.scored() {
        decode(rows(position), &mut copy);
        let next = &window[identity.first() + position + 1..][..1];
        entry.divergence.add(next, &copy, |_, row| decode(rows(position), row))?;
    }
    Ok(())
}

/// Compares a window read by `reader` with the stored base.
fn against<'b>(
    entry: &mut Judged<'_>,
    reader: &mut Reader<'_>,
    window: &[u32],
    identity: &Identity,
    rows: &(impl Fn(usize) -> &'b [u8] + Sync),
) -> Result<Finite> {
    let (mut done, mut result) = (0, Ok(()));
    reader.read(window, identity.first(), |logits| {
        let count = logits.len() / identity.vocab_size as usize;
        let next = &window[identity.first() + done + 1..][..count];
        if result.is_ok() {
            let base = |i: usize, row: &mut [f32]| decode(rows(done + i), row);
            result = entry.divergence.add(next, logits, base);
        }
        done += count;
        Ok(())
    })?;
    Ok(result)
}

fn check_vocabulary(base_path: &Path, path: &Path, loaded: &Loaded, base: &Base) -> Result<()> {
    let (found, expected) = (loaded.vocab_size(), base.identity().vocab_size as usize);
    ensure!(
        found == expected,
        "{} has a vocabulary of {found}, but {} one of {expected}: they are not of the same model",
        path.display(),
        base_path.display(),
    );
    Ok(())
}

/// The user's Ctrl-C as an error.
///
/// # Errors
/// [`cli::Interrupted`].
pub fn check_interrupt(job: &SweepJob) -> Result<()> {
    if job.interrupt.requested() { Err(cli::Interrupted.into()) } else { Ok(()) }
}
