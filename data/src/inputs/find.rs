//! From what a user wrote to a list of files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::format::{self, Format};
use crate::corpus::{BUILTIN, KnownCorpus};

/// Folders within folders that are looked into.
const DEEPEST: usize = 64;
/// Most files of one input.
const MOST_FILES: usize = 1 << 20;

/// What a path stands for.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub files: Vec<PathBuf>,
    /// What a folder holds beside its training data.
    pub left_out: Vec<PathBuf>,
    /// Whether the user named the file itself.
    pub is_exact: bool,
}

/// The files that `path` stands for: itself, those of a folder, or those that match it.
pub(super) fn files(path: &Path) -> Result<Found> {
    let name = path.display();
    if path.is_dir() {
        return in_folder(path);
    }
    if path.symlink_metadata().is_ok() {
        // Opening says what it is where it is no file; a pipe that the shell opened is one.
        plain_file::open_stream(path).with_context(|| format!("cannot read {name}"))?;
        return Ok(Found { files: vec![path.to_owned()], left_out: vec![], is_exact: true });
    }
    let text = path.to_string_lossy();
    if text.contains(['*', '?', '[']) {
        return matching(&text);
    }
    bail!(
        "there is no text at {name}; expected a file, a folder, a pattern, `{BUILTIN}`, or one of: {}",
        KnownCorpus::names()
    )
}

fn matching(pattern: &str) -> Result<Found> {
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
    let paths = glob::glob_with(pattern, options)
        .with_context(|| format!("{pattern} is not a valid pattern"))?;
    let mut found = Found::default();
    for path in paths {
        let path = path.with_context(|| format!("cannot look for {pattern}"))?;
        if path.is_dir() {
            let inside = in_folder(&path)?;
            found.files.extend(inside.files);
            found.left_out.extend(inside.left_out);
        } else {
            found.files.push(path);
        }
    }
    ensure!(!found.files.is_empty(), "no file matches {pattern}");
    found.files.sort();
    // `**` meets a file as itself and in its folder.
    found.files.dedup();
    ensure!(found.files.len() <= MOST_FILES, "more than {MOST_FILES} files match {pattern}");
    Ok(found)
}

fn in_folder(folder: &Path) -> Result<Found> {
    let name = folder.display();
    let mut all = Vec::new();
    walk(folder, 0, &mut all)?;
    all.sort();
    let has_records = all.iter().any(|path| is_records(path) && !describes_data(path, true));
    let (left_out, files): (Vec<_>, Vec<_>) = all.into_iter().partition(|path| {
        describes_data(path, has_records)
            || is_other_split(path.strip_prefix(folder).unwrap_or(path))
    });
    ensure!(
        !files.is_empty() || left_out.is_empty(),
        "{name}: only files of test or validation splits, or about the data, such as {}; name the \
         files that are to be read",
        left_out.first().map(|path| path.display().to_string()).unwrap_or_default()
    );
    ensure!(!files.is_empty(), "{name}: a folder without files; expected texts or records");
    Ok(Found { files, left_out, is_exact: false })
}

fn walk(folder: &Path, depth: usize, out: &mut Vec<PathBuf>) -> Result<()> {
    let name = folder.display();
    ensure!(depth <= DEEPEST, "{name}: more than {DEEPEST} folders inside of each other");
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {name}"))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {name}"))?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path();
        let metadata = path.metadata();
        let metadata = metadata.with_context(|| format!("cannot read {}", path.display()))?;
        if metadata.is_dir() {
            walk(&path, depth + 1, out)?;
        } else if let Some(special) = plain_file::special(metadata.file_type()) {
            bail!("cannot read {}: it is {special}: expected a file", path.display());
        } else {
            out.push(path);
        }
        ensure!(out.len() <= MOST_FILES, "{name}: more than {MOST_FILES} files");
    }
    Ok(())
}

fn lower_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().to_lowercase()
}

fn is_records(path: &Path) -> bool {
    let (stem, _) = format::compression(path);
    format::of_stem(&stem, path, false).is_ok_and(|format| format != Format::Text)
}

/// Whether a file of a folder tells about the data: a README and a licence beside records, and what
/// Hugging Face's `datasets` writes beside its own.
fn describes_data(path: &Path, has_records: bool) -> bool {
    let name = lower_name(path);
    let stem = name.split('.').next().unwrap_or_default();
    match name.as_str() {
        "dataset_info.json" | "dataset_infos.json" | "dataset_dict.json" | "state.json" => true,
        _ => {
            has_records && matches!(stem, "readme" | "license" | "licence" | "notice" | "citation")
        }
    }
}

/// Whether a file is of a split that is not trained on, by its name or by one of its folders:
/// `test.jsonl`, `validation-00000-of-00001.parquet`, `squad-dev.json`, `test/0.txt`.
fn is_other_split(path: &Path) -> bool {
    let is_split = |word: &str| {
        matches!(word, "test" | "testing" | "validation" | "valid" | "val" | "dev" | "eval")
    };
    let folders = path.parent().into_iter().flat_map(Path::components);
    let mut folders = folders.map(|part| part.as_os_str().to_string_lossy().to_lowercase());
    let name = lower_name(path);
    let stem = name.split('.').next().unwrap_or_default();
    let mut words =
        stem.split(|c: char| !c.is_alphabetic()).filter(|word| !matches!(*word, "" | "of"));
    folders.any(|folder| is_split(&folder)) || words.next_back().is_some_and(is_split)
}
