//! A model that lies elsewhere: read through the cache, in whole pieces or in verified parts.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use checkpoint::atomic;

use crate::PieceError;
use crate::address::{Origin, is_address};
use crate::cache::Cache;
use crate::fetch::fetch_into;
use crate::folder::{Located, read_manifest};
use crate::join::{JoinJob, join};
use crate::manifest::{Fragment, Manifest};
use crate::mirrors::{FetchedManifest, Mirrors, SourceReport, common_pin, manifest_of};
use crate::pieces::Pieces;
use crate::source::{FolderSource, PieceSource};
use crate::transport::Patience;

/// The pieces of one manifest at other places.
#[derive(Debug)]
pub struct RemoteSource {
    mirrors: Mirrors,
    cache: Option<Cached>,
    /// Verified groups of the trees of pieces, by the piece's index.
    groups: Mutex<HashMap<usize, Vec<u8>>>,
}

#[derive(Debug)]
struct Cached {
    cache: Cache,
    pieces: Pieces,
    source: FolderSource,
}

impl RemoteSource {
    /// The pieces of `manifest` at any of the `mirrors`. Whole pieces are kept in `cache` if there is
    /// one; what is there is not fetched.
    pub fn new(mirrors: Mirrors, manifest: &Manifest, cache: Option<Cache>) -> Self {
        let cached = |cache: Cache| {
            let pieces = Pieces::new(cache.pieces());
            Cached { source: FolderSource::new(pieces.clone(), manifest), pieces, cache }
        };
        RemoteSource { mirrors, cache: cache.map(cached), groups: Mutex::default() }
    }

    /// What each place gave and did wrong so far.
    pub fn report(&self) -> Vec<SourceReport> {
        self.mirrors.report()
    }

    /// A part of a piece by its tree, if that moves fewer bytes than the piece.
    fn part(&self, fragment: &Fragment, part: &Range<u64>) -> Option<Vec<u8>> {
        let lock = || self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let mut groups = lock().get(&fragment.id).cloned();
        let data = self.mirrors.part(fragment, part, &mut groups);
        if let Some(groups) = groups {
            lock().insert(fragment.id, groups);
        }
        data
    }
}

impl PieceSource for RemoteSource {
    fn append(
        &self,
        fragment: &Fragment,
        part: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), PieceError> {
        if let Some(cached) = &self.cache {
            let before = out.len();
            if cached.source.append(fragment, part.clone(), out).is_ok() {
                cached.cache.touch(&cached.pieces.path(fragment));
                return Ok(());
            }
            out.truncate(before);
        }
        if let Some(data) = self.part(fragment, &part) {
            out.extend_from_slice(&data);
            return Ok(());
        }
        let mut piece = Vec::new();
        self.mirrors.piece(fragment, &mut piece)?;
        if let Some(cached) = &self.cache {
            cached.keep(fragment, &piece);
        }
        out.extend_from_slice(&piece[part.start as usize..part.end as usize]);
        Ok(())
    }
}

impl Cached {
    /// Keeps a piece. A cache that is full or cannot be written costs time only, so it is said and
    /// nothing more.
    fn keep(&self, fragment: &Fragment, piece: &[u8]) {
        let path = self.pieces.path(fragment);
        let kept = self.cache.make_room(fragment.size, &HashSet::new()).and_then(|()| {
            atomic::write_file(&path, true, |out| {
                std::io::Write::write_all(out, piece)
                    .with_context(|| format!("cannot write {}", path.display()))
            })
        });
        if let Err(error) = kept {
            cli::note(&format!("a piece is not kept: {}", cli::one_line(&error)));
        }
    }
}

/// Opens the model at one of several origins: its manifest, and a source of its pieces.
///
/// # Errors
/// When an address cannot be used, or no origin has a manifest that keeps the rules.
pub fn open_remote(
    origins: &[Origin],
    patience: Patience,
    cache: Option<Cache>,
) -> anyhow::Result<(FetchedManifest, RemoteSource)> {
    let mirrors = Mirrors::connect(origins, patience)?;
    let found = manifest_of(&mirrors, origins)?;
    let source = RemoteSource::new(mirrors, &found.manifest, cache);
    Ok((found, source))
}

/// A path on this machine for what the user gave: an address is fetched into the cache of this user,
/// where only what is missing is fetched; anything else is the path itself.
///
/// # Errors
/// When an address cannot be fetched, or is larger than the cache.
pub fn local(path: &Path) -> anyhow::Result<PathBuf> {
    match is_address(path) {
        true => local_in(path, &Cache::of_user()?),
        false => Ok(path.to_owned()),
    }
}

/// [`local`] with this cache.
///
/// # Errors
/// As for [`local`].
pub fn local_in(address: &Path, cache: &Cache) -> anyhow::Result<PathBuf> {
    let origin = Origin::parse(address)?;
    if let Some(path) = complete(&origin, cache) {
        return Ok(path);
    }
    let origins = [origin];
    let mirrors = Mirrors::connect(&origins, Patience::default())?;
    let found = manifest_of(&mirrors, &origins)?;
    let path = cache.manifest(&found.blake3);
    let manifest = &found.manifest;
    let kept = path.file_name().and_then(|name| name.to_str());
    let keep: HashSet<&str> =
        manifest.fragments.iter().map(|fragment| fragment.file.as_str()).chain(kept).collect();
    cache.make_room(missing_bytes(manifest, cache) + found.text.len() as u64, &keep)?;
    let interrupt = cli::Interrupt::default();
    fetch_into(cache.pieces(), manifest, &mirrors, &interrupt)?;
    atomic::write_file(&path, true, |out| {
        std::io::Write::write_all(out, &found.text)
            .with_context(|| format!("cannot write {}", path.display()))
    })?;
    touch_all(manifest, cache);
    Ok(path)
}

/// A GGUF on this machine for what the user gave: pieces are joined into the cache of this user,
/// for engines that map one file; anything else is the path itself.
///
/// # Errors
/// When the pieces cannot be fetched or joined, or the file is larger than the cache.
pub fn whole_file(path: &Path) -> anyhow::Result<PathBuf> {
    match is_address(path) || crate::folder::is_fragments(path) {
        true => whole_file_in(path, &Cache::of_user()?),
        false => Ok(path.to_owned()),
    }
}

/// [`whole_file`] with this cache.
///
/// # Errors
/// As for [`whole_file`].
pub fn whole_file_in(path: &Path, cache: &Cache) -> anyhow::Result<PathBuf> {
    let input = if is_address(path) { local_in(path, cache)? } else { path.to_owned() };
    let file = Located::find(&input)?.manifest.file;
    let joined = cache.joined(&file.blake3);
    if is_sound(&joined, file.size, &file.blake3) {
        cache.touch(&joined);
        return Ok(joined);
    }
    // The pieces are still read: only other models may go.
    let manifest = read_manifest(&Located::find(&input)?.path)?;
    let keep: HashSet<&str> =
        manifest.fragments.iter().map(|fragment| fragment.file.as_str()).collect();
    cache.make_room(file.size, &keep)?;
    join(&JoinJob { input, output: joined.clone(), force: true })?;
    Ok(joined)
}

/// The manifest in the cache, if the user gave its hash and all of the model is there: then nothing
/// is asked of the network.
fn complete(origin: &Origin, cache: &Cache) -> Option<PathBuf> {
    let pin = common_pin(std::slice::from_ref(origin)).ok()??;
    let path = cache.manifest(pin);
    let text = fs::read(&path).ok()?;
    if blake3::hash(&text).to_hex().as_str() != pin {
        return None;
    }
    let manifest = Manifest::parse(&text).ok()?;
    let pieces = Pieces::new(cache.pieces());
    crate::fetch::missing(&pieces, &manifest).is_empty().then(|| {
        touch_all(&manifest, cache);
        path
    })
}

fn missing_bytes(manifest: &Manifest, cache: &Cache) -> u64 {
    let pieces = Pieces::new(cache.pieces());
    let distinct = crate::folder::distinct(&manifest.fragments);
    let missing = distinct.values().filter(|fragment| pieces.open(fragment).is_err());
    missing.map(|fragment| fragment.size).sum()
}

fn touch_all(manifest: &Manifest, cache: &Cache) {
    let pieces = Pieces::new(cache.pieces());
    for fragment in &manifest.fragments {
        cache.touch(&pieces.path(fragment));
    }
}

fn is_sound(path: &Path, size: u64, blake3: &str) -> bool {
    if !fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == size) {
        return false;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap_rayon(path).is_ok_and(|hasher| hasher.finalize().to_hex().as_str() == blake3)
}
