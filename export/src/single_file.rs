//! A file where a folder is expected: a llama2.c model, a checkpoint of nanoGPT, or something to
//! be sent elsewhere.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// First bytes of files that are taken for a model to export, what they are, and the way out.
const OTHERS: [(&[u8], &str); 3] = [
    (b"GGUF", "is a GGUF already; use quantize, or export inspect"),
    (b"{", "is JSON; name the folder of the checkpoint that it belongs to"),
    (
        // 0x616b3432, which spells ak42, lowest byte first.
        b"24ka",
        "is a later version of llama2.c's format, expected the first one; export the model again \
         with --version 0",
    ),
];

/// A file that holds a whole model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A llama2.c model of the first version, which has no mark to know it by.
    Llama2c,
    /// A file of `torch.save`.
    Torch,
}

/// Tells the two apart, and refuses what is known to be neither.
pub(crate) fn kind(path: &Path) -> Result<Kind> {
    let cannot = || format!("cannot read {}", path.display());
    let mut start = Vec::new();
    plain_file::open(path)
        .with_context(cannot)?
        .take(32)
        .read_to_end(&mut start)
        .with_context(cannot)?;
    checkpoint::check_fetched(path, &start)?;
    if start.starts_with(b"PK\x03\x04") {
        return Ok(Kind::Torch);
    }
    for (magic, what) in OTHERS {
        if start.starts_with(magic) {
            bail!("{} {what}", path.display());
        }
    }
    // Protocol 2 or later, and an opcode. A llama2.c model that begins with 0x80, the low byte of its
    // width, has a zero in the third byte: no width reaches 65,536.
    if let [0x80, 2..=5, opcode, ..] = start[..]
        && opcode != 0
    {
        return Ok(Kind::Torch);
    }
    // Safetensors: eight bytes of header length, then JSON.
    if start.get(8) == Some(&b'{') && start[5..8] == [0; 3] {
        bail!("{} is a safetensors file; name the folder it lies in", path.display());
    }
    Ok(Kind::Llama2c)
}
