//! The book: its generated pages are current, its links lead somewhere, the code that it names exists.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod code;
mod generated;
mod links;

use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The pages of the book.
fn source() -> PathBuf {
    root().join("docs/book/src")
}

/// Every Markdown file below `folder` that is ours: not built, fetched or written by a run.
fn markdown(folder: &Path) -> Vec<PathBuf> {
    const NOT_OURS: [&str; 7] =
        [".git", "target", "node_modules", "runs", "corpora", "dist", "artifacts"];
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        // A link to a folder could lead out of the repository.
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !NOT_OURS.contains(&name.as_str()) && !name.starts_with("target") {
            found.extend(markdown(&path));
        } else if kind.is_file() && name.ends_with(".md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file as a person would name it.
fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The lines of a page that are text: what stands in fenced blocks is left out.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_block = false;
    text.lines().enumerate().filter_map(move |(i, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        (!in_block && !is_fence).then_some((i + 1, line))
    })
}
