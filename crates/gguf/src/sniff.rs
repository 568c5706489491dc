//! Detects from the first eight bytes whether a file is a GGUF, its version, and otherwise what
//! kind of file it is.

use crate::{ByteOrder, GgufError};

/// The only version in use since late 2023.
const VERSION: u32 = 3;

/// The first bytes of what Git LFS stores instead of a large file
/// (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
pub const GIT_LFS_POINTER: &[u8] = b"version https://git-lfs";

/// First bytes of files that users mistake for a GGUF, and the hint for each.
const LOOK_ALIKES: [(&[u8], &str); 14] = [
    (
        b"PK\x03\x04",
        "a zip archive, as PyTorch writes it (run `export` on the folder it lies in, or on the file \
         itself if it is nanoGPT's)",
    ),
    (b"\x80", "a Python pickle, as PyTorch wrote it once (run `export` on the folder it lies in)"),
    (b"{", "JSON text (a configuration or manifest; name the file beside it)"),
    (
        GIT_LFS_POINTER,
        "a Git LFS pointer, which stands for a file that was not fetched (run `git lfs pull`, or \
         download the file itself)",
    ),
    (b"<", "an HTML or XML page (the download failed; fetch the file again)"),
    (b"lmgg", "a GGML file from before GGUF (convert the original model again)"),
    (b"fmgg", "a GGMF file from before GGUF (convert the original model again)"),
    (b"tjgg", "a GGJT file from before GGUF (convert the original model again)"),
    (b"FUGG", "a GGUF with its bytes swapped (fetch the file again)"),
    (b"\x1f\x8b", "gzip data (run gunzip)"),
    (b"\x28\xb5\x2f\xfd", "zstd data (run unzstd)"),
    (b"\x89HDF", "an HDF5 file (convert the model to safetensors first)"),
    (b"\x93NUMPY", "a NumPy array (convert the model to safetensors first)"),
    (b"\0\0\0\0", "zeros (an unfinished download; fetch the file again)"),
];

/// The content of the first eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Magic {
    pub version: u32,
    pub byte_order: ByteOrder,
}

/// Refuses everything except a little-endian GGUF of version 3; the error says what the file looks
/// like. Fewer than eight bytes are accepted here, unless they are already wrong.
pub(crate) fn check_magic_and_version(bytes: &[u8]) -> Result<(), GgufError> {
    match read_magic(bytes)? {
        None => Ok(()),
        Some(Magic { byte_order: ByteOrder::Big, .. }) => Err(GgufError::BigEndian),
        Some(Magic { version: VERSION, .. }) => Ok(()),
        Some(Magic { version, .. }) => Err(GgufError::Version { version }),
    }
}

/// Version and byte order, or what the file looks like if it is not a GGUF; `None` if there are too
/// few bytes to decide.
pub(crate) fn read_magic(bytes: &[u8]) -> Result<Option<Magic>, GgufError> {
    let Some(after_magic) = bytes.strip_prefix(b"GGUF") else {
        if b"GGUF".starts_with(bytes) {
            return Ok(None);
        }
        return Err(GgufError::NotGguf { looks_like: looks_like(bytes) });
    };
    Ok(after_magic.first_chunk().map(|&four| match u32::from_le_bytes(four) {
        // ggml's own test: the low half of a version that is read in the wrong byte order is zero.
        swapped if swapped != 0 && swapped & 0xffff == 0 => {
            Magic { version: swapped.swap_bytes(), byte_order: ByteOrder::Big }
        }
        version => Magic { version, byte_order: ByteOrder::Little },
    }))
}

fn looks_like(bytes: &[u8]) -> &'static str {
    // Safetensors: eight bytes of header length, then JSON.
    if bytes.get(8) == Some(&b'{') && bytes[5..8] == [0; 3] {
        return "a safetensors file (run `export` on the folder it lies in)";
    }
    let known = LOOK_ALIKES.iter().find(|(start, _)| bytes.starts_with(start));
    known.map_or("a file of another kind", |(_, name)| name)
}
