//! Checks that every piece exists, is undamaged and is in a manifest.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, ensure};
use checkpoint::hash::{Hasher, hash_bytes};
use rayon::prelude::*;

use crate::PieceError;
use crate::address::{Origin, is_address};
use crate::fetch::for_each;
use crate::folder::{FragmentFolder, Located, distinct};
use crate::join::check_whole;
use crate::manifest::{Fragment, MANIFEST_NAME, Manifest, piece_name};
use crate::pieces::{Pieces, open_plain};
use crate::remote::open_remote;
use crate::report::{Problem, ProblemKind, VerifyReport};
use crate::transport::{Fault, FaultKind, Patience, Wanted, connect};
use crate::tree::{has_tree, tree_name, tree_of};

/// Verifies every piece of every manifest in a folder (or of one manifest, given by its own name),
/// then the whole files that they form, then the headers in them.
///
/// Problems with a piece are in the report, by the name of the piece, and are not errors.
///
/// # Errors
/// When there is no manifest, one is refused, or the folder cannot be listed.
pub fn verify(input: &Path) -> anyhow::Result<VerifyReport> {
    if is_address(input) {
        return verify_remote(input);
    }
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
    problems.extend(check_trees(&folder, &Pieces::new(&folder), expected.values().copied()));
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

/// Fetches every piece of the manifest at an address and verifies it, then the header in the pieces.
/// Nothing is kept, and the hashes of the whole file are not computed.
fn verify_remote(address: &Path) -> anyhow::Result<VerifyReport> {
    let origin = Origin::parse(address)?;
    let store = connect(&origin, Patience::default())?;
    let (found, source) = open_remote(&[origin], Patience::default(), None)?;
    let manifest = found.manifest;
    let fragments: Vec<&Fragment> = distinct(&manifest.fragments).into_values().collect();
    let size = fragments.iter().map(|fragment| fragment.size).sum();
    let progress = cli::Progress::new("verify", size, cli::Meter::Bytes);
    let problems = Mutex::new(Vec::new());
    for_each(&fragments, &cli::Interrupt::default(), |fragment, buffer| {
        let read = store.read(&fragment.file, Wanted::Whole(fragment.size), buffer);
        let problem = match read {
            Ok(()) => wrong_hash(fragment, buffer).map(|(which, found, expected)| {
                let file = &fragment.file;
                let what = format!("{file} has the {which} {found}: expected {expected}");
                (ProblemKind::Damaged, what)
            }),
            Err(Fault { kind: FaultKind::Missing, what }) => Some((ProblemKind::Missing, what)),
            Err(Fault { kind: FaultKind::Wrong, what }) => Some((ProblemKind::Damaged, what)),
            // Nothing is known of the piece.
            Err(fault) => anyhow::bail!("{}: {fault}", store.name()),
        };
        if let Some((kind, what)) = problem {
            let mut all = problems.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(Problem { file: fragment.file.clone(), kind, what });
        }
        progress.advance(fragment.size);
        Ok(())
    })?;
    progress.finish();
    let mut problems = problems.into_inner().unwrap_or_else(PoisonError::into_inner);
    problems.sort_by(|a, b| a.file.cmp(&b.file));
    let pieces = fragments.len();
    if problems.is_empty() {
        FragmentFolder::over(manifest, Box::new(source))
            .with_context(|| address.display().to_string())?;
    }
    Ok(VerifyReport { input: address.to_owned(), manifests: 1, pieces, size, problems })
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

/// A tree is not trusted by anybody, but a damaged one makes readers take whole pieces.
fn check_trees<'a>(
    folder: &Path,
    pieces: &Pieces,
    fragments: impl Iterator<Item = &'a Fragment>,
) -> Vec<Problem> {
    let fragments: Vec<&Fragment> = fragments.filter(|fragment| has_tree(fragment.size)).collect();
    let problem = |buffer: &mut Vec<u8>, fragment: &&Fragment| {
        let file = tree_name(&fragment.blake3);
        let path = folder.join(&file);
        // Without trees a folder is complete.
        path.symlink_metadata().ok()?;
        pieces.read(fragment, buffer).ok()?;
        let expected = tree_of(buffer);
        let mut found = Vec::new();
        let read = open_plain(&path).map_err(|error| error.to_string()).and_then(|file| {
            file.take(expected.len() as u64 + 1)
                .read_to_end(&mut found)
                .map_err(|error| error.to_string())
        });
        let what = match read {
            Ok(_) if found == expected => return None,
            Ok(_) => format!("{} is not the tree of its piece", path.display()),
            Err(error) => error,
        };
        Some(Problem { file, kind: ProblemKind::Damaged, what })
    };
    fragments.par_iter().map_init(Vec::new, problem).flatten().collect()
}

/// Verifies both hashes of a piece in a folder.
fn check_piece(
    pieces: &Pieces,
    fragment: &Fragment,
    buffer: &mut Vec<u8>,
) -> Result<(), PieceError> {
    pieces.read_unverified(fragment, buffer)?;
    match wrong_hash(fragment, buffer) {
        None => Ok(()),
        Some((which, found, expected)) => {
            let (path, expected) = (pieces.path(fragment), expected.to_owned());
            Err(PieceError::Damaged { path, which, found, expected })
        }
    }
}

/// The first hash that is wrong: its name, what it is and what it should be. A browser verifies
/// SHA-256, so an error in that alone must be found too.
fn wrong_hash<'a>(fragment: &'a Fragment, piece: &[u8]) -> Option<(&'static str, String, &'a str)> {
    let found = hash_bytes(piece);
    [("BLAKE3", found.blake3, &fragment.blake3), ("SHA-256", found.sha256, &fragment.sha256)]
        .into_iter()
        .find(|(_, found, expected)| found != *expected)
        .map(|(which, found, expected)| (which, found, expected.as_str()))
}

fn foreign_files(
    folder: &Path,
    expected: &HashSet<&str>,
    manifests: &[Located],
) -> anyhow::Result<Vec<Problem>> {
    let known = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let piece = name.strip_suffix(".tree").map(piece_name);
        let is_tree = piece.is_some_and(|piece| expected.contains(piece.as_str()));
        is_tree || expected.contains(name) || manifests.iter().any(|found| found.path == path)
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
