//! The files of a sweep: their names on the command line, and the data of their headers.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use gguf::{Metadata, RawModel};

/// A file as given on the command line: `FILE` or `LABEL=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// Its name in the table; its recipe if not given.
    pub label: Option<String>,
    /// A GGUF, or the first part of one.
    pub path: PathBuf,
}

impl NamedFile {
    /// A file without a label.
    pub fn at(path: &Path) -> Self {
        NamedFile { label: None, path: path.to_owned() }
    }
}

impl FromStr for NamedFile {
    type Err = std::convert::Infallible;

    /// An existing file name, or one with a `/` before its `=`, is taken as a whole.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = NamedFile::at(Path::new(text));
        Ok(match text.split_once('=') {
            Some((label, path)) if !label.contains('/') && !plain.path.exists() => {
                let label = Some(label.trim().to_owned()).filter(|label| !label.is_empty());
                NamedFile { label, path: PathBuf::from(path) }
            }
            _ => plain,
        })
    }
}

/// The role of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileRole {
    /// The unquantized file that all others are compared with.
    Base,
    /// A file that is evaluated.
    Variant,
    /// A file that is evaluated, and that others of its recipe are compared with.
    Peer,
}

/// A file whose header was read.
#[derive(Debug, Clone)]
pub struct Described {
    /// Unique in the table.
    pub label: String,
    /// Its role.
    pub role: FileRole,
    /// Its path.
    pub path: PathBuf,
    /// Its path, or those of all files that the model is split into.
    pub parts: Vec<PathBuf>,
    /// `Q4_K_M`, ...
    pub recipe: String,
    /// Bytes of the file, or of all its parts together.
    pub file_bytes: u64,
    /// Bytes of the tensors.
    pub tensor_bytes: u64,
    /// Number of weights.
    pub parameters: u64,
    /// Its metadata keys.
    pub metadata: Metadata,
}

/// Reads the headers of the base and all other files, and gives each a unique label.
///
/// # Errors
/// When a file does not exist, is not a GGUF, is truncated, or has the same label as another.
pub fn describe(
    base: &Path,
    variants: &[NamedFile],
    peers: &[NamedFile],
) -> Result<Vec<Described>> {
    let base = NamedFile::at(base);
    let named: Vec<(FileRole, &NamedFile)> = std::iter::once((FileRole::Base, &base))
        .chain(variants.iter().map(|file| (FileRole::Variant, file)))
        .chain(peers.iter().map(|file| (FileRole::Peer, file)))
        .collect();
    let mut files =
        named.iter().map(|(role, file)| look_at(file, *role)).collect::<Result<Vec<_>>>()?;
    // Two files of one recipe without labels get their file names as labels.
    let recipes: Vec<String> = files.iter().map(|file| file.recipe.clone()).collect();
    for ((_, name), file) in named.iter().zip(&mut files) {
        let shared = recipes.iter().filter(|recipe| **recipe == file.recipe).count() > 1;
        if name.label.is_none() && shared && file.role != FileRole::Base {
            file.label = stem(&file.path);
        }
    }
    for (index, file) in files.iter().enumerate() {
        if let Some(other) = files[..index].iter().find(|other| other.label == file.label) {
            bail!(
                "{} and {} would both be called {}: name one LABEL=FILE",
                other.path.display(),
                file.path.display(),
                file.label
            );
        }
    }
    Ok(files)
}

fn look_at(file: &NamedFile, role: FileRole) -> Result<Described> {
    let path = &file.path;
    ensure!(path.is_file(), "{}: no such file (a sweep reads GGUF files)", path.display());
    let model = RawModel::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    if let Some(problem) = model.problems.first() {
        bail!("{}: {problem}", path.display());
    }
    let metadata = model.parts.first().map(|part| part.header.metadata.clone()).unwrap_or_default();
    let recipe = gguf::recipe_of(path, &metadata);
    Ok(Described {
        label: file.label.clone().unwrap_or_else(|| recipe.clone()),
        role,
        path: path.clone(),
        parts: model.parts.iter().map(|part| part.path.clone()).collect(),
        recipe,
        file_bytes: model.parts.iter().map(|part| part.file_size).sum(),
        tensor_bytes: model.tensors().filter_map(|(_, tensor)| tensor.size).sum(),
        parameters: model.tensors().map(|(_, tensor)| tensor.elements()).sum(),
        metadata,
    })
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Option<String>, String) {
        let Ok(NamedFile { label, path }) = text.parse();
        (label, path.display().to_string())
    }

    #[test]
    fn a_label_stands_before_the_first_equals_sign() {
        assert_eq!(parse("a.gguf"), (None, "a.gguf".into()));
        assert_eq!(parse("ours=a.gguf"), (Some("ours".into()), "a.gguf".into()));
        assert_eq!(parse("ours=x=1/a.gguf"), (Some("ours".into()), "x=1/a.gguf".into()));
        assert_eq!(parse("x/t=1/a.gguf"), (None, "x/t=1/a.gguf".into()));
        assert_eq!(parse("=a.gguf"), (None, "a.gguf".into()));
    }

    #[test]
    fn a_file_that_is_there_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a=b");
        std::fs::write(&odd, "").unwrap();
        assert_eq!(parse(odd.to_str().unwrap()), (None, odd.display().to_string()));
    }
}
