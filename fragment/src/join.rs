//! Joins pieces into the file that they were cut from, byte for byte.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use checkpoint::atomic;
use checkpoint::hash::Hasher;

use crate::folder::Located;
use crate::manifest::Manifest;
use crate::pieces::Pieces;
use crate::report::JoinReport;

/// The input of [`join`].
#[derive(Debug, Clone)]
pub struct JoinJob {
    /// A folder with `manifest.json`, or the manifest itself.
    pub input: PathBuf,
    /// The GGUF to write.
    pub output: PathBuf,
    /// Replace the file if it exists.
    pub force: bool,
}

/// Concatenates the pieces. Every piece and the whole are verified before the file appears.
///
/// # Errors
/// When the manifest is refused, a piece is missing or damaged, the output lies in the folder of
/// the pieces, it exists and `force` is off, or the system refuses.
pub fn join(job: &JoinJob) -> anyhow::Result<JoinReport> {
    let Located { path, manifest, pieces } = Located::find(&job.input)?;
    // In the manifest's folder it would replace a piece, or be a file that no manifest lists.
    atomic::ensure_outside(path.parent().unwrap_or(Path::new("")), &job.output)?;
    atomic::write_file(&job.output, job.force, |out| {
        write_whole(&manifest, &pieces, out)
            .with_context(|| format!("cannot join {}", job.input.display()))
    })?;
    Ok(JoinReport {
        output: job.output.clone(),
        size: manifest.file.size,
        pieces: manifest.fragments.len(),
        sha256: manifest.file.sha256,
    })
}

fn write_whole<W: Write + Send>(
    manifest: &Manifest,
    pieces: &Pieces,
    out: &mut W,
) -> anyhow::Result<()> {
    let progress = cli::Progress::new("join", manifest.file.size, cli::Meter::Bytes);
    let mut hasher = Hasher::new();
    let mut buffer = Vec::new();
    for fragment in &manifest.fragments {
        pieces.read(fragment, &mut buffer)?;
        let (written, ()) = rayon::join(|| out.write_all(&buffer), || hasher.update(&buffer));
        written?;
        progress.advance(fragment.size);
    }
    progress.finish();
    check_whole(manifest, hasher)
}

/// Compares size and hashes of the joined file with the manifest's.
pub(crate) fn check_whole(manifest: &Manifest, hasher: Hasher) -> anyhow::Result<()> {
    let (found, expected) = (hasher.finish(), &manifest.file);
    for (which, found, expected) in
        [("SHA-256", &found.sha256, &expected.sha256), ("BLAKE3", &found.blake3, &expected.blake3)]
    {
        ensure!(
            found == expected,
            "the pieces are sound, but together their {which} is {found} and the manifest \
             expects {expected}: the manifest was altered, fetch it again"
        );
    }
    Ok(())
}
