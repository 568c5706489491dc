//! The list of the shards of a corpus: `tokens.json` in their folder, or, in the run folder of a training
//! that reads them where they are, `tokens.bin`.
//!
//! ```json
//! {"format": "pocketgpt-token-shards", "version": 1, "tokens": 12, "shards": [
//!   {"file": "shard-00000.bin", "tokens": 12, "blake3": "...", "continues": false}]}
//! ```

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use checkpoint::atomic;
use serde::{Deserialize, Serialize};

use super::Shard;
use crate::documents::ReadReport;
use crate::shards::Settings;

/// The name of the list in a folder of shards.
pub(crate) const LIST_FILE: &str = "tokens.json";

const FORMAT: &str = "pocketgpt-token-shards";
const VERSION: u32 = 1;
/// How a list begins.
const START: &str = "{\"format\":\"pocketgpt-token-shards\"";
/// Longest list that is read: a million inputs take a tenth of it.
const LIST_BYTES: u64 = 1 << 30;
/// Most shards of a corpus; each is open and mapped.
const MOST_SHARDS: usize = 1 << 16;

/// The shards of a corpus, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardList {
    format: String,
    version: u32,
    /// Tokens of all of them.
    pub tokens: u64,
    pub shards: Vec<ListedShard>,
    /// What they were made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListedShard {
    /// Beside the list, if it is only a name.
    pub file: PathBuf,
    pub tokens: u64,
    /// BLAKE3 of everything behind its header.
    pub blake3: String,
    /// Whether its first document began in the shard before.
    pub continues: bool,
}

/// What `data encode` read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Origin {
    pub settings: Settings,
    pub read: ReadReport,
}

impl ListedShard {
    pub fn new(file: PathBuf, shard: &Shard, continues: bool) -> Self {
        let (tokens, blake3) = (shard.len() as u64, shard.hash().to_hex().to_string());
        ListedShard { file, tokens, blake3, continues }
    }
}

impl ShardList {
    pub fn new(shards: Vec<ListedShard>, origin: Option<Origin>) -> Self {
        let tokens = shards.iter().map(|shard| shard.tokens).fold(0, u64::saturating_add);
        ShardList { format: FORMAT.to_owned(), version: VERSION, tokens, shards, origin }
    }

    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = checkpoint::read_text(path, LIST_BYTES)
            .with_context(|| format!("cannot read the list of shards {name}"))?;
        let list: Self = serde_json::from_str(&text)
            .with_context(|| format!("{name}: not a list of shards; encode again"))?;
        ensure!(
            list.format == FORMAT && list.version == VERSION,
            "{name}: {} of version {}; expected {FORMAT} of version {VERSION}",
            list.format,
            list.version
        );
        ensure!(
            (1..=MOST_SHARDS).contains(&list.shards.len()),
            "{name}: {} shards; expected 1 to {MOST_SHARDS}",
            list.shards.len()
        );
        Ok(list)
    }

    pub fn write(&self, path: &Path, overwrite: bool) -> Result<()> {
        let text = serde_json::to_string(self)?;
        atomic::write_file::<_, anyhow::Error>(path, overwrite, |out| {
            out.write_all(text.as_bytes())?;
            Ok(())
        })
    }
}

/// Whether a file begins as a list does.
pub(super) fn is_list(path: &Path) -> bool {
    let mut start = [0; START.len()];
    plain_file::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok()
        && start == START.as_bytes()
}
