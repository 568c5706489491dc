//! A checkpoint of nanoGPT, read as a GPT-2 in Hugging Face's format.
//!
//! `ckpt.pt` is a dictionary of `torch.save`: `model` holds the weights by the names of Hugging
//! Face's GPT-2, `model_args` the settings, and the rest is its training state. Matrices have the
//! orientation of `Linear`, `[out, in]`, while GPT-2's `Conv1D` has `[in, out]`. Without biases
//! (`bias = False`) the biases of a GPT-2 are zeros.
//!
//! nanoGPT's activation is the exact GELU, GPT-2's and llama.cpp's its approximation by tanh: the
//! values differ by 5e-4 at most.
//!
//! Source: `model.py` and `train.py` of <https://github.com/karpathy/nanoGPT>.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use checkpoint::names::{self, Orientation, TensorName};
use checkpoint::pickle::{Pickle, Value};
use checkpoint::{
    CheckpointError, Dictionary, Dtype, Tensors, TorchFile, Weights, atomic, transpose,
};
use config::{Architecture, ModelConfig, ROPE_BASE, limits};

use crate::tokenizer_file::{NO_TOKENIZER, tokenizer_text};

/// Rows of the embedding with GPT-2's vocabulary: its number of tokens, and nanoGPT's default, the
/// next multiple of 64.
const GPT2_VOCABULARY: [usize; 2] = [50_257, 50_304];

/// `F.layer_norm` of `model.py`.
const NORM_EPSILON: f32 = 1e-5;

/// The embedding, which nanoGPT ties the head to.
const EMBEDDING: &str = "transformer.wte.weight";
const HEAD: &str = "lm_head.weight";

/// A checkpoint of nanoGPT and its tokenizer. Weights are read on request.
pub(crate) struct NanoGpt {
    weights: Weights,
    config: ModelConfig,
    /// The weights by Hugging Face's names.
    table: BTreeMap<String, TensorName>,
    tokenizer_path: Option<PathBuf>,
    tokenizer_json: Option<String>,
}

impl NanoGpt {
    /// Reads the settings and the locations of the weights. The default tokenizer is GPT-2's.
    pub fn open(path: &Path, tokenizer_path: Option<&Path>) -> Result<Self> {
        let file = TorchFile::open(path)?;
        let config = {
            let pickle = file.parse()?;
            read_config(&pickle).with_context(|| path.display().to_string())?
        };
        let weights = file.into_weights(Dictionary::Entry("model"))?;
        let table = names::tensors(&config).into_iter();
        let table = table.map(|row| (row.hugging_face.clone(), row)).collect();
        let tokenizer_json = tokenizer(path, tokenizer_path, config.vocab_size)?;
        let tokenizer_path = tokenizer_path.map(Path::to_owned);
        let model = NanoGpt { weights, config, table, tokenizer_path, tokenizer_json };
        model.check()?;
        cli::note(
            "nanoGPT's exact GELU is computed as GPT-2's approximation by tanh, as llama.cpp does \
             it",
        );
        Ok(model)
    }

    pub fn path(&self) -> &Path {
        self.weights.path()
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The text of the `tokenizer.json`, unless it was omitted on request.
    pub fn tokenizer_json(&self) -> Option<&str> {
        self.tokenizer_json.as_deref()
    }

    /// The name of the file's folder, since all files of nanoGPT have the same name.
    pub fn name(&self) -> String {
        let folder = std::path::absolute(self.path()).ok();
        let folder = folder.as_deref().and_then(Path::parent).and_then(Path::file_name);
        folder.map_or_else(|| "nanogpt".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Whether `path` is one of the files that were read.
    pub fn consists_of(&self, path: &Path) -> bool {
        let own = [Some(self.path()), self.tokenizer_path.as_deref()];
        own.into_iter().flatten().any(|own| atomic::same_place(own, path))
    }

    /// Checks that the model has every tensor in its shape, and no others.
    fn check(&self) -> Result<(), CheckpointError> {
        let path = || self.path().to_owned();
        for (name, row) in &self.table {
            let expected = stored_shape(row);
            match self.weights.shape(name) {
                Ok(found) if found == expected => self.weights.check_float(name)?,
                Ok(found) => {
                    let (name, found) = (name.clone(), found.to_vec());
                    return Err(CheckpointError::Shape { path: path(), name, found, expected });
                }
                Err(_) if self.is_zeros(row) => {}
                Err(missing) => return Err(missing),
            }
        }
        let known = |name: &str| self.table.contains_key(name) || name == HEAD;
        let mut names = self.weights.names();
        match names.find(|name| !known(name) && !names::is_ignored(&self.config, name)) {
            Some(name) => Err(CheckpointError::ExtraTensor { path: path(), name: name.to_owned() }),
            None => self.check_tied(),
        }
    }

    /// A bias that is missing because the model has no biases.
    fn is_zeros(&self, row: &TensorName) -> bool {
        !self.config.qkv_bias && row.hugging_face.ends_with(".bias")
    }

    /// nanoGPT has one matrix for the embedding and the head.
    fn check_tied(&self) -> Result<(), CheckpointError> {
        let is_same = !self.weights.contains(HEAD)
            || self.weights.read_f32(HEAD)? == self.weights.read_f32(EMBEDDING)?;
        match is_same {
            true => Ok(()),
            false => Err(CheckpointError::Content {
                path: self.path().to_owned(),
                reason: format!("{HEAD} differs from {EMBEDDING}, expected nanoGPT's tied weights"),
            }),
        }
    }
}

/// A matrix in the orientation of `Linear`, where the model has `Conv1D`.
fn stored_shape(row: &TensorName) -> Vec<usize> {
    match row.orientation {
        Orientation::InputFirst => row.shape.iter().rev().copied().collect(),
        Orientation::Same | Orientation::OutputFirst => row.shape.clone(),
    }
}

impl Tensors for NanoGpt {
    fn list(&self) -> Vec<(String, Vec<usize>)> {
        self.table.values().map(|row| (row.hugging_face.clone(), row.shape.clone())).collect()
    }

    fn data(&self, name: &str) -> Result<Cow<'_, [f32]>, CheckpointError> {
        let row =
            self.table.get(name).filter(|row| !self.weights.contains(name) && self.is_zeros(row));
        if let Some(row) = row {
            return Ok(Cow::Owned(vec![0.0; row.elements()]));
        }
        let values = self.weights.read_f32(name)?;
        Ok(Cow::Owned(match self.table.get(name) {
            Some(row) if row.orientation == Orientation::InputFirst => {
                transpose(&values, row.shape[1], row.shape[0])
            }
            _ => values,
        }))
    }

    fn dtype(&self, name: &str) -> Dtype {
        Tensors::dtype(&self.weights, name)
    }
}

/// The settings under `model_args`.
fn read_config(pickle: &Pickle) -> Result<ModelConfig> {
    let root = pickle.root();
    let (Some(args), Some(_)) = (pickle.get(root, "model_args"), pickle.get(root, "model")) else {
        bail!(
            "a PyTorch file of {}, expected nanoGPT's dictionary with \"model\" and \
             \"model_args\"; the weights of a Hugging Face folder are exported by the name of the \
             folder",
            match pickle.entries(root) {
                Some(entries) => format!("a dictionary with {}", shown_keys(pickle, entries)),
                None => pickle.kind(root).to_owned(),
            }
        )
    };
    let entries = pickle.entries(args).context("model_args is no dictionary")?;
    for &(key, _) in entries {
        const KNOWN: [&str; 7] =
            ["n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size", "dropout"];
        let name = pickle.as_text(key).unwrap_or_default();
        ensure!(
            KNOWN.contains(&name),
            "model_args.{} is not a setting of nanoGPT; expected {}",
            name.escape_debug(),
            KNOWN.join(", ")
        );
    }
    let get = |key: &str| pickle.get(args, key);
    let size = |key: &str, most: usize| -> Result<usize> {
        match get(key) {
            Some(Value::Int(value)) if (1..=most as i64).contains(&value) => Ok(value as usize),
            Some(Value::Int(value)) => bail!("model_args.{key} = {value}, expected 1 to {most}"),
            Some(other) => {
                bail!("model_args.{key} is {}, expected 1 to {most}", pickle.kind(other))
            }
            None => bail!("model_args.{key} is missing, expected 1 to {most}"),
        }
    };
    let bias = match get("bias") {
        Some(Value::Bool(bias)) => bias,
        None => true,
        Some(other) => bail!("model_args.bias is {}, expected True or False", pickle.kind(other)),
    };
    let dropout = match get("dropout") {
        Some(Value::Float(share)) if (0.0..1.0).contains(&share) => share as f32,
        Some(Value::Int(0)) | None => 0.0,
        _ => bail!("model_args.dropout: expected 0 to below 1"),
    };
    let n_embd = size("n_embd", limits::N_EMBD)?;
    let n_head = size("n_head", limits::N_HEAD)?;
    ensure!(
        n_embd.is_multiple_of(n_head),
        "model_args.n_head = {n_head}, expected a divisor of n_embd = {n_embd}"
    );
    Ok(ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size: size("vocab_size", limits::VOCAB_SIZE)?,
        context_length: size("block_size", limits::CONTEXT_LENGTH)?,
        n_layer: size("n_layer", limits::N_LAYER)?,
        n_head,
        n_kv_head: n_head,
        n_embd,
        n_inner: 4 * n_embd,
        norm_epsilon: NORM_EPSILON,
        rope_base: ROPE_BASE,
        qkv_bias: bias,
        tie_embeddings: true,
        dropout,
        attention: config::Attention::PLAIN,
        experts: None,
    })
}

/// The first keys of a dictionary, for a message.
fn shown_keys(pickle: &Pickle, entries: &[(Value, Value)]) -> String {
    let keys = entries.iter().take(4).map(|&(key, _)| match pickle.as_text(key) {
        Some(name) => format!("{:?}", name.chars().take(40).collect::<String>()),
        None => pickle.kind(key).to_owned(),
    });
    keys.collect::<Vec<_>>().join(", ")
}

/// The text of a `tokenizer.json`: of the given file or folder, otherwise GPT-2's if the model has
/// the same number of tokens; `None` if it is not wanted.
fn tokenizer(path: &Path, named: Option<&Path>, vocab_size: usize) -> Result<Option<String>> {
    match named {
        Some(name) if name.as_os_str() == NO_TOKENIZER => Ok(None),
        Some(named) => tokenizer_text(named).map(Some),
        None if GPT2_VOCABULARY.contains(&vocab_size) => {
            data::Tokenizer::gpt2()?.tokenizer_json().map(Some)
        }
        None => bail!(
            "{}: a vocabulary of {vocab_size} tokens is not GPT-2's, and nanoGPT keeps no \
             tokenizer; name a tokenizer.json with --tokenizer, or --tokenizer none for a model \
             that runs on token ids only",
            path.display()
        ),
    }
}
