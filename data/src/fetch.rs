//! `data fetch`: a known corpus from its address, or from a file that the user has.
//!
//! A download goes to `FILE.part` beside the target, which the next attempt takes up where the
//! last one stopped. Nothing gets the target's name before its size and SHA-256 are right.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use checkpoint::atomic;
use checkpoint::hash::{self, Digests, Hasher};
use serde::Serialize;

use crate::corpus::{CORPORA_FOLDER, KnownCorpus};

/// How long the server may take to be found and to begin its answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a whole download may take: all known corpora are a few megabytes.
const LONGEST_DOWNLOAD: Duration = Duration::from_secs(900);
const BUFFER: usize = 64 << 10;

/// What `data fetch` is to do.
#[derive(Debug, Clone)]
pub struct FetchJob<'a> {
    /// The corpus.
    pub corpus: &'a KnownCorpus,
    /// Folder that gets the file; `corpora` if not given.
    pub folder: Option<PathBuf>,
    /// Take this file instead of asking the network.
    pub from: Option<PathBuf>,
    /// Replace a file that is there and is not the corpus.
    pub force: bool,
}

/// What `data fetch` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FetchReport {
    /// Name of the corpus.
    pub name: String,
    /// Where it is now.
    pub path: PathBuf,
    /// Where it came from: an address, a file, or `already there`.
    pub source: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal, verified.
    pub sha256: String,
    /// Bytes that an earlier attempt had left and that were not fetched again.
    pub resumed_from: u64,
}

impl fmt::Display for FetchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "corpus   {}", self.name)?;
        writeln!(f, "file     {} ({} bytes)", self.path.display(), cli::count(self.size))?;
        writeln!(f, "source   {}", self.source)?;
        if self.resumed_from > 0 {
            writeln!(f, "resumed  at byte {}", cli::count(self.resumed_from))?;
        }
        write!(f, "sha256   {} (verified)", self.sha256)
    }
}

/// Brings a corpus into its folder and verifies it. If it is there already, nothing is fetched.
///
/// # Errors
/// No network, a server that refuses, another size or hash than expected, another file in the
/// way (unless `force`). Each says where to put the file by hand.
pub fn fetch(job: &FetchJob) -> Result<FetchReport> {
    let corpus = job.corpus;
    let folder = job.folder.clone().unwrap_or_else(|| PathBuf::from(CORPORA_FOLDER));
    let path = folder.join(corpus.file);
    let report = |source: &str, resumed_from| FetchReport {
        name: corpus.name.to_owned(),
        path: path.clone(),
        source: source.to_owned(),
        size: corpus.size,
        sha256: corpus.sha256.to_owned(),
        resumed_from,
    };
    if path.exists() {
        match check(&path, corpus) {
            Ok(()) => return Ok(report("already there", 0)),
            Err(error) if !job.force => {
                return Err(error.context("another file is in the way; use --force to replace it"));
            }
            Err(_) => {}
        }
    }
    if let Some(from) = &job.from {
        copy(from, &path, corpus)?;
        return Ok(report(&from.display().to_string(), 0));
    }
    checkpoint::atomic::create_folders(&folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let part = folder.join(format!("{}.part", corpus.file));
    let resumed_from = download(corpus, &part).map_err(|cause| {
        anyhow!(
            "cannot fetch {} from {}: {}; with the file at hand, run `data fetch {} --from FILE` \
             or put it at {}",
            corpus.name,
            corpus.address,
            cli::one_line(&cause),
            corpus.name,
            path.display()
        )
    })?;
    publish(&part, &path)?;
    Ok(report(corpus.address, resumed_from))
}

/// Size first, because it is free, then SHA-256.
fn check(path: &Path, corpus: &KnownCorpus) -> Result<()> {
    let cannot_read = || format!("cannot read {}", path.display());
    check_size(path, std::fs::metadata(path).with_context(cannot_read)?.len(), corpus)?;
    check_hash(path, &hash::hash_file(path).with_context(cannot_read)?, corpus)
}

fn check_size(path: &Path, size: u64, corpus: &KnownCorpus) -> Result<()> {
    ensure!(
        size == corpus.size,
        "{} is not {}: it has {size} bytes, expected {}",
        path.display(),
        corpus.name,
        corpus.size
    );
    Ok(())
}

fn check_hash(path: &Path, found: &Digests, corpus: &KnownCorpus) -> Result<()> {
    ensure!(
        found.sha256 == corpus.sha256,
        "{} is not {}: its SHA-256 is {}, expected {}",
        path.display(),
        corpus.name,
        found.sha256,
        corpus.sha256
    );
    Ok(())
}

/// Hashes the very bytes that are written, and only then lets them have the corpus's name: the
/// file may change while it is copied.
fn copy(from: &Path, to: &Path, corpus: &KnownCorpus) -> Result<()> {
    let cannot_read = || format!("cannot read {}", from.display());
    let file = plain_file::open(from).with_context(cannot_read)?;
    check_size(from, file.metadata().with_context(cannot_read)?.len(), corpus)?;
    // One byte more than it may have, so that a file that grows is noticed.
    let mut input = file.take(corpus.size.saturating_add(1));
    atomic::write_file::<_, anyhow::Error>(to, true, |out| {
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = match input.read(&mut buffer).with_context(cannot_read)? {
                0 => break,
                read => read,
            };
            hasher.update(&buffer[..read]);
            out.write_all(&buffer[..read]).context("cannot write the copy")?;
        }
        let found = hasher.finish();
        check_size(from, found.size, corpus)?;
        check_hash(from, &found, corpus)
    })
}

/// Fills `part` up to the corpus and verifies it. Returns the bytes that were there already.
fn download(corpus: &KnownCorpus, part: &Path) -> Result<u64> {
    let mut have = std::fs::metadata(part).map_or(0, |meta| meta.len());
    if have > corpus.size {
        std::fs::remove_file(part)?;
        have = 0;
    }
    let mut resumed_from = have;
    if have < corpus.size {
        resumed_from = request(corpus, part, have)?;
    }
    if let Err(error) = check(part, corpus) {
        // Whatever is wrong with it, going on from it would not make it right.
        let complete = std::fs::metadata(part).is_ok_and(|meta| meta.len() >= corpus.size);
        if complete {
            std::fs::remove_file(part)?;
            bail!("{error}; the download was removed");
        }
        bail!("{error}; the connection broke, run the same command again to go on from there");
    }
    Ok(resumed_from)
}

/// Asks for the bytes from `have` on and appends them. Returns where the answer really began.
fn request(corpus: &KnownCorpus, part: &Path, have: u64) -> Result<u64> {
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_global(Some(LONGEST_DOWNLOAD))
            .http_status_as_error(false)
            .build(),
    );
    // Ranges count the bytes of the encoded form, so no encoding may be applied.
    let mut request = agent.get(corpus.address).header("accept-encoding", "identity");
    if have > 0 {
        request = request.header("range", format!("bytes={have}-"));
    }
    let mut response = request.call()?;
    let start = match response.status().as_u16() {
        206 => {
            let range = response.headers().get("content-range").and_then(|v| v.to_str().ok());
            let expected = format!("bytes {have}-");
            ensure!(
                range.is_some_and(|range| range.starts_with(&expected)),
                "the server sent another range than asked for ({range:?}); \
                 remove {} to begin anew",
                part.display()
            );
            have
        }
        // A server without ranges sends everything again.
        200 => 0,
        status => bail!("the server answered {status}"),
    };
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .append(start > 0)
        .truncate(start == 0)
        .open(part)
        .with_context(|| format!("cannot write {}", part.display()))?;
    receive(&mut response.body_mut().as_reader(), &mut file, corpus, start)?;
    file.sync_all()?;
    Ok(start)
}

/// Copies until the corpus is complete or the connection ends; a byte more than the corpus has
/// is an error, so that a server cannot fill the disk.
fn receive(body: &mut impl Read, file: &mut File, corpus: &KnownCorpus, start: u64) -> Result<()> {
    let progress = cli::Progress::new(corpus.name, corpus.size, cli::Meter::Bytes);
    progress.set(start);
    let mut have = start;
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => {
                file.sync_all()?;
                bail!(
                    "the connection broke after {have} of {} bytes ({error}); \
                     run the same command again to go on from there",
                    corpus.size
                );
            }
        };
        have += read as u64;
        if have > corpus.size {
            file.set_len(0)?;
            bail!("the server sent more than the expected {} bytes", corpus.size);
        }
        file.write_all(&buffer[..read]).context("cannot write the download")?;
        progress.advance(read as u64);
    }
    progress.finish();
    Ok(())
}

/// The part was synced when it was complete; the rename makes it the corpus.
fn publish(part: &Path, path: &Path) -> Result<()> {
    std::fs::rename(part, path)
        .with_context(|| format!("cannot rename {} to {}", part.display(), path.display()))?;
    if let Some(folder) = path.parent() {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}
