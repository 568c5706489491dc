//! What a file is, in two numbers: SHA-256, which browsers have, and BLAKE3, with which peers
//! verify a stream.
//!
//! Both are taken in one pass. SHA-256 is the slow one even with the processor's own
//! instructions, so BLAKE3 and the reading of the next piece go on beside it: together they take
//! about the time that SHA-256 takes alone.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Read at a time: long enough to share between two threads, short enough to stay in the cache.
const CHUNK_BYTES: usize = 1 << 20;

/// Below this, handing work to another thread costs more than it saves.
const PARALLEL_BYTES: usize = 128 * 1024;

/// Size and both hashes of some bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digests {
    /// Bytes.
    pub size: u64,
    /// SHA-256 as 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// BLAKE3 as 64 lower-case hexadecimal digits.
    pub blake3: String,
}

/// Both hashes of bytes that come in pieces.
#[derive(Debug, Clone, Default)]
pub struct Hasher {
    size: u64,
    sha256: Sha256,
    blake3: blake3::Hasher,
}

impl Hasher {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`. Pieces of 1 MiB or so keep two threads busy.
    pub fn update(&mut self, bytes: &[u8]) {
        self.update_beside(bytes, || ());
    }

    /// Adds `bytes` while `work` runs on the thread that is done first.
    pub fn update_beside<T: Send>(&mut self, bytes: &[u8], work: impl FnOnce() -> T + Send) -> T {
        self.size += bytes.len() as u64;
        let Hasher { sha256, blake3, .. } = self;
        if bytes.len() < PARALLEL_BYTES {
            sha256.update(bytes);
            blake3.update(bytes);
            return work();
        }
        let beside = || {
            blake3.update(bytes);
            work()
        };
        rayon::join(|| sha256.update(bytes), beside).1
    }

    /// Size and hashes of everything added.
    pub fn finish(self) -> Digests {
        let sha256 = self.sha256.finalize();
        Digests {
            size: self.size,
            sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            blake3: self.blake3.finalize().to_hex().to_string(),
        }
    }
}

/// Both hashes of `bytes`.
pub fn hash_bytes(bytes: &[u8]) -> Digests {
    let mut hasher = Hasher::new();
    for chunk in bytes.chunks(CHUNK_BYTES) {
        hasher.update(chunk);
    }
    hasher.finish()
}

/// Both hashes of a file, read once with 2 MiB of memory.
///
/// # Errors
/// When the file cannot be read.
pub fn hash_file(path: impl AsRef<Path>) -> io::Result<Digests> {
    let mut file = plain_file::open(path)?;
    let mut hasher = Hasher::new();
    let (mut current, mut next) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut filled = fill(&mut file, &mut current)?;
    while filled > 0 {
        let read = hasher.update_beside(&current[..filled], || fill(&mut file, &mut next));
        filled = read?;
        std::mem::swap(&mut current, &mut next);
    }
    Ok(hasher.finish())
}

/// Reads until `buffer` is full or the file ends; the bytes read.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf abc | sha256sum` (FIPS 180-4, appendix B.1) and `printf abc | b3sum`.
    #[test]
    fn known_answers() {
        let digests = hash_bytes(b"abc");
        assert_eq!(digests.size, 3);
        assert_eq!(
            digests.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            digests.blake3,
            "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
        );
    }

    #[test]
    fn nothing_has_a_hash_too() {
        let digests = Hasher::new().finish();
        assert_eq!(
            digests.sha256,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            digests.blake3,
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn pieces_files_and_the_whole_agree() {
        let bytes: Vec<u8> = (0..3 * CHUNK_BYTES + 77).map(|i| (i * i % 251) as u8).collect();
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1, PARALLEL_BYTES, CHUNK_BYTES - 1, CHUNK_BYTES, bytes.len()] {
            let bytes = &bytes[..length];
            let mut pieces = Hasher::new();
            let (head, tail) = bytes.split_at(length / 3);
            pieces.update(head);
            pieces.update(tail);
            let path = folder.path().join("a");
            std::fs::write(&path, bytes).unwrap();
            let whole = hash_bytes(bytes);
            assert_eq!(pieces.finish(), whole);
            assert_eq!(hash_file(&path).unwrap(), whole);
            assert_eq!(whole.blake3, blake3::hash(bytes).to_hex().to_string());
        }
    }
}
