//! What a file's ending says about its content.

use std::path::Path;

use anyhow::{Result, bail};

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum Format {
    /// UTF-8 text, one document.
    Text,
    /// One JSON object on each line.
    JsonL,
    /// An array of objects, an object with one such array, or lines as in `JsonL`.
    Json,
    /// Comma-separated values with a line of names (RFC 4180).
    Csv,
    /// The same, separated by tabs.
    Tsv,
    /// Apache Parquet.
    Parquet,
}

/// How a whole file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// It is not.
    Plain,
    /// gzip, of one member or several.
    Gzip,
    /// Zstandard, of one frame or several.
    Zstd,
}

/// The known endings, for messages.
const ENDINGS: &str = ".txt, .md, .jsonl, .ndjson, .json, .csv, .tsv or .parquet, each but the last \
                       also with .gz or .zst";

/// Endings of what is certainly not a text: reading it as one would only fail later.
const OTHERS: [&str; 20] = [
    "7z",
    "arrow",
    "bz2",
    "doc",
    "docx",
    "epub",
    "feather",
    "gguf",
    "lz4",
    "npy",
    "npz",
    "pdf",
    "pkl",
    "pt",
    "rar",
    "safetensors",
    "tar",
    "tgz",
    "xz",
    "zip",
];

/// How a file is compressed by its ending, and its name without that.
pub(super) fn compression(path: &Path) -> (String, Compression) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    match name.rsplit_once('.') {
        Some((stem, "gz")) => (stem.to_owned(), Compression::Gzip),
        Some((stem, "zst" | "zstd")) => (stem.to_owned(), Compression::Zstd),
        _ => (name, Compression::Plain),
    }
}

/// The format of a file by its name without the ending of its compression. One that a user named itself
/// (`is_exact`) is a text if its ending is not known; one that was found in a folder is refused.
pub(super) fn of_stem(stem: &str, path: &Path, is_exact: bool) -> Result<Format> {
    let ending = stem.rsplit_once('.').map(|(_, ending)| ending);
    let format = match ending {
        Some("txt" | "md" | "text") => Format::Text,
        Some("jsonl" | "ndjson") => Format::JsonL,
        Some("json") => Format::Json,
        Some("csv") => Format::Csv,
        Some("tsv") => Format::Tsv,
        Some("parquet") => Format::Parquet,
        Some(other) if OTHERS.contains(&other) => {
            bail!(
                "{}: .{other} files are not read; expected {ENDINGS}{}",
                path.display(),
                remedy(other)
            )
        }
        _ if is_exact => Format::Text,
        Some(other) => bail!(
            "{}: .{other} is not a known ending; expected {ENDINGS}, or name its format with --format",
            path.display()
        ),
        None => bail!(
            "{}: a file without an ending; expected {ENDINGS}, or name its format with --format",
            path.display()
        ),
    };
    Ok(format)
}

fn remedy(ending: &str) -> &'static str {
    match ending {
        "arrow" | "feather" => "; in Python, `dataset.to_parquet(FILE)` writes one",
        "bz2" | "lz4" | "xz" | "7z" | "rar" | "zip" | "tar" | "tgz" => "; unpack it first",
        _ => "",
    }
}
