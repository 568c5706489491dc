//! Checks that every piece exists, is undamaged and is in a manifest.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use checkpoint::hash::{Hasher, hash_bytes};
use rayon::prelude::*;

use crate::PieceError;
use crate::folder::{FragmentFolder, Located, distinct};
use crate::join::check_whole;
use crate::manifest::{Fragment, MANIFEST_NAME, Manifest};
use crate::pieces::Pieces;
use crate::report::{Problem, ProblemKind, VerifyReport};

/// Verifies every piece of every manifest in a folder (or of one manifest, given by its own name),
/// then the whole files that they form, then the headers in them.
///
/// Problems with a piece are in the report, by the name of the piece, and are not errors.
///
/// # Errors
/// When there is no manifest, one is refused, or the folder cannot be listed.
pub fn verify(input: &Path) -> anyhow::Result<VerifyReport> {
    let manifests = manifests(input)?;
    let folder = manifests[0].path.parent().unwrap_or(Path::new("")).to_owned();
    let fragments = manifests.iter().flat_map(|found| &found.manifest.fragments);
    let expected = distinct(fragments);

    for found in &manifests {
        for fragment in &found.manifest.fragments {
            let other = expected[fragment.file.as_str()];
            ensure!(
                (fragment.size, &fragment.sha256) == (other.size, &other.sha256),
                "{}: size or SHA-256 of {} differ from what another manifest says of it",
                found.path.display(),
                fragment.file
            );
        }
    }
    let mut problems = check_pieces(&Pieces::new(&folder), expected.values().copied());
    if input.is_dir() {
        problems.extend(foreign_files(&folder, &expected.keys().copied().collect(), &manifests)?);
    }
    problems.sort_by(|a, b| a.file.cmp(&b.file));
    if problems.is_empty() {
        problems = manifests.iter().filter_map(check_file).collect();
    }
    Ok(VerifyReport {
        input: input.to_owned(),
        manifests: manifests.len(),
        pieces: expected.len(),
        size: expected.values().map(|fragment| fragment.size).sum(),
        problems,
    })
}

/// Every `manifest.json` and `NAME.manifest.json` of a folder, in the order of their names.
fn manifests(input: &Path) -> anyhow::Result<Vec<Located>> {
    if !input.is_dir() {
        return Ok(vec![Located::find(input)?]);
    }
    let mut paths: Vec<PathBuf> =
        list(input)?.into_iter().filter(|path| is_manifest(path)).collect();
    paths.sort();
    ensure!(
        !paths.is_empty(),
        "{} holds no {MANIFEST_NAME}: expected a folder that fragment split wrote",
        input.display()
    );
    paths.iter().map(|path| Located::find(path)).collect()
}

fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name == MANIFEST_NAME || name.ends_with(&format!(".{MANIFEST_NAME}"))
}

fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let paths: std::io::Result<Vec<PathBuf>> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect();
    paths.with_context(|| format!("cannot list {}", folder.display()))
}

fn check_pieces<'a>(
    pieces: &Pieces,
    fragments: impl Iterator<Item = &'a Fragment>,
) -> Vec<Problem> {
    let fragments: Vec<&Fragment> = fragments.collect();
    let problem = |buffer: &mut Vec<u8>, fragment: &&Fragment| {
        let error = check_piece(pieces, fragment, buffer).err()?;
        let kind = match error {
            PieceError::Missing { .. } => ProblemKind::Missing,
            _ => ProblemKind::Damaged,
        };
        Some(Problem { file: fragment.file.clone(), kind, what: error.to_string() })
    };
    fragments.par_iter().map_init(Vec::new, problem).flatten().collect()
}

/// Verifies both hashes: a browser verifies SHA-256, so an error in that alone must be found too.
fn check_piece(
    pieces: &Pieces,
    fragment: &Fragment,
    buffer: &mut Vec<u8>,
) -> Result<(), PieceError> {
    pieces.read_unverified(fragment, buffer)?;
    let found = hash_bytes(buffer);
    for (which, found, expected) in
        [("BLAKE3", found.blake3, &fragment.blake3), ("SHA-256", found.sha256, &fragment.sha256)]
    {
        if found != *expected {
            let (path, expected) = (pieces.path(fragment), expected.clone());
            return Err(PieceError::Damaged { path, which, found, expected });
        }
    }
    Ok(())
}

fn foreign_files(
    folder: &Path,
    expected: &HashSet<&str>,
    manifests: &[Located],
) -> anyhow::Result<Vec<Problem>> {
    let known = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        expected.contains(name) || manifests.iter().any(|found| found.path == path)
    };
    let foreign = list(folder)?.into_iter().filter(|path| !known(path)).map(|path| {
        // The file's name may contain characters that control a terminal.
        let name =
            path.file_name().unwrap_or_default().to_string_lossy().replace(char::is_control, "?");
        Problem {
            what: format!("{path:?} belongs to no manifest of this folder"),
            file: name,
            kind: ProblemKind::Foreign,
        }
    });
    Ok(foreign.collect())
}

/// Verifies the whole file that the pieces of one manifest form, and the header in it, for callers
/// that have verified each piece already.
///
/// # Errors
/// When the manifest is refused, a piece is missing, or the whole file has another hash.
pub fn verify_whole(manifest: &Path) -> anyhow::Result<Manifest> {
    let found = Located::find(manifest)?;
    check_located(&found)?;
    Ok(found.manifest)
}

fn check_located(found: &Located) -> anyhow::Result<()> {
    check_whole(&found.manifest, hash_whole(&found.manifest, &found.pieces)?)?;
    FragmentFolder::open(&found.path).map(drop)
}

/// Verifies the file that undamaged pieces form, and the header in it.
fn check_file(found: &Located) -> Option<Problem> {
    let error = check_located(found).err()?;
    let file = found.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Some(Problem { file, kind: ProblemKind::Damaged, what: cli::one_line(&error) })
}

/// The pieces were verified one by one before; the hashes of the whole file show whether they
/// changed since.
fn hash_whole(manifest: &Manifest, pieces: &Pieces) -> anyhow::Result<Hasher> {
    let mut hasher = Hasher::new();
    let mut buffer = Vec::new();
    for fragment in &manifest.fragments {
        pieces.read_unverified(fragment, &mut buffer)?;
        hasher.update(&buffer);
    }
    Ok(hasher)
}
