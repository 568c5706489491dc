//! Cuts a GGUF into pieces with a manifest.
//!
//! Most of the time is spent on SHA-256, of the whole file and of the pieces, which are computed in
//! parallel. Memory is one piece for each thread.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, ensure};
use checkpoint::{atomic, hash};
use gguf::Layout;
use rayon::prelude::*;

use crate::folder::{Located, distinct};
use crate::manifest::{
    FORMAT, Fragment, MANIFEST_NAME, MAX_FRAGMENT_BYTES, Manifest, Tensor, TensorKind, VERSION,
    WholeFile, piece_name,
};
use crate::packing;
use crate::report::SplitReport;
use crate::tree::{tree_name, tree_of};
use crate::whole::Whole;

/// The input of [`split`].
#[derive(Debug, Clone)]
pub struct SplitJob {
    /// The GGUF, or any one part of a model in several, which are joined.
    pub input: PathBuf,
    /// The folder for the pieces and `manifest.json`.
    pub output: PathBuf,
    /// Most bytes in one piece.
    pub max_bytes: u64,
    /// Replace the folder if it exists.
    pub force: bool,
}

/// Writes a folder with the pieces of one file and its `manifest.json`. After a failure the folder
/// does not exist.
///
/// # Errors
/// When the input is not a canonical GGUF, one of its parts is missing, it is inside of the output,
/// the output exists and `force` is off, or the system refuses.
pub fn split(job: &SplitJob) -> anyhow::Result<SplitReport> {
    guard_replaced(&job.output, MANIFEST_NAME)?;
    atomic::ensure_outside(&job.input, &job.output)?;
    for file in Whole::open(&job.input)?.files() {
        atomic::ensure_outside(file, &job.output)?;
    }
    let manifest = atomic::write_dir(&job.output, job.force, |folder| {
        split_into(folder, MANIFEST_NAME, &job.input, job.max_bytes)
    })?;
    Ok(SplitReport::new(&job.output, &manifest))
}

/// Writes the trees of the pieces of a folder beside them, as far as pieces have one. They are of use
/// to readers of parts only, and a folder without them is complete.
///
/// # Errors
/// When there is no manifest, a piece is missing or damaged, or the system refuses.
pub fn add_trees(folder: &Path) -> anyhow::Result<()> {
    let Located { manifest, pieces, .. } = Located::find(folder)?;
    distinct(&manifest.fragments).into_par_iter().try_for_each(|(_, fragment)| {
        let mut piece = Vec::new();
        pieces.read(fragment, &mut piece)?;
        let tree = tree_of(&piece);
        if !tree.is_empty() {
            let path = folder.join(tree_name(&fragment.blake3));
            std::fs::write(&path, &tree)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        anyhow::Ok(())
    })
}

/// Refuses to replace a folder that this program did not write: `--force` with a mistyped path must
/// not delete a home folder.
///
/// # Errors
/// When `folder` exists, is not empty and does not contain a `marker` that this program wrote.
pub fn guard_replaced(folder: &Path, marker: &str) -> anyhow::Result<()> {
    let Ok(mut entries) = std::fs::read_dir(folder) else { return Ok(()) };
    ensure!(
        entries.next().is_none() || is_ours(&folder.join(marker)),
        "{} holds something else (no {marker} of ours in it): name another folder",
        folder.display()
    );
    Ok(())
}

/// Whether a marker begins as this program writes it; it may be damaged after that. The
/// `manifest.json` of a web page begins differently.
fn is_ours(marker: &Path) -> bool {
    let mut start = Vec::new();
    let read = plain_file::open(marker).and_then(|file| file.take(1024).read_to_end(&mut start));
    read.is_ok() && String::from_utf8_lossy(&start).contains("\"pocketgpt-")
}

/// Writes the pieces of one file and its manifest, called `manifest_name`, into a folder that may
/// already contain pieces of other files; pieces with equal bytes are written once.
///
/// The folder is not synced, because the caller writes more files into it.
///
/// # Errors
/// When the input is not a canonical GGUF, `max_bytes` is out of range, or the system refuses.
pub fn split_into(
    folder: &Path,
    manifest_name: &str,
    input: &Path,
    max_bytes: u64,
) -> anyhow::Result<Manifest> {
    ensure!(
        (1..=MAX_FRAGMENT_BYTES).contains(&max_bytes),
        "--max-bytes {max_bytes}: expected 1 to {MAX_FRAGMENT_BYTES}"
    );
    let whole = Whole::open(input)?;
    let (layout, size) = (whole.layout(), whole.size());
    let ranges = packing::pack(layout, size, max_bytes)?;

    let progress = cli::Progress::new("split", size, cli::Meter::Bytes);
    let writer = PieceWriter { whole: &whole, folder, written: Mutex::default() };
    let (digests, fragments) = rayon::join(
        || whole.digests(),
        || {
            let pieces = ranges.par_iter().enumerate();
            pieces
                .map_init(Vec::new, |buffer, (id, range)| {
                    let fragment = writer.write(id, range, buffer)?;
                    progress.advance(fragment.size);
                    Ok(fragment)
                })
                .collect::<anyhow::Result<Vec<Fragment>>>()
        },
    );
    progress.finish();
    let (digests, fragments) = (digests?, fragments?);
    ensure!(
        digests.size == size,
        "{} changed while it was split: run the command again",
        input.display()
    );
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        version: VERSION,
        file: WholeFile {
            name: whole.name().to_owned(),
            size: digests.size,
            sha256: digests.sha256,
            blake3: digests.blake3,
        },
        fragments,
        tensors: tensors(layout, &ranges),
    };
    let path = folder.join(manifest_name);
    std::fs::write(&path, manifest.to_json()?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(manifest)
}

/// The manifest's list of tensors for a file of this layout, cut at these places.
fn tensors(layout: &Layout, pieces: &[Range<u64>]) -> Vec<Tensor> {
    let tensor = |info: &gguf::TensorInfo| {
        let start = layout.data_start + info.offset;
        Tensor {
            tensor_name: info.name.clone(),
            tensor_type: TensorKind::of(&info.name),
            shape: info.shape.clone(),
            dtype: info.tensor_type,
            shards: packing::shards(pieces, start, start + info.size),
        }
    };
    layout.tensors.iter().map(tensor).collect()
}

/// Copies byte ranges of a file into files named by their content.
struct PieceWriter<'a> {
    whole: &'a Whole,
    folder: &'a Path,
    /// Pieces that this run has written or is writing, so that two threads do not write the same
    /// one.
    written: Mutex<HashSet<String>>,
}

impl PieceWriter<'_> {
    fn write(
        &self,
        id: usize,
        range: &Range<u64>,
        buffer: &mut Vec<u8>,
    ) -> anyhow::Result<Fragment> {
        self.whole.read(range, buffer)?;
        let digests = hash::hash_bytes(buffer);
        let file = piece_name(&digests.blake3);
        let path = self.folder.join(&file);
        if self.is_new(&digests.blake3) && !path.exists() {
            write_new(&path, buffer).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Fragment {
            id,
            file,
            offset: range.start,
            size: digests.size,
            sha256: digests.sha256,
            blake3: digests.blake3,
        })
    }

    fn is_new(&self, blake3: &str) -> bool {
        let mut written = self.written.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        written.insert(blake3.to_owned())
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    File::create_new(path)?.write_all(bytes)
}
