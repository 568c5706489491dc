//! The report of an export.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// One line of facts about the output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The file or folder written.
    pub output: PathBuf,
    /// `GGUF F32`, `GGUF F16`, `GGUF BF16` or `Hugging Face`.
    pub format: String,
    /// The limitation of the tokenizer in a GGUF, if there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Tensors in it.
    pub tensors: usize,
    /// Bytes: of the file, or of the weights in the folder.
    pub size: u64,
    /// Wall time.
    pub seconds: f64,
    /// Peak resident memory of the process, if the system reports it.
    pub peak_rss_bytes: Option<u64>,
    /// SHA-256 of the file, or of the weights in the folder.
    pub sha256: String,
    /// BLAKE3 of the same.
    pub blake3: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "output   {}", self.output.display())?;
        writeln!(f, "format   {}", self.format)?;
        if let Some(note) = &self.tokenizer {
            writeln!(f, "tokenizer {note}")?;
        }
        writeln!(f, "tensors  {}", cli::count(self.tensors as u64))?;
        writeln!(f, "size     {} ({} bytes)", cli::bytes(self.size), cli::count(self.size))?;
        writeln!(f, "time     {}", cli::seconds(self.seconds))?;
        if let Some(peak) = self.peak_rss_bytes {
            writeln!(f, "memory   {} at most", cli::bytes(peak))?;
        }
        writeln!(f, "sha256   {}", self.sha256)?;
        write!(f, "blake3   {}", self.blake3)
    }
}
