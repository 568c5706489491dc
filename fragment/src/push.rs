//! Stores a model in pieces at an address.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::address::{Origin, Place};
use crate::fetch::for_each;
use crate::folder::{Located, distinct};
use crate::manifest::{Fragment, MAX_MANIFEST_BYTES, Manifest};
use crate::pieces::open_plain;
use crate::transport::{Fault, Patience, Put, Transport, Wanted, connect};
use crate::tree::{has_tree, tree_name, tree_of};

/// The input of [`push`].
#[derive(Debug, Clone)]
pub struct PushJob {
    /// A folder with `manifest.json`, or a manifest.
    pub input: PathBuf,
    /// Where to store the pieces.
    pub to: Origin,
    /// How long the store may take.
    pub patience: Patience,
    /// Checked between pieces.
    pub interrupt: cli::Interrupt,
}

/// What `push` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PushReport {
    /// The address, with the BLAKE3 of the manifest behind it.
    pub address: String,
    /// Bytes of the file that the pieces form.
    pub size: u64,
    /// Files of pieces that were sent.
    pub sent: usize,
    /// Files of pieces that were there.
    pub present: usize,
}

/// Sends each piece after it was verified, with its tree, then the manifest. Nothing that is there is
/// replaced, so several may push the same pieces, and a push that was stopped goes on.
///
/// # Errors
/// When a piece is damaged, another file of its name is there, the store refuses, or a stop was
/// requested.
pub fn push(job: &PushJob) -> anyhow::Result<PushReport> {
    ensure!(
        matches!(job.to.place, Place::Store(_)) && job.to.pin.is_none(),
        "{}: expected an address without a hash, such as s3://bucket/model",
        job.to.name()
    );
    let Located { path, manifest, pieces } = Located::find(&job.input)?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut open_plain(&path)?, &mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let store = connect(&job.to, job.patience)?;
    let at = |fault: Fault| anyhow::anyhow!("{}: {fault}", store.name());
    let there = store.list().map_err(at)?;
    let distinct = distinct(&manifest.fragments);
    let sent = AtomicUsize::new(0);
    let mut missing: Vec<&Fragment> = distinct.values().copied().collect();
    missing.sort_by_key(|fragment| fragment.id);
    for fragment in &missing {
        check_size(store.as_ref(), fragment, there.get(&fragment.file))?;
    }
    // A push that was stopped between a piece and its tree sends the piece's tree again.
    missing.retain(|fragment| {
        let tree = has_tree(fragment.size) && !there.contains_key(&tree_name(&fragment.blake3));
        tree || !there.contains_key(&fragment.file)
    });
    let bytes = missing.iter().map(|fragment| fragment.size).sum();
    let progress = cli::Progress::new("push", bytes, cli::Meter::Bytes);
    for_each(&missing, &job.interrupt, |fragment, buffer| {
        pieces.read(fragment, buffer)?;
        if !there.contains_key(&fragment.file) {
            store.put(&fragment.file, buffer).map_err(at)?;
            sent.fetch_add(1, Ordering::Relaxed);
        }
        let tree = tree_of(buffer);
        if !tree.is_empty() {
            store.put(&tree_name(&fragment.blake3), &tree).map_err(at)?;
        }
        progress.advance(fragment.size);
        Ok(())
    })?;
    progress.finish();
    // Last: who finds a manifest finds its pieces.
    put_manifest(store.as_ref(), &job.to.manifest, &text, &manifest)?;
    let sent = sent.into_inner();
    Ok(PushReport {
        address: job.to.pinned(blake3::hash(&text).to_hex().as_str()),
        size: manifest.file.size,
        sent,
        present: distinct.len() - sent,
    })
}

fn check_size(
    store: &dyn Transport,
    fragment: &Fragment,
    found: Option<&u64>,
) -> anyhow::Result<()> {
    ensure!(
        found.is_none_or(|&found| found == fragment.size),
        "{}/{} is there with {} bytes: expected {}; remove it and push again",
        store.name(),
        fragment.file,
        found.copied().unwrap_or_default(),
        fragment.size
    );
    Ok(())
}

fn put_manifest(
    store: &dyn Transport,
    name: &str,
    text: &[u8],
    manifest: &Manifest,
) -> anyhow::Result<()> {
    let at = |fault: Fault| anyhow::anyhow!("{}: {fault}", store.name());
    if store.put(name, text).map_err(at)? == Put::Created {
        return Ok(());
    }
    let mut there = Vec::new();
    store.read(name, Wanted::UpTo(MAX_MANIFEST_BYTES), &mut there).map_err(at)?;
    ensure!(
        there == text,
        "{}/{name} is there and is not the manifest of {}: push to another address",
        store.name(),
        manifest.file.name
    );
    Ok(())
}

impl fmt::Display for PushReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sent     {} pieces; {} were there", self.sent, self.present)?;
        writeln!(f, "file     {}", cli::bytes(self.size))?;
        write!(f, "address  {}", self.address)
    }
}
