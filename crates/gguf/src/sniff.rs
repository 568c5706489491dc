//! The first eight bytes: is this a GGUF that we read, and if not, what is it?

use crate::GgufError;

/// The only version there is in the wild since late 2023.
const VERSION: u32 = 3;

/// First bytes of files that are taken for a GGUF, and what to say about each.
const LOOK_ALIKES: [(&[u8], &str); 14] = [
    (b"PK\x03\x04", "a zip archive, as PyTorch writes it (convert the model to safetensors first)"),
    (b"\x80", "a Python pickle, as PyTorch wrote it once (convert the model to safetensors first)"),
    (b"{", "JSON text (a configuration or manifest; name the file beside it)"),
    (b"version https://git-lfs", "a Git LFS pointer (run `git lfs pull`)"),
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

/// Refuses whatever is no little-endian GGUF of version 3, saying what it looks like instead.
/// Fewer than eight bytes are left to the caller, unless they are wrong already.
pub(crate) fn check_magic_and_version(bytes: &[u8]) -> Result<(), GgufError> {
    let Some(after_magic) = bytes.strip_prefix(b"GGUF") else {
        if b"GGUF".starts_with(bytes) {
            return Ok(());
        }
        return Err(GgufError::NotGguf { looks_like: looks_like(bytes) });
    };
    let Some(version) = after_magic.first_chunk().map(|&four| u32::from_le_bytes(four)) else {
        return Ok(());
    };
    match version {
        VERSION => Ok(()),
        // ggml's own test: a version read in the wrong byte order has its low half empty.
        swapped if swapped != 0 && swapped & 0xffff == 0 => Err(GgufError::BigEndian),
        version => Err(GgufError::Version { version }),
    }
}

fn looks_like(bytes: &[u8]) -> &'static str {
    // Safetensors: eight bytes of header length, then JSON.
    if bytes.get(8) == Some(&b'{') && bytes[5..8] == [0; 3] {
        return "a safetensors file (run `export` on the folder it lies in)";
    }
    let known = LOOK_ALIKES.iter().find(|(start, _)| bytes.starts_with(start));
    known.map_or("a file of another kind", |(_, name)| name)
}
