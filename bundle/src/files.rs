//! Lists the files below a folder, without following links.

use std::path::Path;

use anyhow::{Context, bail};

/// Deepest level of folders; a bundle has fewer.
const MAX_DEPTH: usize = 8;

/// Paths of all files below `folder`, relative to it, joined by `/`, sorted.
///
/// # Errors
/// When a folder cannot be read, or something is neither a plain file nor a folder: a link could
/// lead anywhere, a pipe could block for ever.
pub fn list_files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut paths = Vec::new();
    collect(folder, "", 0, &mut paths)?;
    paths.sort();
    Ok(paths)
}

fn collect(
    folder: &Path,
    prefix: &str,
    depth: usize,
    paths: &mut Vec<String>,
) -> anyhow::Result<()> {
    let context = || format!("cannot list {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().with_context(context)?;
        if kind.is_file() {
            paths.push(path);
        } else if kind.is_dir() && depth < MAX_DEPTH {
            collect(&entry.path(), &format!("{path}/"), depth + 1, paths)?;
        } else {
            bail!(
                "{} is no plain file: a bundle holds files and folders only",
                entry.path().display()
            );
        }
    }
    Ok(())
}
