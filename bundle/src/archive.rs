//! The bundle as one `.zip`: entries stored, not compressed, because weights do not compress and
//! a stored entry can be read in place. The same bundle always gives the same bytes.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use crate::failed_once::FailedOnce;
use crate::manifest::{BUNDLE_NAME, BundleManifest};
use crate::signature::SIGNATURE_NAME;

/// Entries from this size on need the zip64 fields.
const LARGE: u64 = u32::MAX as u64;

/// Most entries that are unpacked: what `bundle.json` may list, itself and its signature.
const MAX_ENTRIES: usize = fragment::manifest::MAX_ENTRIES + 2;

/// `FOLDER.zip`, beside the folder; a slash at the end of its path is no part of its name.
///
/// # Errors
/// When the path does not end in a name.
pub fn path_beside(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut name = folder
        .file_name()
        .with_context(|| format!("{} does not end in a name", folder.display()))?
        .to_owned();
    name.push(".zip");
    Ok(folder.with_file_name(name))
}

/// Writes `bundle.json`, its signature if it has one, and then every file that it lists, in its
/// order.
///
/// # Errors
/// When a file cannot be read or the archive not written.
pub fn write<W: Write + Seek>(
    folder: &Path,
    manifest: &BundleManifest,
    out: W,
) -> anyhow::Result<()> {
    // Dropped after an error, it would write its end, fail again and say so on standard error.
    let mut archive = ManuallyDrop::new(ZipWriter::new(FailedOnce::new(out)));
    let listed = manifest.files.iter().map(|file| (file.path.as_str(), file.size));
    let signed = folder.join(SIGNATURE_NAME).try_exists()?;
    let signature = signed.then_some((SIGNATURE_NAME, 0));
    for (path, size) in std::iter::once((BUNDLE_NAME, 0)).chain(signature).chain(listed) {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644)
            .large_file(size >= LARGE);
        archive.start_file(path, options)?;
        let file = folder.join(path);
        File::open(&file)
            .and_then(|mut file| std::io::copy(&mut file, &mut *archive))
            .with_context(|| format!("cannot add {} to the archive", file.display()))?;
    }
    ManuallyDrop::into_inner(archive).finish()?.flush()?;
    Ok(())
}

/// Whether `path` is the archive of a bundle, as far as its list of entries tells.
pub fn is_bundle(path: &Path) -> bool {
    has_entry(path, BUNDLE_NAME)
}

/// Whether `path` is the archive of a signed bundle, as far as its list of entries tells.
pub fn is_signed(path: &Path) -> bool {
    has_entry(path, SIGNATURE_NAME)
}

fn has_entry(path: &Path, name: &str) -> bool {
    let archive =
        plain_file::open(path).ok().and_then(|file| ZipArchive::new(BufReader::new(file)).ok());
    archive.is_some_and(|archive| archive.index_for_name(name).is_some())
}

/// Whether the file at `path` has exactly these bytes.
pub fn file_holds(path: &Path, bytes: &[u8]) -> bool {
    plain_file::open(path).is_ok_and(|file| holds_bytes(file, bytes).unwrap_or(false))
}

fn holds_bytes(reader: impl Read, bytes: &[u8]) -> std::io::Result<bool> {
    let mut found = Vec::new();
    reader.take(bytes.len() as u64 + 1).read_to_end(&mut found)?;
    Ok(found == bytes)
}

/// Whether `path` is the archive of the bundle with this `bundle.json`.
pub fn holds(path: &Path, bundle: &[u8]) -> bool {
    let read = || -> anyhow::Result<bool> {
        let mut archive = ZipArchive::new(BufReader::new(plain_file::open(path)?))?;
        Ok(holds_bytes(archive.by_name(BUNDLE_NAME)?, bundle)?)
    };
    read().unwrap_or(false)
}

/// Unpacks a bundle into an empty folder.
///
/// Only stored entries with plain paths are taken, each path once (also where case does not count),
/// no two from the same bytes, and no more bytes than the archive itself has: an archive can
/// neither climb out of the folder nor blow up in it, nor hold another file than the one checked.
///
/// # Errors
/// When the archive is damaged or breaks one of these rules.
pub fn extract(archive: &Path, folder: &Path) -> anyhow::Result<()> {
    let file =
        plain_file::open(archive).with_context(|| format!("cannot open {}", archive.display()))?;
    let mut room = file.metadata()?.len();
    let mut zip = ZipArchive::new(BufReader::new(file))
        .with_context(|| format!("{} is no zip archive", archive.display()))?;
    ensure!(zip.len() <= MAX_ENTRIES, "{} entries: expected at most {MAX_ENTRIES}", zip.len());
    ensure!(!zip.has_duplicate_names(), "a path is listed twice: expected each once");
    ensure!(!zip.has_overlapping_entries()?, "two entries share bytes: expected each its own");
    let mut seen = HashSet::new();
    for index in 0..zip.len() {
        let entry = zip.by_index(index)?;
        let name = entry.name().context("an entry's name is no text")?.into_owned();
        crate::manifest::check_path(&name)?;
        ensure!(
            entry.compression() == CompressionMethod::Stored && entry.is_file(),
            "{name}: expected a stored file"
        );
        ensure!(
            seen.insert(name.to_ascii_lowercase()),
            "{name}: another entry differs from it in case only"
        );
        room = room
            .checked_sub(entry.size())
            .with_context(|| format!("{name}: the entries are larger than the archive"))?;
        let path = folder.join(&name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let size = entry.size();
        let mut out = File::create_new(&path).with_context(|| format!("cannot unpack {name}"))?;
        let copied = std::io::copy(&mut entry.take(size), &mut out)
            .with_context(|| format!("cannot unpack {name}"))?;
        ensure!(copied == size, "{name} is cut short");
    }
    Ok(())
}
