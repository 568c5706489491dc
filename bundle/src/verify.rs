//! Is this bundle what was packed, and does it still work here?

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};
use checkpoint::hash;
use fragment::{FragmentFolder, Problem, ProblemKind};
use gguf::TensorSource;

use crate::archive;
use crate::device::DeviceTokenizer;
use crate::files::list_files;
use crate::manifest::{BUNDLE_NAME, BundleManifest, FileEntry, MAX_BYTES, Variant, piece_path};
use crate::report::{SelfTestResult, VerifyReport};
use crate::self_test::continuation;
use crate::signature::{self, SIGNATURE_NAME};

/// Verifies a bundle's folder or `.zip`: every file against its hashes, every variant's fragments
/// against the whole file, the signature if there is one, then the self-test of every variant,
/// from the fragments as they lie.
///
/// What is wrong with a file or a self-test is in the report and is no error; the self-test is run
/// only on sound files.
///
/// # Errors
/// When there is no `bundle.json`, it is refused, or the system refuses.
pub fn verify(input: &Path) -> anyhow::Result<VerifyReport> {
    if input.is_dir() {
        return verify_folder(input, input);
    }
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    archive::extract(input, folder.path())
        .with_context(|| format!("cannot unpack {}", input.display()))?;
    verify_folder(folder.path(), input)
}

/// Reads and checks the `bundle.json` of a folder.
///
/// # Errors
/// When it is missing, or with the rule that it breaks.
pub fn read_manifest(folder: &Path) -> anyhow::Result<BundleManifest> {
    let path = folder.join(BUNDLE_NAME);
    let mut text = Vec::new();
    fragment::open_plain(&path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(text.len() as u64 <= MAX_BYTES, "{} is larger than {MAX_BYTES} bytes", path.display());
    BundleManifest::parse(&text).with_context(|| path.display().to_string())
}

fn verify_folder(folder: &Path, input: &Path) -> anyhow::Result<VerifyReport> {
    let manifest = read_manifest(folder)?;
    let mut problems = check_files(folder, &manifest)?;
    let signed_by = signature::signer(folder).unwrap_or_else(|error| {
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
        signed_by,
        files: manifest.files.len() + 1,
        size: manifest.files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size)),
        problems,
        self_test,
    })
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
