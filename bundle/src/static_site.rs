//! Copies a bundle for static web hosts.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use checkpoint::atomic;
use serde::Serialize;

use crate::files::list_files;
use crate::manifest::BUNDLE_NAME;
use crate::serve::HEADERS;
use crate::signature::SIGNATURE_NAME;
use crate::signed_output::note_unsigned_copy;
use crate::verify::read_manifest;

/// The page that redirects from the site's address to the web chat.
const ROOT_PAGE: &str = "<!doctype html>
<meta charset=\"utf-8\">
<meta http-equiv=\"refresh\" content=\"0; url=app/\">
<title>pocketgpt</title>
<a href=\"app/\">pocketgpt</a>
";

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StaticReport {
    /// The folder to upload.
    pub output: PathBuf,
    /// Files in it.
    pub files: usize,
    /// Their bytes.
    pub size: u64,
}

impl std::fmt::Display for StaticReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = cli::bytes(self.size);
        write!(f, "{}: {} files, {size}", self.output.display(), self.files)
    }
}

/// Copies a bundle to a folder that can be uploaded as it is: its files, a page that redirects to
/// the web chat, and `_headers` for the hosts that read it (Netlify, Cloudflare Pages). On all
/// others the web chat's service worker sets the headers that threads need.
///
/// # Errors
/// When the bundle is invalid, contains a link or does not have the web chat, the output exists and
/// `force` is off, or the system refuses.
pub fn export_static(input: &Path, output: &Path, force: bool) -> anyhow::Result<StaticReport> {
    atomic::ensure_outside(input, output)?;
    let manifest = read_manifest(input)?;
    // Refuses links, which could point anywhere.
    let there = list_files(input)?;
    ensure!(manifest.has_app(), "{} has no web chat: pack it without --no-app", input.display());
    let mut paths: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    paths.push(BUNDLE_NAME);
    if there.iter().any(|path| path == SIGNATURE_NAME) {
        paths.push(SIGNATURE_NAME);
    }
    note_unsigned_copy(input, output)?;
    let copied = atomic::write_dir(output, force, |folder| -> anyhow::Result<u64> {
        let mut size = write(folder, "index.html", ROOT_PAGE)?;
        size += write(folder, "_headers", &headers_file())?;
        for path in &paths {
            size += copy(input, folder, path)?;
        }
        Ok(size)
    })?;
    Ok(StaticReport { output: output.to_owned(), files: paths.len() + 2, size: copied })
}

fn headers_file() -> String {
    let lines: String =
        HEADERS.iter().map(|(name, value)| format!("  {name}: {value}\n")).collect();
    format!("/*\n{lines}")
}

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<u64> {
    let path = folder.join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(text.len() as u64)
}

fn copy(input: &Path, folder: &Path, path: &str) -> anyhow::Result<u64> {
    let (from, to) = (input.join(path), folder.join(path));
    let parent = to.parent().context("a file lies in a folder")?;
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::copy(&from, &to))
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}
