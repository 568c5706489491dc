//! Is this bundle what was packed, and does it still work here?

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use checkpoint::hash;
use fragment::{FragmentFolder, Problem, ProblemKind};
use gguf::TensorSource;

use crate::archive;
use crate::device::DeviceTokenizer;
use crate::files::list_files;
use crate::keys::read_public;
use crate::manifest::{BUNDLE_NAME, BundleManifest, FileEntry, MAX_BYTES, Variant, piece_path};
use crate::report::{SelfTestResult, VerifyReport};
use crate::self_test::continuation;
use crate::signature::{SIGNATURE_NAME, Signature, read_signature};
use crate::statement::Statement;

/// What [`verify_as`] asks for beyond a sound bundle.
#[derive(Debug, Clone, Default)]
pub struct Demands {
    /// File of the public key that must have signed, or must lead to the one that did.
    pub key: Option<PathBuf>,
    /// Least release.
    pub at_least: Option<u64>,
    /// Files of statements by keys, besides those in `bundle.sig`.
    pub statements: Vec<PathBuf>,
    /// Whether a bundle counts after its last day.
    pub allow_expired: bool,
}

/// Verifies a bundle's folder or `.zip`: every file against its hashes, every variant's fragments
/// against the whole file, the signature if there is one, then the self-test of every variant,
/// from the fragments as they lie.
///
/// What is wrong with a file or a self-test is in the report and is no error; the self-test is run
/// only on sound files.
///
/// # Errors
/// When there is no `bundle.json`, it is refused or expired, or the system refuses.
pub fn verify(input: &Path) -> anyhow::Result<VerifyReport> {
    verify_as(input, &Demands::default())
}

/// As [`verify`], and holds the bundle to `demands` before anything else.
///
/// # Errors
/// Those of [`verify`], and when a demand is not met.
pub fn verify_as(input: &Path, demands: &Demands) -> anyhow::Result<VerifyReport> {
    if input.is_dir() {
        return verify_folder(input, input, demands);
    }
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    archive::extract(input, folder.path())
        .with_context(|| format!("cannot unpack {}", input.display()))?;
    verify_folder(folder.path(), input, demands)
}

/// Reads and checks the `bundle.json` of a folder.
///
/// # Errors
/// When it is missing, or with the rule that it breaks.
pub fn read_manifest(folder: &Path) -> anyhow::Result<BundleManifest> {
    Ok(read_bundle(folder)?.1)
}

/// The `bundle.json` of a folder: its bytes, and what they say. Read once, so that a signature is
/// held against the very bytes that were understood.
pub(crate) fn read_bundle(folder: &Path) -> anyhow::Result<(Vec<u8>, BundleManifest)> {
    let path = folder.join(BUNDLE_NAME);
    let mut text = Vec::new();
    fragment::open_plain(&path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(text.len() as u64 <= MAX_BYTES, "{} is larger than {MAX_BYTES} bytes", path.display());
    let manifest = BundleManifest::parse(&text).with_context(|| path.display().to_string())?;
    Ok((text, manifest))
}

fn verify_folder(folder: &Path, input: &Path, demands: &Demands) -> anyhow::Result<VerifyReport> {
    let (bytes, manifest) = read_bundle(folder)?;
    let signed = check_signature(folder, &bytes, demands);
    let replaced = match &demands.key {
        Some(key) => {
            require_signed_by(&signed, key).with_context(|| input.display().to_string())?
        }
        None => Vec::new(),
    };
    require_fresh(&manifest, demands).with_context(|| input.display().to_string())?;
    let mut problems = check_files(folder, &manifest)?;
    let signed_by = signed.unwrap_or_else(|error| {
        let (file, what) = (SIGNATURE_NAME.to_owned(), cli::one_line(&error));
        problems.push(Problem { file, kind: ProblemKind::Damaged, what });
        None
    });
    if problems.is_empty() {
        let listed = manifest.by_path();
        let check = |variant| {
            let checked = check_variant(folder, &listed, variant);
            checked.err().map(|error| damaged(variant, &error))
        };
        problems = manifest.variants.iter().filter_map(check).collect();
    }
    let mut self_test = Vec::new();
    if problems.is_empty() {
        for variant in &manifest.variants {
            match run_self_test(folder, &manifest, variant) {
                Ok(result) => self_test.push(result),
                Err(error) => problems.push(damaged(variant, &error)),
            }
        }
    }
    Ok(VerifyReport {
        input: input.to_owned(),
        name: manifest.name,
        release: manifest.release,
        expires: manifest.expires,
        signed_by: signed_by.map(|signature| signature.key),
        replaced,
        files: manifest.files.len() + 1,
        size: manifest.files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size)),
        problems,
        self_test,
    })
}

/// The signature of `bytes`, which are the folder's `bundle.json`; `None` where nobody signed.
fn check_signature(
    folder: &Path,
    bytes: &[u8],
    demands: &Demands,
) -> anyhow::Result<Option<Signature>> {
    let read = |path: &PathBuf| Statement::read(path);
    let more = demands.statements.iter().map(read).collect::<anyhow::Result<_>>()?;
    let Some(text) = read_signature(folder)? else { return Ok(None) };
    Signature::check(bytes, &text, more).map(Some).context(SIGNATURE_NAME)
}

/// The keys that led from the one in the file `key` to the signer, without the signer.
fn require_signed_by(
    signed: &anyhow::Result<Option<Signature>>,
    key: &Path,
) -> anyhow::Result<Vec<String>> {
    let trusted = read_public(key)?;
    let signature = match signed {
        Ok(Some(signature)) => signature,
        Ok(None) => bail!("no {SIGNATURE_NAME}: expected one by {trusted}"),
        Err(error) => bail!("{}", cli::one_line(error)),
    };
    let mut path = signature.statements.path(&trusted, &signature.key).with_context(|| {
        format!("expected a signature by {trusted}, the key of {}", key.display())
    })?;
    path.pop();
    Ok(path)
}

fn require_fresh(manifest: &BundleManifest, demands: &Demands) -> anyhow::Result<()> {
    if let Some(least) = demands.at_least {
        let stated = manifest.release.map_or("not stated".to_owned(), |n| n.to_string());
        ensure!(
            manifest.release.is_some_and(|release| release >= least),
            "its release is {stated}: expected at least {least}"
        );
    }
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().to_string();
    ensure!(
        demands.allow_expired || !manifest.is_expired_on(&today),
        "it expired on {}: take a newer one, or add --allow-expired",
        manifest.expires.as_deref().unwrap_or_default()
    );
    Ok(())
}

/// Compares what is there with what is listed, both ways.
fn check_files(folder: &Path, manifest: &BundleManifest) -> anyhow::Result<Vec<Problem>> {
    let mut listed = manifest.by_path();
    let mut problems = Vec::new();
    // Only files that were found by walking are opened, so no listed path can lead outside.
    for path in list_files(folder)? {
        match listed.remove(path.as_str()) {
            Some(entry) => problems.extend(check_file(folder, entry)?),
            None if path == BUNDLE_NAME || path == SIGNATURE_NAME => {}
            None => problems.push(Problem {
                what: format!("{path:?} is not listed in {BUNDLE_NAME}"),
                // Whoever put it there chose the name, which may hold what a terminal obeys.
                file: path.replace(char::is_control, "?"),
                kind: ProblemKind::Foreign,
            }),
        }
    }
    problems.extend(listed.into_keys().map(|path| Problem {
        file: path.to_owned(),
        kind: ProblemKind::Missing,
        what: format!("{path} is missing"),
    }));
    problems.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(problems)
}

fn check_file(folder: &Path, entry: &FileEntry) -> anyhow::Result<Option<Problem>> {
    let path = folder.join(&entry.path);
    let found =
        hash::hash_file(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let expected = entry.digests();
    let what = if found.size != expected.size {
        format!("{} has {} bytes: expected {}", entry.path, found.size, expected.size)
    } else if found.sha256 != expected.sha256 {
        format!("its SHA-256 is {}, expected {}", found.sha256, expected.sha256)
    } else if found.blake3 != expected.blake3 {
        format!("its BLAKE3 is {}, expected {}", found.blake3, expected.blake3)
    } else {
        return Ok(None);
    };
    Ok(Some(Problem { file: entry.path.clone(), kind: ProblemKind::Damaged, what }))
}

/// The fragments are those that `bundle.json` lists, whose hashes were found right, and make up the
/// file that it names.
fn check_variant(
    folder: &Path,
    listed: &HashMap<&str, &FileEntry>,
    variant: &Variant,
) -> anyhow::Result<()> {
    let path = folder.join(&variant.manifest);
    for piece in fragment::read_manifest(&path)?.fragments {
        let place = piece_path(&piece.file);
        let entry = listed.get(place.as_str());
        ensure!(
            entry.is_some_and(|entry| entry.digests() == piece.digests()),
            "{BUNDLE_NAME} does not list {place} with the size and the hashes of the manifest: \
             fetch the bundle again"
        );
    }
    let file = fragment::verify_whole(&path)?.file;
    ensure!(
        (file.size, &file.sha256, &file.blake3) == (variant.size, &variant.sha256, &variant.blake3),
        "the manifest is of another file than {BUNDLE_NAME} says"
    );
    Ok(())
}

fn damaged(variant: &Variant, error: &anyhow::Error) -> Problem {
    let (file, what) = (variant.manifest.clone(), cli::one_line(error));
    Problem { file, kind: ProblemKind::Damaged, what }
}

fn run_self_test(
    folder: &Path,
    manifest: &BundleManifest,
    variant: &Variant,
) -> anyhow::Result<SelfTestResult> {
    let expected = manifest.expected(&variant.recipe)?;
    let source = FragmentFolder::open(&folder.join(&variant.manifest))?;
    let ends = DeviceTokenizer::of(source.metadata()).ends;
    let found = continuation(&source, &manifest.self_test.prompt_tokens, expected.len(), &ends)
        .with_context(|| format!("the self-test of {}", variant.recipe))?;
    Ok(SelfTestResult {
        recipe: variant.recipe.clone(),
        passed: found == expected,
        expected: expected.to_vec(),
        found,
    })
}
