//! Writing a base, window by window, and going on where another process was stopped.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::header::{HEADER, MARK};
use super::row::{encode, row_bytes};
use super::{Base, BaseError, Identity, check_size, hash};

/// A base under way, in the file `NAME.part`.
pub struct BaseWriter {
    target: PathBuf,
    part: PathBuf,
    file: File,
    identity: Identity,
    done: Vec<bool>,
}

/// What a base at `path` is called while it is written.
pub fn part_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".part");
    name.into()
}

impl BaseWriter {
    /// Begins a base at `target`, or takes up the one that a stopped process left there: windows
    /// whose rows are not those of their mark count as missing. With `overwrite`, what is there is
    /// given up if it is not the beginning of this base.
    ///
    /// # Errors
    /// [`BaseError`]: when the part was made from something else or is damaged, another process
    /// writes it, or the disk has no room.
    pub fn open(target: &Path, identity: &Identity, overwrite: bool) -> Result<Self, BaseError> {
        let part = part_of(target);
        let io = |source| BaseError::Io { path: part.clone(), source };
        if let Some(folder) = part.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            checkpoint::atomic::create_folders(folder).map_err(io)?;
        }
        let mut open = OpenOptions::new();
        let mut file =
            open.read(true).write(true).create(true).truncate(false).open(&part).map_err(io)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(BaseError::Busy { path: part }),
            // A file system without locks: nobody can be told apart there.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        let length = file.metadata().map_err(io)?.len();
        let found = match length {
            // Nothing was written, or the process died before it could be.
            0 => None,
            _ => match taken_up(&part, &mut file, length, identity) {
                Ok(done) => Some(done),
                Err(_) if overwrite => None,
                Err(error) => return Err(error),
            },
        };
        let done = match found {
            Some(done) => done,
            None => {
                check_room(&part, identity.file_bytes().saturating_sub(length))?;
                begin(&mut file, identity).map_err(io)?;
                vec![false; identity.windows as usize]
            }
        };
        let (target, identity) = (target.to_owned(), identity.clone());
        Ok(BaseWriter { target, part, file, identity, done })
    }

    /// Windows that are in the file.
    pub fn done(&self) -> usize {
        self.done.iter().filter(|&&done| done).count()
    }

    /// The first window that is missing.
    pub fn next(&self) -> Option<usize> {
        self.done.iter().position(|&done| !done)
    }

    /// Starts the rows of a window.
    pub fn window(&mut self, window: usize) -> WindowWriter<'_> {
        WindowWriter { base: self, window, rows: 0, hasher: blake3::Hasher::new() }
    }

    /// Syncs the file, gives it its name, and maps it.
    ///
    /// # Errors
    /// When a window is missing, or the system refuses.
    pub fn finish(self) -> Result<Base, BaseError> {
        if let Some(window) = self.next() {
            return Err(BaseError::Unfinished { path: self.part, window });
        }
        let io = |source| BaseError::Io { path: self.target.clone(), source };
        self.file.sync_all().map_err(io)?;
        fs::rename(&self.part, &self.target).map_err(io)?;
        Base::open(&self.target, &self.identity)
    }

    fn write_at(&mut self, place: u64, bytes: &[u8]) -> Result<(), BaseError> {
        let written =
            self.file.seek(SeekFrom::Start(place)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|source| BaseError::Io { path: self.part.clone(), source })
    }
}

/// A window under way.
pub struct WindowWriter<'a> {
    base: &'a mut BaseWriter,
    window: usize,
    rows: usize,
    hasher: blake3::Hasher,
}

impl WindowWriter<'_> {
    /// Appends rows: the logits `[N, V]` of the next positions, all finite.
    ///
    /// # Errors
    /// When the disk is full.
    ///
    /// # Panics
    /// When the window gets more rows than it scores.
    pub fn rows(&mut self, logits: &[f32]) -> Result<(), BaseError> {
        let identity = &self.base.identity;
        let vocab_size = identity.vocab_size as usize;
        let (width, count) = (row_bytes(vocab_size), logits.len() / vocab_size);
        assert!(self.rows + count <= identity.scored(), "rows of a window");
        let mut bytes = vec![0; count * width];
        bytes
            .par_chunks_exact_mut(width)
            .zip(logits.par_chunks_exact(vocab_size))
            .for_each(|(row, logits)| encode(logits, row));
        self.hasher.update_rayon(&bytes);
        let window = identity.window_bytes() * self.window as u64;
        let place = identity.data_start() + window + (self.rows * width) as u64;
        self.base.write_at(place, &bytes)?;
        self.rows += count;
        Ok(())
    }

    /// Marks the window as done.
    ///
    /// # Errors
    /// When the disk is full.
    ///
    /// # Panics
    /// When rows are missing.
    pub fn finish(self) -> Result<(), BaseError> {
        assert_eq!(self.rows, self.base.identity.scored(), "rows of a window");
        let mark = *self.hasher.finalize().as_bytes();
        self.base.write_at((HEADER + MARK * self.window) as u64, &mark)?;
        self.base.done[self.window] = true;
        Ok(())
    }
}

/// An empty base of its full length, of which the disk holds nothing yet but the header.
fn begin(file: &mut File, identity: &Identity) -> io::Result<()> {
    file.set_len(0)?;
    file.set_len(identity.file_bytes())?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&identity.to_bytes())
}

/// Which windows of a part are done.
fn taken_up(
    part: &Path,
    file: &mut File,
    length: u64,
    identity: &Identity,
) -> Result<Vec<bool>, BaseError> {
    let io = |source| BaseError::Io { path: part.to_owned(), source };
    let mut header = [0; HEADER];
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    let mut read = 0;
    while read < HEADER {
        match file.read(&mut header[read..]).map_err(io)? {
            0 => break,
            n => read += n,
        }
    }
    // The process died between making the file and describing it.
    if header.iter().all(|&byte| byte == 0) {
        begin(file, identity).map_err(io)?;
        return Ok(vec![false; identity.windows as usize]);
    }
    identity.accept(part, &Identity::parse(part, &header[..read])?)?;
    check_size(part, length, identity)?;
    let mut marks = vec![0; MARK * identity.windows as usize];
    file.seek(SeekFrom::Start(HEADER as u64))
        .and_then(|_| file.read_exact(&mut marks))
        .map_err(io)?;
    let mut rows = vec![0; usize::try_from(identity.window_bytes()).unwrap_or(usize::MAX)];
    let mut done = vec![false; identity.windows as usize];
    for (window, mark) in marks.chunks_exact(MARK).enumerate() {
        if mark.iter().any(|&byte| byte != 0) {
            let start = identity.data_start() + identity.window_bytes() * window as u64;
            file.seek(SeekFrom::Start(start))
                .and_then(|_| file.read_exact(&mut rows))
                .map_err(io)?;
            done[window] = hash(&rows) == mark;
        }
    }
    Ok(done)
}

/// Refuses to begin what the disk cannot hold.
#[cfg(unix)]
fn check_room(part: &Path, needed: u64) -> Result<(), BaseError> {
    // Where the system does not say, writing will.
    let Ok(disk) = rustix::fs::statvfs(part) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    match needed <= free {
        true => Ok(()),
        false => Err(BaseError::NoRoom {
            path: part.to_owned(),
            needed: cli::bytes(needed),
            free: cli::bytes(free),
        }),
    }
}

#[cfg(not(unix))]
fn check_room(_part: &Path, _needed: u64) -> Result<(), BaseError> {
    Ok(())
}
