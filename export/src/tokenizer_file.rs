//! The tokenizer that the user names beside a model.

use std::path::Path;

use anyhow::Result;
use checkpoint::CheckpointError;

/// Largest `tokenizer.json` that is read; the largest in use have 30 MB.
const TOKENIZER_BYTES: u64 = 256 << 20;

/// The value that exports without a tokenizer.
pub const NO_TOKENIZER: &str = "none";

/// The text of a `tokenizer.json`, or of that of a folder.
pub(crate) fn tokenizer_text(path: &Path) -> Result<String> {
    if !path.is_dir() {
        return Ok(checkpoint::read_text(path, TOKENIZER_BYTES)?);
    }
    let text = checkpoint::tokenizer_json(path)?;
    Ok(text.ok_or_else(|| CheckpointError::NoTokenizer { path: path.to_owned() })?)
}
