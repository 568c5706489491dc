//! `model.safetensors.index.json` and `pytorch_model.bin.index.json`: the file of each tensor in a
//! large model.
//!
//! The file is not trusted and names other files, so only bare file names are accepted, and its
//! content is checked against the files.
//!
//! Source: `save_pretrained` in `modeling_utils.py` of transformers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::folder::Format;
use crate::CheckpointError;
use crate::limits::read_text;

/// A mixture of experts has 100,000 tensors, at 100 bytes each.
const INDEX_BYTES: u64 = 64 << 20;

/// Number of files that are open at the same time, below the limit of systems for a process.
const MOST_SHARDS: usize = 512;

#[derive(Deserialize)]
struct Document {
    weight_map: BTreeMap<String, String>,
}

/// The index of a folder, parsed and checked by itself.
pub(super) struct Index {
    path: PathBuf,
    format: Format,
    file_of: BTreeMap<String, String>,
}

impl Index {
    pub fn read(path: &Path, format: Format) -> Result<Self, CheckpointError> {
        let text = read_text(path, INDEX_BYTES)?;
        let document: Document = serde_json::from_str(&text)
            .map_err(|source| CheckpointError::Json { path: path.to_owned(), source })?;
        let index = Index { path: path.to_owned(), format, file_of: document.weight_map };
        let files = index.files();
        let (begin, end) = format.shard();
        if let Some(name) = files.iter().find(|name| !is_shard_name(name, end)) {
            return Err(index.refuse(format!(
                "{name:?} is no name of a shard; expected one like \
                 {begin}00001-of-00002{end}, without a path"
            )));
        }
        match files.len() {
            1..=MOST_SHARDS => Ok(index),
            count => Err(index
                .refuse(format!("{count} shards, expected 1 to {MOST_SHARDS}; save larger ones"))),
        }
    }

    /// The shards, each once, sorted by name.
    pub fn files(&self) -> BTreeSet<&str> {
        self.file_of.values().map(String::as_str).collect()
    }

    /// Refuses shards in the folder that the index does not name: they belong to another model, or
    /// the index belongs to other shards.
    pub fn check_folder(&self, dir: &Path) -> Result<(), CheckpointError> {
        let files = self.files();
        for entry in fs::read_dir(dir).map_err(CheckpointError::io(dir))? {
            let name = entry.map_err(CheckpointError::io(dir))?.file_name();
            let Some(name) = name.to_str() else { continue };
            if self.format.is_shard(name) && !files.contains(name) {
                return Err(self.refuse(format!(
                    "it does not name {name}, which lies beside it; take away the one that does \
                     not belong to this model"
                )));
            }
        }
        Ok(())
    }

    /// Refuses a tensor that `file` holds although the index places it elsewhere.
    pub fn check_tensor(&self, name: &str, file: &str) -> Result<(), CheckpointError> {
        match self.file_of.get(name) {
            Some(expected) if expected == file => Ok(()),
            Some(expected) => Err(self.refuse(format!(
                "it places tensor {name} in {expected}, but {file} holds it; fetch the folder again"
            ))),
            None => Err(self.refuse(format!(
                "it does not name tensor {name}, which {file} holds; fetch the folder again"
            ))),
        }
    }

    /// Refuses an index that names tensors which are in no shard.
    pub fn check_complete(&self, holds: impl Fn(&str) -> bool) -> Result<(), CheckpointError> {
        match self.file_of.iter().find(|(name, _)| !holds(name)) {
            Some((name, file)) => Err(self.refuse(format!(
                "it places tensor {name} in {file}, which does not hold it; fetch the folder again"
            ))),
            None => Ok(()),
        }
    }

    /// The error for a shard that is named but missing.
    pub fn missing(&self, file: &str) -> CheckpointError {
        self.refuse(format!("shard {file} is not there; fetch the missing part of the model"))
    }

    fn refuse(&self, reason: String) -> CheckpointError {
        CheckpointError::Content { path: self.path.clone(), reason }
    }
}

/// A bare file name: anything else could lead out of the folder.
fn is_shard_name(name: &str, ending: &str) -> bool {
    name.ends_with(ending)
        && !name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\' | ':'))
        && Path::new(name).file_name().is_some_and(|bare| bare == name)
}
