//! Fetches the pieces of a manifest into a folder, several at a time. Only verified pieces get their
//! names, so a fetch that was stopped goes on where it was.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, ensure};
use checkpoint::atomic;
use rayon::prelude::*;

use crate::folder::distinct;
use crate::manifest::{Fragment, MANIFEST_NAME, Manifest};
use crate::mirrors::Mirrors;
use crate::pieces::Pieces;

/// Pieces that are on their way at once.
const WORKERS: usize = 8;
/// Most bytes of them: pieces may be large.
const IN_FLIGHT_BYTES: u64 = 512 << 20;

/// What a fetch found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// Pieces that were there and sound.
    pub present: usize,
    /// Pieces that were fetched.
    pub pieces: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Fetches what `folder` lacks of the pieces of `manifest`; a damaged piece is replaced.
///
/// # Errors
/// When no mirror has a piece, the disk is full, the system refuses, or a stop was requested. What
/// was fetched before stays.
pub fn fetch_into(
    folder: &Path,
    manifest: &Manifest,
    mirrors: &Mirrors,
    interrupt: &cli::Interrupt,
) -> anyhow::Result<Fetched> {
    let pieces = Pieces::new(folder);
    let missing = missing(&pieces, manifest);
    let bytes: u64 = missing.iter().map(|fragment| fragment.size).sum();
    let fetched = Fetched {
        present: distinct(&manifest.fragments).len() - missing.len(),
        pieces: missing.len(),
        bytes,
    };
    if missing.is_empty() {
        return Ok(fetched);
    }
    if let Some(free) = atomic::available_space(folder) {
        ensure!(
            bytes <= free,
            "{} has {} left, and {} are to be fetched",
            folder.display(),
            cli::bytes(free),
            cli::bytes(bytes)
        );
    }
    // A folder of its own for unfinished files; what a killed process left goes with the next fetch.
    let scratch = atomic::scratch_for(&folder.join(MANIFEST_NAME), true)?;
    let progress = cli::Progress::new("fetch", bytes, cli::Meter::Bytes);
    for_each(&missing, interrupt, |fragment, buffer| {
        mirrors.piece(fragment, buffer)?;
        let path = pieces.path(fragment);
        let unfinished = scratch.path().join(&fragment.file);
        write_synced(&unfinished, buffer)
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        progress.advance(fragment.size);
        Ok(())
    })?;
    progress.finish();
    Ok(fetched)
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

/// The distinct pieces of a manifest that the folder lacks or has damaged, in file order.
pub(crate) fn missing<'a>(pieces: &Pieces, manifest: &'a Manifest) -> Vec<&'a Fragment> {
    let mut distinct: Vec<&Fragment> = distinct(&manifest.fragments).into_values().collect();
    distinct.sort_by_key(|fragment| fragment.id);
    let lacks = |buffer: &mut Vec<u8>, fragment: &'a Fragment| {
        pieces.read(fragment, buffer).err().map(|_| fragment)
    };
    distinct.into_par_iter().map_init(Vec::new, lacks).flatten().collect()
}

/// Calls `work` for each piece, on several threads, each with a buffer of its own; stops at the first
/// error or when the user asks for it.
pub(crate) fn for_each(
    fragments: &[&Fragment],
    interrupt: &cli::Interrupt,
    work: impl Fn(&Fragment, &mut Vec<u8>) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let largest = fragments.iter().map(|fragment| fragment.size).max().unwrap_or(1).max(1);
    let fit = usize::try_from(IN_FLIGHT_BYTES / largest).unwrap_or(WORKERS);
    let workers = WORKERS.min(fit.max(1)).min(fragments.len());
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let first_error = Mutex::new(None);
    let worker = || {
        let mut buffer = Vec::new();
        while !failed.load(Ordering::Relaxed) && !interrupt.requested() {
            let Some(fragment) = fragments.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            if let Err(error) = work(fragment, &mut buffer) {
                failed.store(true, Ordering::Relaxed);
                let mut first = first_error.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(worker);
        }
    });
    if let Some(error) = first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    if interrupt.requested() {
        return Err(cli::Interrupted.into());
    }
    Ok(())
}
