//! A model in one file or in several.

use std::fs;
use std::path::{Path, PathBuf};

use super::{RawHeader, RawTensor};
use crate::GgufError;

/// The key for the number of parts (`gguf-split` of llama.cpp).
const SPLIT_COUNT: &str = "split.count";
/// The key for the number of tensors of all parts together.
const SPLIT_TENSORS: &str = "split.tensors.count";

/// One file of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct RawPart {
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub file_size: u64,
    /// Its header.
    pub header: RawHeader,
}

impl RawPart {
    fn open(path: &Path) -> Result<Self, GgufError> {
        let header = RawHeader::open(path)?;
        let file_size = fs::metadata(path)
            .map_err(|source| GgufError::Io { path: path.to_owned(), source })?
            .len();
        Ok(RawPart { path: path.to_owned(), file_size, header })
    }
}

/// A model of any program: the named file, and if it is one of several parts, the others too.
#[derive(Debug, Clone, PartialEq)]
pub struct RawModel {
    /// The parts in order; the first one has the keys of the model.
    pub parts: Vec<RawPart>,
    /// Problems that do not prevent reading the headers: missing parts, missing bytes at the end.
    pub problems: Vec<String>,
}

impl RawModel {
    /// Reads the header of the file at `path` and, if it is one of several parts, the headers of
    /// the other parts in the same folder.
    ///
    /// # Errors
    /// When one of them cannot be read, or is damaged.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let named = RawPart::open(path)?;
        let count = named.header.metadata.unsigned(SPLIT_COUNT).unwrap_or(1);
        let mut model = if count > 1 {
            Self::open_parts(named, count)?
        } else {
            RawModel { parts: vec![named], problems: Vec::new() }
        };
        model.check_sizes();
        Ok(model)
    }

    fn open_parts(named: RawPart, count: u64) -> Result<Self, GgufError> {
        let mut problems = Vec::new();
        let Some(paths) = part_paths(&named.path, count) else {
            problems.push(format!(
                "one of {count} parts, but {} is not called NAME-00001-of-{count:05}.gguf, so the \
                 others cannot be found",
                named.path.display()
            ));
            return Ok(RawModel { parts: vec![named], problems });
        };
        let mut parts = Vec::with_capacity(paths.len());
        for path in paths {
            if path == named.path {
                parts.push(named.clone());
            } else if path.exists() {
                parts.push(RawPart::open(&path)?);
            } else {
                problems.push(format!("{} is missing; fetch it, too", path.display()));
            }
        }
        let mut model = RawModel { parts, problems };
        model.check_tensor_count();
        Ok(model)
    }

    /// All tensors, each with its part.
    pub fn tensors(&self) -> impl Iterator<Item = (&RawPart, &RawTensor)> {
        self.parts.iter().flat_map(|part| part.header.tensors.iter().map(move |t| (part, t)))
    }

    fn check_tensor_count(&mut self) {
        let Some(first) = self.parts.first().filter(|_| self.problems.is_empty()) else { return };
        let found = self.tensors().count() as u64;
        if let Ok(expected) = first.header.metadata.unsigned(SPLIT_TENSORS)
            && expected != found
        {
            let problem = format!(
                "all parts together have {found} tensors, not the {expected} of {SPLIT_TENSORS}"
            );
            self.problems.push(problem);
        }
    }

    fn check_sizes(&mut self) {
        for RawPart { path, file_size, header } in &self.parts {
            let expected = header.data_end();
            if *file_size < expected {
                let problem = format!(
                    "{} is cut short: {file_size} bytes of at least {expected}; fetch it again",
                    path.display()
                );
                self.problems.push(problem);
            }
        }
    }
}

/// The first part of the model that `path` is a part of by its name; `path` itself if it does not
/// have the name of a part or the first part does not exist. llama.cpp loads a model by this path.
pub fn first_part(path: &Path) -> PathBuf {
    let first = part_name(path).map(|(prefix, _, count)| {
        path.with_file_name(format!("{prefix}-{:05}-of-{count:05}.gguf", 1))
    });
    first.filter(|first| first.exists()).unwrap_or_else(|| path.to_owned())
}

/// The name of the model without the number of its part: `model.gguf` for
/// `model-00001-of-00005.gguf`, and the unchanged name for any other file.
pub fn whole_name(path: &Path) -> PathBuf {
    match part_name(path) {
        Some((prefix, ..)) => path.with_file_name(format!("{prefix}.gguf")),
        None => path.to_owned(),
    }
}

/// The names of all `count` parts, if `path` has the name of one of them.
fn part_paths(path: &Path, count: u64) -> Option<Vec<PathBuf>> {
    /// Part numbers are 16 bits wide in the file.
    const MOST: u64 = u16::MAX as u64;
    let (prefix, _, named) = part_name(path)?;
    if named != count || count > MOST {
        return None;
    }
    let part = |i: u64| path.with_file_name(format!("{prefix}-{i:05}-of-{count:05}.gguf"));
    Some((1..=count).map(part).collect())
}

/// Prefix, number and count of a file called `PREFIX-00001-of-00005.gguf`.
fn part_name(path: &Path) -> Option<(&str, u64, u64)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (stem, count) = stem.rsplit_once("-of-")?;
    let (prefix, number) = stem.rsplit_once('-')?;
    let parse = |digits: &str| {
        let is_number = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten()
    };
    Some((prefix, parse(number)?, parse(count)?))
}
