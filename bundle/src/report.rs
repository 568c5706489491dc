//! The reports of the commands: JSON by `serde`, tables by `Display`.

use std::fmt;
use std::path::{Path, PathBuf};

use fragment::Problem;
use serde::Serialize;

use crate::manifest::{BundleManifest, Variant};
use crate::memory::megabytes;

/// What `pack` wrote.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PackReport {
    /// The folder.
    pub output: PathBuf,
    /// The archive, if it was requested.
    pub archive: Option<PathBuf>,
    /// Bytes of all files in the folder but `bundle.json`.
    pub size: u64,
    /// Files in the folder.
    pub files: usize,
    /// Whether the web chat is among them.
    pub has_app: bool,
    /// Whether it is signed: it replaced a signed bundle with the same `bundle.json`, so that the
    /// signature was kept.
    pub signature_kept: bool,
    /// Smallest first.
    pub variants: Vec<Variant>,
}

impl PackReport {
    pub(crate) fn new(
        output: &Path,
        archive: Option<PathBuf>,
        manifest: &BundleManifest,
        signature_kept: bool,
    ) -> Self {
        PackReport {
            output: output.to_owned(),
            archive,
            size: manifest.files.iter().map(|file| file.size).sum(),
            files: manifest.files.len() + 1,
            has_app: manifest.has_app(),
            signature_kept,
            variants: manifest.variants.clone(),
        }
    }
}

impl fmt::Display for PackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<10} {:>10} {:>6} {:>10} {:>8} {:>12} {:>10}",
            "variant", "size, MB", "bits", "mean KL", "top-1", "perplexity", "memory, MB"
        )?;
        for variant in &self.variants {
            let quality = &variant.quality;
            let figure = |value: Option<f64>, show: fn(f64) -> String| {
                value.map_or_else(|| "-".to_owned(), show)
            };
            writeln!(
                f,
                "{:<10} {:>10} {:>6.2} {:>10} {:>8} {:>12} {:>10}",
                variant.recipe,
                megabytes(variant.size),
                variant.bits_per_weight,
                figure(quality.mean_kl, |x| format!("{x:.2e}")),
                figure(quality.top1_agreement, |x| format!("{:.2}%", 100.0 * x)),
                figure(quality.perplexity, |x| format!("{x:.3}")),
                megabytes(variant.memory.total)
            )?;
        }
        let size = cli::bytes(self.size);
        let app = if self.has_app { "with" } else { "without" };
        write!(f, "{}: {} files, {size}, {app} the web chat", self.output.display(), self.files)?;
        if self.signature_kept {
            write!(f, "\nstill signed: bundle.json is the same as before")?;
        }
        match &self.archive {
            Some(archive) => write!(f, "\n{}", archive.display()),
            None => Ok(()),
        }
    }
}

/// What `verify` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The folder or archive.
    pub input: PathBuf,
    /// Name of the model.
    pub name: String,
    /// Which release of the model it is, where the bundle states it.
    pub release: Option<u64>,
    /// Its last day, where it has one.
    pub expires: Option<String>,
    /// The public key of the valid signature; `None` if the bundle is not signed.
    pub signed_by: Option<String>,
    /// The keys that led from the one asked for to `signed_by`; empty where that one signed itself.
    pub replaced: Vec<String>,
    /// Files that should be there.
    pub files: usize,
    /// Their bytes, `bundle.json` not counted.
    pub size: u64,
    /// By name; empty if every file is right.
    pub problems: Vec<Problem>,
    /// For each variant; empty if there are problems.
    pub self_test: Vec<SelfTestResult>,
}

/// The self-test of one variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SelfTestResult {
    /// The variant.
    pub recipe: String,
    /// Whether the tokens are the expected ones.
    pub passed: bool,
    /// As packed.
    pub expected: Vec<u32>,
    /// As computed now.
    pub found: Vec<u32>,
}

impl VerifyReport {
    /// Returns damage, or a failed self-test, as an error.
    ///
    /// # Errors
    /// Damage is bad input; a failed self-test is a gate.
    pub fn require_sound(&self) -> anyhow::Result<()> {
        if let Some(first) = self.problems.first() {
            anyhow::bail!(
                "{}: {} files are not as they were packed; the first: {}: {}",
                self.input.display(),
                self.problems.len(),
                first.file,
                first.what
            );
        }
        let failed = |result: &&SelfTestResult| !result.passed;
        let missed: Vec<String> = self.self_test.iter().filter(failed).map(describe).collect();
        if missed.is_empty() { Ok(()) } else { Err(cli::GateFailed { missed }.into()) }
    }
}

fn describe(result: &SelfTestResult) -> String {
    let SelfTestResult { recipe, expected, found, .. } = result;
    let right = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    format!("self-test of {recipe}: {right} of {} tokens as packed", expected.len())
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Problem { file, kind, what } in &self.problems {
            writeln!(f, "{:<8} {file}: {what}", format!("{kind:?}").to_lowercase())?;
        }
        for result in &self.self_test {
            let verdict = if result.passed { "as packed" } else { "OTHER TOKENS" };
            writeln!(f, "self-test {:<10} {} tokens {verdict}", result.recipe, result.found.len())?;
        }
        if let Some(key) = &self.signed_by {
            writeln!(f, "signed by {key}")?;
        }
        for key in self.replaced.iter().rev() {
            writeln!(f, "which replaced {key}")?;
        }
        match (self.release, &self.expires) {
            (Some(release), Some(day)) => writeln!(f, "release {release}, until {day}")?,
            (Some(release), None) => writeln!(f, "release {release}")?,
            (None, Some(day)) => writeln!(f, "until {day}")?,
            (None, None) => {}
        }
        let verdict = if self.require_sound().is_ok() { "sound" } else { "NOT SOUND" };
        let size = cli::bytes(self.size);
        write!(f, "{verdict}: {}, {} files, {size}", self.name, self.files)
    }
}
