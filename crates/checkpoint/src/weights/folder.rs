//! Reads the weights of a Hugging Face folder, in any of the supported formats.

use std::path::Path;

use super::data_file::DataFile;
use super::index::Index;
use super::place::Place;
use super::pytorch::TorchFile;
use super::{Weights, safetensors};
use crate::{CheckpointError, WEIGHTS_FILE};

/// The format of a file of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Safetensors,
    Torch,
}

impl Format {
    /// In the order in which transformers looks for them (`modeling_utils.py`).
    const ALL: [Format; 2] = [Format::Safetensors, Format::Torch];

    /// By the extension of a name: `.bin` is PyTorch's.
    pub fn of(path: &Path) -> Self {
        let torch = path.extension().is_some_and(|ending| ending == "bin");
        if torch { Format::Torch } else { Format::Safetensors }
    }

    /// The file of a model in one piece.
    pub fn single(self) -> &'static str {
        match self {
            Format::Safetensors => WEIGHTS_FILE,
            Format::Torch => "pytorch_model.bin",
        }
    }

    /// The index file, which maps tensors to shards.
    pub fn index(self) -> &'static str {
        match self {
            Format::Safetensors => "model.safetensors.index.json",
            Format::Torch => "pytorch_model.bin.index.json",
        }
    }

    /// The prefix and suffix of the name of a shard.
    pub fn shard(self) -> (&'static str, &'static str) {
        match self {
            Format::Safetensors => ("model-", ".safetensors"),
            Format::Torch => ("pytorch_model-", ".bin"),
        }
    }

    /// Whether a file name is that of a shard.
    pub fn is_shard(self, name: &str) -> bool {
        let (begin, end) = self.shard();
        name.starts_with(begin) && name.contains("-of-") && name.ends_with(end)
    }

    /// Opens one file and returns the places of its tensors.
    pub fn open(self, path: &Path) -> Result<(DataFile, Vec<(String, Place)>), CheckpointError> {
        match self {
            Format::Safetensors => safetensors::open(path),
            Format::Torch => TorchFile::open(path)?.into_places(),
        }
    }
}

/// Files that hold weights in an unsupported format, and the remedy.
const OTHERS: [(&str, &str); 8] = [
    (
        "weights.npz",
        "MLX's older form; convert the model again with a newer mlx-lm, which writes safetensors",
    ),
    (
        "consolidated.safetensors",
        "the names of Mistral's own code; take the folder with model.safetensors",
    ),
    (
        "consolidated.00.pth",
        "the form of Meta's own code; convert it with convert_llama_weights_to_hf.py of \
         transformers",
    ),
    ("ckpt.pt", "a checkpoint of nanoGPT; name the file itself: export --input FOLDER/ckpt.pt"),
    ("tf_model.h5", "TensorFlow's form; load it with from_tf=True and save it again"),
    ("flax_model.msgpack", "Flax's form; load it with from_flax=True and save it again"),
    (
        "adapter_model.safetensors",
        "an adapter without its model; name the model, and the adapter with --merge-lora",
    ),
    ("model.gguf", "a GGUF; name the file itself"),
];

/// Opens the weights in `dir`.
pub(super) fn open(dir: &Path) -> Result<Weights, CheckpointError> {
    for format in Format::ALL {
        let (single, index) = (dir.join(format.single()), dir.join(format.index()));
        if single.exists() {
            let (file, tensors) = format.open(&single)?;
            let mut weights = Weights::empty(&single);
            weights.add(file, tensors)?;
            return Ok(weights);
        }
        if index.exists() {
            return open_shards(dir, &index, format);
        }
    }
    let expected = Format::ALL.map(|format| format!("{} or {}", format.single(), format.index()));
    let expected = expected.join(" or ");
    let found = shard_without_index(dir).or_else(|| other_form(dir));
    let found = found.unwrap_or_else(|| "no weights here".to_owned());
    let reason = format!("{found}; expected {expected}");
    Err(CheckpointError::NoCheckpoint { path: dir.to_owned(), reason })
}

/// A shard without its index.
fn shard_without_index(dir: &Path) -> Option<String> {
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names.iter().find_map(|name| {
        let format = Format::ALL.into_iter().find(|format| format.is_shard(name))?;
        let index = format.index();
        Some(format!("{name} is one shard of a model; fetch {index}, which names them all"))
    })
}

/// The unsupported format of the weights in `dir` and a remedy, if the format is known.
pub(crate) fn other_form(dir: &Path) -> Option<String> {
    let (name, what) = OTHERS.iter().find(|(name, _)| dir.join(name).exists())?;
    Some(format!("{name} is {what}"))
}

fn open_shards(dir: &Path, path: &Path, format: Format) -> Result<Weights, CheckpointError> {
    let index = Index::read(path, format)?;
    index.check_folder(dir)?;
    let mut weights = Weights::empty(path);
    for name in index.files() {
        let path = dir.join(name);
        if !path.exists() {
            return Err(index.missing(name));
        }
        let (file, tensors) = format.open(&path)?;
        tensors.iter().try_for_each(|(tensor, _)| index.check_tensor(tensor, name))?;
        weights.add(file, tensors)?;
    }
    index.check_complete(|name| weights.contains(name))?;
    Ok(weights)
}
