//! What an encoding depends on: the inputs as they are, the tokenizer, the settings.

use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::Tokenizer;
use crate::corpus::Corpus;
use crate::inputs::InputFile;

/// Two encodings with equal settings give equal shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Raised whenever shards are cut at other places.
    version: u32,
    /// [`Tokenizer::hash`] in hexadecimal.
    tokenizer: String,
    pub(super) shard_bytes: u64,
    on_error: config::OnError,
    sources: Vec<SourceSettings>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceSettings {
    text_field: String,
    weight: u32,
    files: Vec<FileState>,
}

/// A file as it was when the encoding began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileState {
    name: String,
    format: String,
    bytes: u64,
    /// When it was changed, in nanoseconds since 1970; none for what is not a file.
    modified: Option<u64>,
}

impl Settings {
    /// Of an encoding that begins now.
    ///
    /// # Errors
    /// When an input has gone.
    pub fn of(corpus: &Corpus, tokenizer: &Tokenizer, shard_bytes: u64) -> Result<Self> {
        let mut sources = Vec::new();
        for source in corpus.sources() {
            let files = source.inputs.files().iter().map(FileState::of);
            sources.push(SourceSettings {
                text_field: source.text_field.clone(),
                weight: source.weight,
                files: files.collect::<Result<_>>()?,
            });
        }
        Ok(Settings {
            version: 1,
            tokenizer: blake3::Hash::from_bytes(tokenizer.hash()).to_hex().to_string(),
            shard_bytes,
            on_error: corpus.on_error(),
            sources,
        })
    }

    /// Refuses to go on with an encoding that had other settings.
    ///
    /// # Errors
    /// Names what is different.
    pub fn check(&self, before: &Settings, folder: &Path) -> Result<()> {
        match self.difference(before) {
            None => Ok(()),
            Some(what) => bail!(
                "{}: the encoding that was stopped cannot go on: {what}; add --force to encode from the \
                 beginning",
                folder.display()
            ),
        }
    }

    fn difference(&self, before: &Settings) -> Option<String> {
        if self == before {
            return None;
        }
        if self.version != before.version {
            return Some("another version of this program began it".to_owned());
        }
        if self.tokenizer != before.tokenizer {
            return Some("the tokenizer is another one".to_owned());
        }
        if self.shard_bytes != before.shard_bytes {
            let (now, before) = (self.shard_bytes, before.shard_bytes);
            return Some(format!("shards of {now} bytes, and it began with {before}"));
        }
        let files = |settings: &Settings| -> Vec<FileState> {
            settings.sources.iter().flat_map(|source| source.files.clone()).collect()
        };
        let (now, then) = (files(self), files(before));
        for (now, then) in now.iter().zip(&then) {
            if now.name != then.name {
                return Some(format!("it read {}, where {} is now", then.name, now.name));
            }
            if now.bytes != then.bytes {
                let (now, then, name) = (now.bytes, then.bytes, &now.name);
                return Some(format!("{name} has changed ({now} bytes, and it had {then})"));
            }
            if now != then {
                return Some(format!("{} has changed", now.name));
            }
        }
        if now.len() != then.len() {
            return Some(format!("{} input files, and it began with {}", now.len(), then.len()));
        }
        Some("the fields, the weights or on_error are others".to_owned())
    }
}

impl FileState {
    fn of(file: &InputFile) -> Result<Self> {
        let name = file.to_string();
        let modified = match file.path().filter(|path| path.is_file()) {
            Some(path) => {
                let changed = path.metadata().and_then(|metadata| metadata.modified());
                let changed = changed.with_context(|| format!("cannot read {name}"))?;
                let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
                Some(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
            }
            None => None,
        };
        Ok(FileState {
            bytes: file.size()?,
            format: format!("{:?}", file.format()),
            modified,
            name,
        })
    }
}
