//! A checkpoint folder, opened and checked against its own settings.

use std::fs;
use std::path::{Path, PathBuf};

use config::ModelConfig;

use crate::atomic::same_place;
use crate::limits::{SMALL_JSON_BYTES, read_text};
use crate::lora::{ADAPTER_FOLDER, Adapter};
use crate::{
    CONFIG_FILE, CheckpointError, GOLDEN_FILE, Golden, OPTIMIZER_FILE, TRAINER_FILE, TrainerState,
    Weights, foreign, hf_config, names, quantized, save, tokenizer_json, weights,
};

/// A folder whose weights are exactly those that its `config.json` requires.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    config: ModelConfig,
    weights: Weights,
}

impl Checkpoint {
    /// Reads the settings and the header of the weights.
    ///
    /// # Errors
    /// When there is no checkpoint at `dir`, it has another architecture, or a tensor is missing,
    /// has another shape or is not part of the model.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let config_path = dir.join(CONFIG_FILE);
        if !config_path.exists() {
            return Err(no_config(dir));
        }
        let settings = read_text(&config_path, SMALL_JSON_BYTES)?;
        let config = hf_config::parse(&config_path, &settings)?;
        // `.` has neither a name nor a parent folder for the output.
        let dir = &fs::canonicalize(dir).map_err(CheckpointError::io(dir))?;
        let mut weights = Weights::open_folder(dir)?;
        let quantization = hf_config::quantization(&config_path, &settings)?;
        weights::dequantize(&mut weights, &quantization, &config_path)?;
        foreign::adapt(&mut weights, &config)?;
        quantized::check(&weights, &config)?;
        let found = weights.iter().map(|(name, shape)| (name.to_owned(), shape.to_vec()));
        check_tensors(weights.path(), &config, found)?;
        // Masks may be of any type.
        let names = weights.names().filter(|name| !names::is_ignored(&config, name));
        names.into_iter().try_for_each(|name| weights.check_float(name))?;
        let checkpoint = Checkpoint { dir: dir.clone(), config, weights };
        checkpoint.check_zeros()?;
        Ok(checkpoint)
    }

    /// The folder, as an absolute path without links.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model's weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The text of `tokenizer.json`, or of one made from older files ([`tokenizer_json`]).
    ///
    /// # Errors
    /// When the folder has none, or it cannot be read.
    pub fn tokenizer_json(&self) -> Result<String, CheckpointError> {
        tokenizer_json(&self.dir)?
            .ok_or_else(|| CheckpointError::NoTokenizer { path: self.dir.clone() })
    }

    /// Token windows and their logits, if training wrote them.
    ///
    /// # Errors
    /// When they exist and are damaged, or have another vocabulary.
    pub fn golden(&self) -> Result<Option<Golden>, CheckpointError> {
        let path = self.dir.join(GOLDEN_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let golden = Golden::load(&path)?;
        if golden.vocab_size != self.config.vocab_size {
            let reason = format!(
                "logits over {} tokens, but the model has {}",
                golden.vocab_size, self.config.vocab_size
            );
            return Err(CheckpointError::Content { path, reason });
        }
        Ok(Some(golden))
    }

    /// The position in the training, if this is a checkpoint of ours.
    ///
    /// # Errors
    /// When it exists and is damaged.
    pub fn trainer(&self) -> Result<Option<TrainerState>, CheckpointError> {
        let path = self.dir.join(TRAINER_FILE);
        if path.exists() { TrainerState::load(&path).map(Some) } else { Ok(None) }
    }

    /// The optimizer's moments, if this is a checkpoint of ours.
    ///
    /// # Errors
    /// When they exist and are damaged.
    pub fn optimizer(&self) -> Result<Option<Weights>, CheckpointError> {
        let path = self.dir.join(OPTIMIZER_FILE);
        if path.exists() { Weights::open(&path).map(Some) } else { Ok(None) }
    }

    /// The adapter that was trained, if training wrote one. It is already merged into the weights.
    ///
    /// # Errors
    /// When it exists and is damaged, or belongs to another model.
    pub fn adapter(&self) -> Result<Option<Adapter>, CheckpointError> {
        let dir = self.dir.join(ADAPTER_FOLDER);
        if dir.exists() { Adapter::open(&dir, &self.config).map(Some) } else { Ok(None) }
    }

    /// The default name of the model: the run folder of `RUN/checkpoints/step-000090`, otherwise
    /// the folder itself.
    pub fn default_name(&self) -> String {
        let named = run_dir(&self.dir).unwrap_or(&self.dir).file_name();
        named.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// The run folder that this checkpoint belongs to, if it is in one.
    pub fn run_dir(&self) -> Option<PathBuf> {
        run_dir(&self.dir).map(Path::to_owned)
    }

    /// Whether `path` is one of the files that this checkpoint consists of.
    pub fn consists_of(&self, path: &Path) -> bool {
        let ours = save::FILES.iter().map(|name| self.dir.join(name));
        let weights = self.weights.files().map(Path::to_owned);
        ours.chain(weights).any(|file| same_place(&file, path))
    }

    /// A bias that `config.json` excludes must be zeros in the file: `transformers` and llama.cpp
    /// add it, our model does not.
    fn check_zeros(&self) -> Result<(), CheckpointError> {
        for row in names::tensors(&self.config).iter().filter(|row| !row.in_model()) {
            if !self.weights.contains(&row.hugging_face) {
                continue;
            }
            let values = self.weights.read_f32(&row.hugging_face)?;
            if let Some(position) = values.iter().position(|&value| value != 0.0) {
                return Err(CheckpointError::Value {
                    name: row.hugging_face.clone(),
                    value: values[position],
                    position,
                    cure: "config.json says \"qkv_bias\": false, which means zeros here",
                });
            }
        }
        Ok(())
    }
}

/// The error for a folder without settings, with a remedy if the content of the folder is known.
fn no_config(dir: &Path) -> CheckpointError {
    let expected = "expected a checkpoint or Hugging Face folder";
    let reason = match weights::other_form(dir) {
        _ if dir.is_file() => format!(
            "a file, {expected}; of a model of llama2.c or nanoGPT `export --to huggingface` makes \
             one"
        ),
        Some(other) => format!("{other}; {expected}"),
        None => format!("no config.json here; {expected}"),
    };
    CheckpointError::NoCheckpoint { path: dir.to_owned(), reason }
}

/// `RUN` of `RUN/checkpoints/NAME`.
pub fn run_dir(dir: &Path) -> Option<&Path> {
    let parent = dir.parent()?;
    (parent.file_name()? == "checkpoints").then(|| parent.parent()).flatten()
}

/// Checks that every tensor of the model exists in its shape, and no others. Tensors that only some
/// files have may exist or not.
pub(crate) fn check_tensors(
    path: &Path,
    config: &ModelConfig,
    found: impl Iterator<Item = (String, Vec<usize>)>,
) -> Result<(), CheckpointError> {
    let mut found: std::collections::BTreeMap<String, Vec<usize>> = found.collect();
    for row in names::tensors(config) {
        match found.remove(&row.hugging_face) {
            Some(shape) if shape == row.shape => {}
            Some(shape) => {
                return Err(CheckpointError::Shape {
                    path: path.to_owned(),
                    name: row.hugging_face,
                    found: shape,
                    expected: row.shape,
                });
            }
            None if !row.in_model() => {}
            None => {
                let (path, name) = (path.to_owned(), row.hugging_face);
                return Err(CheckpointError::MissingTensor { path, name });
            }
        }
    }
    match found.into_keys().find(|name| !names::is_ignored(config, name)) {
        Some(name) => Err(CheckpointError::ExtraTensor { path: path.to_owned(), name }),
        None => Ok(()),
    }
}

/// The newest checkpoint of a run: the one that `RUN/latest` names.
///
/// # Errors
/// When the run has none yet, or the checkpoint that `latest` names does not exist.
pub fn latest(run_dir: &Path) -> Result<PathBuf, CheckpointError> {
    let pointer = run_dir.join("latest");
    let refuse = |reason: String| CheckpointError::NoCheckpoint { path: pointer.clone(), reason };
    if !pointer.exists() {
        return Err(refuse("missing; this run has no checkpoint yet".to_owned()));
    }
    let text = read_text(&pointer, SMALL_JSON_BYTES)?;
    let name = text.trim();
    // Only a bare name: a path could lead out of the run.
    let is_name = Path::new(name).file_name().is_some_and(|file_name| file_name == name);
    if !is_name {
        return Err(refuse(format!("{name:?} is not the name of a checkpoint")));
    }
    let dir = run_dir.join("checkpoints").join(name);
    if dir.is_dir() { Ok(dir) } else { Err(refuse(format!("names {name}, which is not there"))) }
}

/// The checkpoint at `path`: itself, or the newest one if it is a run folder.
///
/// # Errors
/// When it is a run folder without a checkpoint.
pub fn locate(path: &Path) -> Result<PathBuf, CheckpointError> {
    let is_run = !path.join(CONFIG_FILE).exists() && path.join("latest").exists();
    if is_run { latest(path) } else { Ok(path.to_owned()) }
}
