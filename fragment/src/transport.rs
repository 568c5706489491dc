//! How the files of one place are read. What a transport returns is not trusted: it has the size
//! that was asked for, and nothing more is known of it.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::PieceError;
use crate::address::{Origin, Place};
use crate::pieces::open_plain;

/// Which bytes of a file are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of them; the file must have this size.
    Whole(u64),
    /// All of them; the file may have any size up to this one.
    UpTo(u64),
    /// These.
    Range(Range<u64>),
}

/// What a place did wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind.
    pub kind: FaultKind,
    /// What was found and expected.
    pub what: String,
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The place does not have the file.
    Missing,
    /// It sent other bytes, or another number of bytes, than it should have.
    Wrong,
    /// It did not answer, answered too slowly, refused, or failed.
    Broken,
}

impl Fault {
    /// A fault of this kind.
    pub fn new(kind: FaultKind, what: impl Into<String>) -> Self {
        Fault { kind, what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Whether a file was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    Created,
    /// A file of this name was there, and still is.
    Exists,
}

/// The files of one place.
pub trait Transport: Debug + Send + Sync {
    /// The address or path, for messages.
    fn name(&self) -> &str;

    /// Replaces `out` with the wanted bytes of a file. After an error it holds anything.
    ///
    /// # Errors
    /// When the place does not have them, or does not send exactly them in time.
    fn read(&self, file: &str, wanted: Wanted, out: &mut Vec<u8>) -> Result<(), Fault>;

    /// Stores a file unless one of this name exists.
    ///
    /// # Errors
    /// When the place cannot do this, or refuses.
    fn put(&self, file: &str, bytes: &[u8]) -> Result<Put, Fault>;

    /// Names and sizes of the files of the place.
    ///
    /// # Errors
    /// When the place cannot list them, or refuses.
    fn list(&self) -> Result<HashMap<String, u64>, Fault>;
}

/// How long a place may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Longest time without a byte; also the longest to connect.
    pub stall: Duration,
}

impl Patience {
    /// Fewest bytes in a second, over a whole file: a place that sends one byte now and then is
    /// left.
    const MIN_RATE: u64 = 64 << 10;

    /// Longest time for a file of this size.
    pub fn for_bytes(self, bytes: u64) -> Duration {
        self.stall + Duration::from_millis(bytes.saturating_mul(1000) / Self::MIN_RATE)
    }
}

impl Default for Patience {
    fn default() -> Self {
        Patience { stall: Duration::from_secs(30) }
    }
}

/// The transport for a place.
///
/// # Errors
/// When the address cannot be used, or this build reads no addresses.
pub fn connect(origin: &Origin, patience: Patience) -> anyhow::Result<Box<dyn Transport>> {
    match &origin.place {
        Place::Folder(folder) => Ok(Box::new(FolderTransport::new(folder.clone()))),
        Place::Store(address) => store(address, patience),
    }
}

#[cfg(feature = "network")]
fn store(address: &str, patience: Patience) -> anyhow::Result<Box<dyn Transport>> {
    Ok(Box::new(crate::objects::ObjectTransport::new(address, patience)?))
}

#[cfg(not(feature = "network"))]
fn store(address: &str, _: Patience) -> anyhow::Result<Box<dyn Transport>> {
    anyhow::bail!(
        "{address}: this program was built without network sources; build it with \
         --features network"
    )
}

/// The files of a folder on this machine: a disk that was brought along, or a mounted share.
#[derive(Debug)]
struct FolderTransport {
    folder: PathBuf,
    name: String,
}

impl FolderTransport {
    fn new(folder: PathBuf) -> Self {
        FolderTransport { name: folder.display().to_string(), folder }
    }
}

impl Transport for FolderTransport {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, file: &str, wanted: Wanted, out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut opened = open_plain(&self.folder.join(file)).map_err(|error| match error {
            PieceError::Missing { .. } => Fault::new(FaultKind::Missing, error.to_string()),
            error => Fault::new(FaultKind::Broken, error.to_string()),
        })?;
        let broken = |error: std::io::Error| Fault::new(FaultKind::Broken, error.to_string());
        let size = opened.metadata().map_err(broken)?.len();
        let length = expected_length(file, size, &wanted)?;
        if let Wanted::Range(range) = &wanted {
            opened.seek(SeekFrom::Start(range.start)).map_err(broken)?;
        }
        reserve(out, length)?;
        opened.take(length).read_to_end(out).map_err(broken)?;
        check_length(file, out.len() as u64, length)
    }

    fn put(&self, _: &str, _: &[u8]) -> Result<Put, Fault> {
        Err(Fault::new(FaultKind::Broken, "it is a folder: copy the pieces there"))
    }

    fn list(&self) -> Result<HashMap<String, u64>, Fault> {
        Err(Fault::new(FaultKind::Broken, "it is a folder: copy the pieces there"))
    }
}

/// Bytes to read of a file of `size`.
pub(crate) fn expected_length(file: &str, size: u64, wanted: &Wanted) -> Result<u64, Fault> {
    let wrong = |expected: String| {
        let what = format!("{file} has {size} bytes: expected {expected}");
        Err(Fault::new(FaultKind::Wrong, what))
    };
    match wanted {
        Wanted::Whole(expected) if size != *expected => wrong(expected.to_string()),
        Wanted::UpTo(most) if size > *most => wrong(format!("at most {most}")),
        Wanted::Range(range) if size < range.end => wrong(format!("at least {}", range.end)),
        Wanted::Range(range) => Ok(range.end - range.start),
        Wanted::Whole(_) | Wanted::UpTo(_) => Ok(size),
    }
}

/// Empties the buffer and makes room in it.
pub(crate) fn reserve(out: &mut Vec<u8>, length: u64) -> Result<(), Fault> {
    out.clear();
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    out.try_reserve_exact(length)
        .map_err(|error| Fault::new(FaultKind::Broken, format!("{length} bytes: {error}")))
}

pub(crate) fn check_length(file: &str, found: u64, expected: u64) -> Result<(), Fault> {
    match found == expected {
        true => Ok(()),
        false => {
            let what = format!("{file} ended after {found} bytes: expected {expected}");
            Err(Fault::new(FaultKind::Wrong, what))
        }
    }
}
