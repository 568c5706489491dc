//! Fetches a model in pieces into a folder.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use checkpoint::atomic;
use serde::Serialize;

use crate::address::Origin;
use crate::fetch::fetch_into;
use crate::mirrors::{FetchedManifest, Mirrors, SourceReport, manifest_of};
use crate::transport::Patience;
use crate::tree::tree_name;

/// The input of [`pull`].
#[derive(Debug, Clone)]
pub struct PullJob {
    /// Where the pieces are, in the order in which they are asked for them.
    pub from: Vec<Origin>,
    /// The folder for the pieces and the manifest.
    pub output: PathBuf,
    /// How long a source may take.
    pub patience: Patience,
    /// Checked between pieces.
    pub interrupt: cli::Interrupt,
}

/// What `pull` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PullReport {
    /// The folder.
    pub output: PathBuf,
    /// BLAKE3 of the manifest: behind `#`, an address is pinned to it.
    pub manifest: String,
    /// Name of the file that the pieces form.
    pub file: String,
    /// Its bytes.
    pub size: u64,
    /// Its BLAKE3, as the manifest says; `fragment join` and `fragment verify` verify it.
    pub blake3: String,
    /// Files of pieces that were fetched.
    pub fetched: usize,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Files of pieces that were there and sound.
    pub present: usize,
    /// What each source gave and did wrong.
    pub sources: Vec<SourceReport>,
}

/// Fetches the pieces that the folder lacks, then writes the manifest. A folder without a manifest is
/// a fetch that was stopped: the same command goes on with it.
///
/// # Errors
/// When no source has the manifest or one of the pieces, the folder holds something else, the system
/// refuses, or a stop was requested.
pub fn pull(job: &PullJob) -> anyhow::Result<PullReport> {
    let mirrors = Mirrors::connect(&job.from, job.patience)?;
    let found = manifest_of(&mirrors, &job.from)?;
    let name = &job.from.first().context("there is no source")?.manifest;
    let target = job.output.join(name);
    atomic::create_folders(&job.output)
        .with_context(|| format!("cannot create {}", job.output.display()))?;
    guard(&job.output, &target, &found)?;
    let fetched = fetch_into(&job.output, &found.manifest, &mirrors, &job.interrupt)?;
    // Last: a reader takes a folder with a manifest for complete.
    if !target.exists() {
        atomic::write_file(&target, false, |out| {
            out.write_all(&found.text).with_context(|| format!("cannot write {}", target.display()))
        })?;
    }
    Ok(PullReport {
        output: job.output.clone(),
        manifest: found.blake3,
        file: found.manifest.file.name.clone(),
        size: found.manifest.file.size,
        blake3: found.manifest.file.blake3.clone(),
        fetched: fetched.pieces,
        fetched_bytes: fetched.bytes,
        present: fetched.present,
        sources: mirrors.report(),
    })
}

/// Refuses a folder that holds something other than pieces of this model, or of others in the same
/// form: a mistyped path must not fill a home folder.
fn guard(folder: &Path, target: &Path, found: &FetchedManifest) -> anyhow::Result<()> {
    if target.symlink_metadata().is_ok() {
        let there = crate::read_manifest(target)?;
        ensure!(
            there == found.manifest,
            "{} is of another model ({}): name another folder",
            target.display(),
            there.file.name
        );
        return Ok(());
    }
    let place = || format!("cannot list {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(place)? {
        let name = entry.with_context(place)?.file_name();
        let name = name.to_string_lossy();
        let hash = name.split('.').next().unwrap_or_default();
        let ours = name.starts_with('.')
            || name.ends_with(crate::manifest::MANIFEST_NAME)
            || *name == crate::manifest::piece_name(hash)
            || *name == tree_name(hash);
        ensure!(ours, "{} holds something else ({name:?}): name another folder", folder.display());
    }
    Ok(())
}

impl fmt::Display for PullReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "output   {}", self.output.display())?;
        writeln!(f, "file     {}, {}", self.file, cli::bytes(self.size))?;
        writeln!(
            f,
            "fetched  {} pieces, {}; {} were there",
            self.fetched,
            cli::bytes(self.fetched_bytes),
            self.present
        )?;
        for source in &self.sources {
            write!(f, "from     {}: {}", source.source, cli::bytes(source.bytes))?;
            match &source.first_fault {
                Some(first) => writeln!(f, ", {} faults; the first: {first}", source.faults)?,
                None => writeln!(f)?,
            }
        }
        writeln!(f, "manifest {}", self.manifest)?;
        write!(f, "blake3   {}", self.blake3)
    }
}
