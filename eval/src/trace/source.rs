//! Where a trace comes from: a forward pass of the reference, or a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use checkpoint::{Dtype, Weights};
use config::StageValues;
use reference::Model;

use crate::tokens::tokenizer;

/// Largest file of token ids, in bytes.
const IDS_LIMIT: u64 = 1 << 20;
/// The tensor of a trace's tokens.
const TOKENS: &str = "tokens";

/// What a model is compared with.
pub enum Other {
    /// Another model, which the reference reads.
    Model(PathBuf),
    /// A recorded trace: `tokens`, U32 `[T]`, and a tensor for each stage.
    File(Weights),
}

impl Other {
    /// A trace if the path is a safetensors file, otherwise a model.
    pub fn open(path: &Path) -> Result<Self> {
        match path.extension().is_some_and(|end| end == "safetensors") && !path.is_dir() {
            true => Ok(Other::File(Weights::open(path)?)),
            false => Ok(Other::Model(path.to_owned())),
        }
    }

    /// The path as the user wrote it.
    pub fn path(&self) -> &Path {
        match self {
            Other::Model(path) => path,
            Other::File(weights) => weights.path(),
        }
    }

    /// The tokens of a recorded trace.
    pub fn tokens(&self) -> Result<Option<Vec<u32>>> {
        let Other::File(weights) = self else { return Ok(None) };
        let (shape, dtype) = (weights.shape(TOKENS)?, weights.dtype(TOKENS)?);
        ensure!(
            shape.len() == 1 && dtype == Dtype::U32,
            "{}: {TOKENS} is {dtype} of the shape {shape:?}; expected U32 of the shape [T]",
            weights.path().display()
        );
        let bytes = weights.bytes(TOKENS)?;
        Ok(Some(bytes.as_chunks::<4>().0.iter().map(|&id| u32::from_le_bytes(id)).collect()))
    }

    /// The results for `tokens`.
    pub fn stages(&self, tokens: &[u32]) -> Result<Expected<'_>> {
        Ok(match self {
            Other::File(weights) => Expected::File(weights),
            Other::Model(path) => {
                let named = |stage: StageValues| {
                    (stage.stage.to_string(), Recorded { shape: stage.shape, values: stage.values })
                };
                Expected::Pass(stages_of(path, tokens)?.into_iter().map(named).collect())
            }
        })
    }
}

/// One result to compare with.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// The results to compare with, by name.
pub enum Expected<'a> {
    /// Of a pass.
    Pass(BTreeMap<String, Recorded>),
    /// Read from the file one by one.
    File(&'a Weights),
}

impl Expected<'_> {
    /// The result called `name`, if it is there.
    pub fn find(&self, name: &str) -> Result<Option<Recorded>> {
        match self {
            Expected::Pass(stages) => Ok(stages.get(name).cloned()),
            Expected::File(weights) if !weights.contains(name) => Ok(None),
            Expected::File(weights) => Ok(Some(Recorded {
                shape: weights.shape(name)?.to_vec(),
                values: weights.read_f32(name)?,
            })),
        }
    }

    /// The names of all results.
    pub fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Expected::Pass(stages) => Box::new(stages.keys().map(String::as_str)),
            Expected::File(weights) => Box::new(weights.names().filter(|name| *name != TOKENS)),
        }
    }
}

/// Every intermediate result of the reference's pass.
pub fn stages_of(path: &Path, tokens: &[u32]) -> Result<Vec<StageValues>> {
    let place = || path.display().to_string();
    ensure!(path.exists(), "{}: no such file or folder", path.display());
    let source = fragment::open_weights(path).with_context(place)?;
    let model = Model::load(source.as_ref()).with_context(place)?;
    drop(source);
    model.stages(tokens).with_context(place)
}

/// The tokens of `text`, with the one that begins a text if the model was trained with one.
pub fn tokenize(path: &Path, text: &str) -> Result<Vec<u32>> {
    ensure!(path.exists(), "{}: no such file or folder", path.display());
    let source = fragment::open_source(path)?;
    let tokenizer = tokenizer(None, source.metadata())
        .with_context(|| format!("{}: give --tokens FILE instead of --text", path.display()))?;
    let mut tokens: Vec<u32> = tokenizer.begin_of_text().into_iter().collect();
    tokens.extend(tokenizer.encode_parallel(text)?);
    Ok(tokens)
}

/// The ids in a file, separated by white space or commas.
pub fn read_ids(path: &Path) -> Result<Vec<u32>> {
    let text = checkpoint::read_text(path, IDS_LIMIT)
        .with_context(|| format!("--tokens {}", path.display()))?;
    let words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
    let ids = words
        .map(|word| {
            let id = word.parse::<u32>().ok();
            id.with_context(|| format!("--tokens {}: {word:?} is not a token's id", path.display()))
        })
        .collect::<Result<Vec<_>>>()?;
    if ids.is_empty() {
        bail!("--tokens {}: no ids; expected at least one", path.display());
    }
    Ok(ids)
}
