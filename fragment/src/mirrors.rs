//! Several places that hold the same pieces. None is trusted: what one sends wrong, slowly or not at
//! all is taken from the next, and the culprit is named and asked last from then on.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::PieceError;
use crate::address::Origin;
use crate::manifest::{Fragment, MAX_MANIFEST_BYTES, Manifest};
use crate::transport::{Fault, FaultKind, Patience, Transport, Wanted, connect};
use crate::tree::{Proof, tree_name};

/// What one place gave and did wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceReport {
    /// Its address or path.
    pub source: String,
    /// Bytes that were taken from it, of pieces, trees and manifests.
    pub bytes: u64,
    /// Times that it sent something wrong, too slowly, or nothing. A file that it does not have is
    /// not counted.
    pub faults: u64,
    /// The first of them.
    pub first_fault: Option<String>,
}

/// Places in the order in which they are asked.
#[derive(Debug)]
pub struct Mirrors(Vec<Mirror>);

#[derive(Debug)]
struct Mirror {
    transport: Box<dyn Transport>,
    /// Whether it did something wrong: it is asked last.
    avoided: AtomicBool,
    /// Whether it has no trees or cannot send parts: it is asked for whole pieces only.
    whole_only: AtomicBool,
    bytes: AtomicU64,
    faults: AtomicU64,
    first_fault: Mutex<Option<String>>,
}

/// A manifest that was fetched.
#[derive(Debug)]
pub struct FetchedManifest {
    /// Its bytes, as they were sent.
    pub text: Vec<u8>,
    /// Their BLAKE3.
    pub blake3: String,
    /// What they say, checked.
    pub manifest: Manifest,
}

impl Mirrors {
    /// Connects to places, in the order in which they are to be asked.
    ///
    /// # Errors
    /// When there is none, or an address cannot be used.
    pub fn connect(origins: &[Origin], patience: Patience) -> anyhow::Result<Self> {
        let transports = origins.iter().map(|origin| connect(origin, patience));
        Self::over(transports.collect::<anyhow::Result<Vec<_>>>()?)
    }

    /// Places that are connected already.
    ///
    /// # Errors
    /// When there is none.
    pub fn over(transports: Vec<Box<dyn Transport>>) -> anyhow::Result<Self> {
        ensure!(!transports.is_empty(), "there is no source: expected --from at least once");
        let mirror = |transport| Mirror {
            transport,
            avoided: AtomicBool::new(false),
            whole_only: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            first_fault: Mutex::new(None),
        };
        Ok(Mirrors(transports.into_iter().map(mirror).collect()))
    }

    /// Fetches the manifest from the first place that has one which keeps the rules, and the hash if
    /// one is asked for. `name` is its name at each place.
    ///
    /// # Errors
    /// When no place has such a manifest: with what each had.
    pub fn manifest(&self, names: &[String], pin: Option<&str>) -> anyhow::Result<FetchedManifest> {
        let mut reasons = Vec::new();
        for (mirror, name) in self.0.iter().zip(names) {
            match mirror.manifest(name, pin) {
                Ok(manifest) => return Ok(manifest),
                Err(fault) => {
                    reasons.push(format!("{}: {fault}", mirror.name()));
                    if self.0.len() > 1 {
                        mirror.blame(&fault);
                    }
                }
            }
        }
        anyhow::bail!("{}", reasons.join("; "))
    }

    /// Replaces `buffer` with a whole piece, whose BLAKE3 is verified.
    ///
    /// # Errors
    /// [`PieceError::NoSource`] when no place sends it.
    pub fn piece(&self, fragment: &Fragment, buffer: &mut Vec<u8>) -> Result<(), PieceError> {
        let mut reasons = Vec::new();
        for mirror in self.in_order() {
            match mirror.piece(fragment, buffer) {
                Ok(()) => return Ok(()),
                Err(fault) => {
                    reasons.push(format!("{}: {fault}", mirror.name()));
                    mirror.blame(&fault);
                }
            }
        }
        Err(PieceError::NoSource { file: fragment.file.clone(), reasons: reasons.join("; ") })
    }

    /// A part of a piece, verified by its tree. `groups` are those of the tree if they were read
    /// before; otherwise they are put there. `None` if the part has to be taken from the whole piece.
    pub fn part(
        &self,
        fragment: &Fragment,
        part: &Range<u64>,
        groups: &mut Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let proof = Proof::of(fragment.size, part)?;
        // Above half of a piece the rest of it costs less than another request later.
        if proof.bytes() > fragment.size / 2 {
            return None;
        }
        for mirror in self.in_order().filter(|mirror| !mirror.whole_only.load(Ordering::Relaxed)) {
            match mirror.part(fragment, &proof, groups) {
                Ok(mut data) => {
                    data.truncate((part.end - proof.data.start) as usize);
                    data.drain(..(part.start - proof.data.start) as usize);
                    return Some(data);
                }
                // A server that knows no ranges is not at fault: the whole piece will show.
                Err(Fault { kind: FaultKind::Missing | FaultKind::Broken, .. }) => {
                    mirror.whole_only.store(true, Ordering::Relaxed);
                }
                Err(fault) => mirror.blame(&fault),
            }
        }
        None
    }

    /// What each place gave and did wrong.
    pub fn report(&self) -> Vec<SourceReport> {
        let report = |mirror: &Mirror| SourceReport {
            source: mirror.name().to_owned(),
            bytes: mirror.bytes.load(Ordering::Relaxed),
            faults: mirror.faults.load(Ordering::Relaxed),
            first_fault: mirror.first_fault.lock().map_or(None, |first| first.clone()),
        };
        self.0.iter().map(report).collect()
    }

    fn in_order(&self) -> impl Iterator<Item = &Mirror> {
        let avoided = |mirror: &&Mirror| mirror.avoided.load(Ordering::Relaxed);
        let (last, first): (Vec<&Mirror>, Vec<&Mirror>) = self.0.iter().partition(avoided);
        first.into_iter().chain(last)
    }
}

impl Mirror {
    fn name(&self) -> &str {
        self.transport.name()
    }

    /// Names the place once, and asks it last from here on. That it lacks a file is no fault: several
    /// places may hold a part of the pieces each.
    fn blame(&self, fault: &Fault) {
        if fault.kind == FaultKind::Missing {
            return;
        }
        self.faults.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut first) = self.first_fault.lock() {
            first.get_or_insert_with(|| fault.what.clone());
        }
        if !self.avoided.swap(true, Ordering::Relaxed) {
            let what = fault.what.replace(char::is_control, " ");
            cli::note(&format!("{} is asked last from here on: {what}", self.name()));
        }
    }

    fn read(&self, file: &str, wanted: Wanted, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.transport.read(file, wanted, out)?;
        self.bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn manifest(&self, name: &str, pin: Option<&str>) -> Result<FetchedManifest, Fault> {
        let mut text = Vec::new();
        self.read(name, Wanted::UpTo(MAX_MANIFEST_BYTES), &mut text)?;
        let blake3 = blake3::hash(&text).to_hex().to_string();
        let wrong = |what| Fault::new(FaultKind::Wrong, what);
        if let Some(expected) = pin.filter(|&expected| expected != blake3) {
            let what = format!("the BLAKE3 of {name} is {blake3}: expected {expected}");
            return Err(wrong(what));
        }
        let manifest = Manifest::parse(&text).map_err(|error| wrong(format!("{name}: {error}")))?;
        Ok(FetchedManifest { text, blake3, manifest })
    }

    fn piece(&self, fragment: &Fragment, buffer: &mut Vec<u8>) -> Result<(), Fault> {
        self.read(&fragment.file, Wanted::Whole(fragment.size), buffer)?;
        let found = blake3::hash(buffer).to_hex();
        match found.as_str() == fragment.blake3 {
            true => Ok(()),
            false => {
                let what = format!("{} is damaged: its BLAKE3 is {found}", fragment.file);
                Err(Fault::new(FaultKind::Wrong, what))
            }
        }
    }

    fn part(
        &self,
        fragment: &Fragment,
        proof: &Proof,
        groups: &mut Option<Vec<u8>>,
    ) -> Result<Vec<u8>, Fault> {
        let tree = tree_name(&fragment.blake3);
        let wrong = |file: &str| {
            Fault::new(FaultKind::Wrong, format!("{file} does not belong to its BLAKE3"))
        };
        let known = match groups.take() {
            Some(known) => known,
            None => {
                let mut read = Vec::new();
                self.read(&tree, Wanted::Range(proof.groups.clone()), &mut read)?;
                if !proof.groups_are_of(&fragment.blake3, &read) {
                    return Err(wrong(&tree));
                }
                read
            }
        };
        let known = groups.insert(known);
        let (mut leaves, mut row) = (Vec::new(), Vec::new());
        for range in &proof.leaves {
            self.read(&tree, Wanted::Range(range.clone()), &mut row)?;
            leaves.extend_from_slice(&row);
        }
        let mut data = Vec::new();
        self.read(&fragment.file, Wanted::Range(proof.data.clone()), &mut data)?;
        match proof.holds(known, &leaves, &data) {
            true => Ok(data),
            false => Err(wrong(&format!("a part of {}, by its tree,", fragment.file))),
        }
    }
}

/// The hash that all origins must agree on, if the user gave one.
///
/// # Errors
/// When two origins have different ones.
pub(crate) fn common_pin(origins: &[Origin]) -> anyhow::Result<Option<&str>> {
    let mut pins = origins.iter().filter_map(|origin| origin.pin.as_deref());
    let first = pins.next();
    ensure!(
        pins.all(|pin| Some(pin) == first),
        "the sources have different hashes behind #: expected those of one model"
    );
    Ok(first)
}

/// Fetches the manifest of the origins from the first that has it.
pub(crate) fn manifest_of(
    mirrors: &Mirrors,
    origins: &[Origin],
) -> anyhow::Result<FetchedManifest> {
    let names: Vec<String> = origins.iter().map(|origin| origin.manifest.clone()).collect();
    mirrors.manifest(&names, common_pin(origins)?).context("cannot fetch the manifest")
}
