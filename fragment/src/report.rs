//! The reports of the commands: JSON by `serde`, tables by `Display`.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::extract::ExtractReport;
use crate::folder::{distinct, piece_span};
use crate::manifest::Manifest;
use crate::pull::PullReport;
use crate::push::PushReport;

/// The report of whichever command ran.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// Of `split`.
    Split(SplitReport),
    /// Of `join`.
    Join(JoinReport),
    /// Of `verify`.
    Verify(VerifyReport),
    /// Of `inspect`.
    Inspect(InspectReport),
    /// Of `extract`.
    Extract(ExtractReport),
    /// Of `pull`.
    Pull(PullReport),
    /// Of `push`.
    Push(PushReport),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Split(report) => report.fmt(f),
            Report::Join(report) => report.fmt(f),
            Report::Verify(report) => report.fmt(f),
            Report::Inspect(report) => report.fmt(f),
            Report::Extract(report) => report.fmt(f),
            Report::Pull(report) => report.fmt(f),
            Report::Push(report) => report.fmt(f),
        }
    }
}

/// What `split` wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SplitReport {
    /// The folder.
    pub output: PathBuf,
    /// Bytes of the file that was split.
    pub size: u64,
    /// Pieces listed in the manifest.
    pub pieces: usize,
    /// Number of files: equal pieces share one.
    pub files: usize,
    /// Bytes of the largest piece.
    pub largest: u64,
    /// SHA-256 of the file that was split.
    pub sha256: String,
    /// BLAKE3 of the file that was split.
    pub blake3: String,
}

impl SplitReport {
    pub(crate) fn new(output: &Path, manifest: &Manifest) -> Self {
        SplitReport {
            output: output.to_owned(),
            size: manifest.file.size,
            pieces: manifest.fragments.len(),
            files: distinct(&manifest.fragments).len(),
            largest: manifest.fragments.iter().map(|fragment| fragment.size).max().unwrap_or(0),
            sha256: manifest.file.sha256.clone(),
            blake3: manifest.file.blake3.clone(),
        }
    }
}

impl fmt::Display for SplitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, largest) = (cli::bytes(self.size), cli::bytes(self.largest));
        writeln!(f, "output   {}", self.output.display())?;
        writeln!(f, "file     {size}")?;
        writeln!(f, "pieces   {} in {} files, largest {largest}", self.pieces, self.files)?;
        writeln!(f, "sha256   {}", self.sha256)?;
        write!(f, "blake3   {}", self.blake3)
    }
}

/// What `join` wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JoinReport {
    /// The file.
    pub output: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// Pieces it was made of.
    pub pieces: usize,
    /// Its SHA-256, verified.
    pub sha256: String,
}

impl fmt::Display for JoinReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "output   {}", self.output.display())?;
        writeln!(f, "file     {} from {} pieces", cli::bytes(self.size), self.pieces)?;
        write!(f, "sha256   {}", self.sha256)
    }
}

/// The kinds of problems with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProblemKind {
    /// In a manifest, but missing.
    Missing,
    /// Present, but its bytes differ from those that were written.
    Damaged,
    /// Present, but not in a manifest.
    Foreign,
}

/// A problem with one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its name in the folder.
    pub file: String,
    /// Its kind.
    pub kind: ProblemKind,
    /// One sentence with what was found and expected.
    pub what: String,
}

/// What `verify` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The folder or manifest.
    pub input: PathBuf,
    /// Manifests in it.
    pub manifests: usize,
    /// Distinct pieces they list.
    pub pieces: usize,
    /// Bytes of those pieces.
    pub size: u64,
    /// By name; empty if every piece is right.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    /// Turns problems into an error that counts them.
    ///
    /// # Errors
    /// When there is a problem.
    pub fn require_sound(&self) -> anyhow::Result<()> {
        let count = |kind| self.problems.iter().filter(|problem| problem.kind == kind).count();
        anyhow::ensure!(
            self.problems.is_empty(),
            "{}: {} damaged, {} missing, {} foreign of {} pieces; the first: {}",
            self.input.display(),
            count(ProblemKind::Damaged),
            count(ProblemKind::Missing),
            count(ProblemKind::Foreign),
            self.pieces,
            self.problems[0].what
        );
        Ok(())
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{:<8} {}: {}", kind_name(problem.kind), problem.file, problem.what)?;
        }
        let verdict = if self.problems.is_empty() { "sound" } else { "NOT SOUND" };
        let size = cli::bytes(self.size);
        write!(f, "{verdict}: {} pieces, {size}, manifests {}", self.pieces, self.manifests)
    }
}

fn kind_name(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Missing => "missing",
        ProblemKind::Damaged => "damaged",
        ProblemKind::Foreign => "foreign",
    }
}

/// What `inspect` read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InspectReport {
    /// The manifest.
    pub path: PathBuf,
    /// Its content.
    pub manifest: Manifest,
}

impl fmt::Display for InspectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Manifest { file, fragments, tensors, .. } = &self.manifest;
        writeln!(f, "{:<40} {:>7} {:>24} {:>12}  pieces", "tensor", "dtype", "shape", "bytes")?;
        for tensor in tensors {
            let bytes: u64 = tensor.shards.iter().map(|shard| shard.length).sum();
            writeln!(
                f,
                "{:<40} {:>7} {:>24} {:>12}  {}",
                tensor.tensor_name,
                tensor.dtype,
                format!("{:?}", tensor.shape),
                cli::bytes(bytes),
                piece_span(tensor)
            )?;
        }
        write!(
            f,
            "{}: {} ({} header), {} tensors in {} pieces, {} files",
            file.name,
            cli::bytes(file.size),
            cli::bytes(self.manifest.header_size()),
            tensors.len(),
            fragments.len(),
            distinct(fragments).len()
        )
    }
}
