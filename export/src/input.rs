//! The input of an export: a checkpoint, a checkpoint with an adapter merged in, or a model of
//! llama2.c or nanoGPT.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use checkpoint::atomic::Scratch;
use checkpoint::lora::{ADAPTER_FOLDER, Adapter, Merged};
use checkpoint::{
    Checkpoint, CheckpointError, GgufView, HuggingFaceFiles, Tensors, Vocabulary, atomic,
};
use config::ModelConfig;
use gguf::TensorType;

use crate::llama2c::Llama2c;
use crate::nanogpt::NanoGpt;
use crate::single_file;
use crate::tokenizer_file::{NO_TOKENIZER, tokenizer_text};

/// The input of an export, as the user names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Input {
    /// Checkpoint, Hugging Face or run folder, or the file of a llama2.c or nanoGPT model.
    pub path: PathBuf,
    /// The tokenizer of a model in one file, which does not include it; for a folder a tokenizer
    /// that replaces its own, or [`NO_TOKENIZER`].
    pub tokenizer: Option<PathBuf>,
    /// Folder of a LoRA adapter to merge in.
    pub adapter: Option<PathBuf>,
}

impl From<PathBuf> for Input {
    fn from(path: PathBuf) -> Self {
        Input { path, ..Input::default() }
    }
}

impl Input {
    /// Whether to export the model's own tokenizer.
    pub(crate) fn has_own_tokenizer(&self) -> bool {
        let named = self.tokenizer.as_deref();
        named.is_none_or(|name| self.path.is_file() && name.as_os_str() != NO_TOKENIZER)
    }

    /// The model as a GGUF with the tokenizer that the input asks for.
    pub(crate) fn view(
        &self,
        checkpoint: Checkpoint,
        tensor_type: TensorType,
        name: &str,
    ) -> Result<GgufView> {
        match &self.tokenizer {
            Some(path) if !self.has_own_tokenizer() => {
                let is_none = path.as_os_str() == NO_TOKENIZER;
                let other = if is_none { None } else { Some(vocabulary(path)?) };
                Ok(GgufView::with_vocabulary(checkpoint, other, tensor_type, name)?)
            }
            _ => GgufView::new(checkpoint, tensor_type, name).map_err(|error| match error {
                CheckpointError::NoTokenizer { .. } => anyhow::Error::from(error).context(
                    "name one with --tokenizer FILE; with --tokenizer none the GGUF goes without \
                     and runs on token ids only",
                ),
                error => error.into(),
            }),
        }
    }
}

/// The vocabulary of a `tokenizer.json`, or of a folder with the files beside one.
fn vocabulary(path: &Path) -> Result<Vocabulary> {
    let text = tokenizer_text(path)?;
    let vocabulary = match path.is_dir() {
        true => Vocabulary::of_folder(path, &text),
        false => Vocabulary::parse(&text),
    };
    vocabulary.with_context(|| path.display().to_string())
}

/// An [`Input`], opened and checked.
pub(crate) enum Model {
    Checkpoint(Checkpoint),
    Adapted { base: Checkpoint, adapter: Adapter, dir: PathBuf },
    Llama2c(Llama2c),
    NanoGpt(Box<NanoGpt>),
}

impl Model {
    /// Opens the model of `input`.
    pub fn open(input: &Input) -> Result<Self> {
        let Input { path, tokenizer, adapter } = input;
        if path.is_file() {
            ensure!(
                adapter.is_none(),
                "--merge-lora is for a folder, {} is a file",
                path.display()
            );
            if single_file::kind(path)? == single_file::Kind::Torch {
                let model = NanoGpt::open(path, tokenizer.as_deref())?;
                return Ok(Model::NanoGpt(Box::new(model)));
            }
            let Some(tokenizer) =
                tokenizer.as_ref().filter(|name| name.as_os_str() != NO_TOKENIZER)
            else {
                bail!(
                    "{}: a llama2.c model has no tokenizer inside; name it with --tokenizer",
                    path.display()
                )
            };
            return Ok(Model::Llama2c(Llama2c::open(path, tokenizer)?));
        }
        let base = Checkpoint::open(&checkpoint::locate(path)?)?;
        Ok(match adapter {
            None => Model::Checkpoint(base),
            Some(dir) => {
                ensure!(
                    !base.dir().join(ADAPTER_FOLDER).exists(),
                    "{} has an adapter merged in already; name the model that it was trained from, \
                     or leave --merge-lora out",
                    path.display()
                );
                let adapter = Adapter::open(dir, base.config())
                    .with_context(|| format!("cannot merge {}", dir.display()))?;
                Model::Adapted { base, adapter, dir: dir.clone() }
            }
        })
    }

    /// The folder of the model, if it is in one.
    fn folder(&self) -> Option<&Checkpoint> {
        match self {
            Model::Checkpoint(base) | Model::Adapted { base, .. } => Some(base),
            Model::Llama2c(_) | Model::NanoGpt(_) => None,
        }
    }

    /// The default name of the model.
    pub fn default_name(&self) -> String {
        match self {
            Model::Checkpoint(base) => base.default_name(),
            Model::Adapted { dir, base, .. } => match dir.file_name() {
                Some(adapter) => format!("{}-{}", base.default_name(), adapter.to_string_lossy()),
                None => base.default_name(),
            },
            Model::Llama2c(model) => model.name(),
            Model::NanoGpt(model) => model.name(),
        }
    }

    /// The default path of a GGUF: in `RUN/gguf` for a checkpoint of a run, otherwise beside the
    /// input.
    pub fn default_folder(&self) -> PathBuf {
        let beside = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
        match self {
            Model::Llama2c(model) => beside(model.path()),
            Model::NanoGpt(model) => beside(model.path()),
            Model::Checkpoint(base) | Model::Adapted { base, .. } => match base.run_dir() {
                Some(run) => run.join("gguf"),
                None => beside(base.dir()),
            },
        }
    }

    /// Refuses an output that would replace a part of the input.
    pub fn check_output_file(&self, output: &Path) -> Result<()> {
        if let Some(base) = self.folder() {
            ensure!(
                !base.consists_of(output),
                "{} is part of the checkpoint itself; name another --output",
                output.display()
            );
        }
        let is_input = match self {
            Model::Llama2c(model) => model.consists_of(output),
            Model::NanoGpt(model) => model.consists_of(output),
            Model::Checkpoint(_) | Model::Adapted { .. } => false,
        };
        ensure!(
            !is_input,
            "{} is part of the model itself; name another --output",
            output.display()
        );
        Ok(())
    }

    /// Writes the model as a folder that `transformers` loads, with its own tokenizer if it has one
    /// and `with_tokenizer` asks for it.
    pub fn save_hugging_face(
        &self,
        output: &Path,
        overwrite: bool,
        with_tokenizer: bool,
    ) -> Result<()> {
        if let Some(base) = self.folder() {
            atomic::ensure_outside(base.dir(), output)?;
        }
        let tokenizer_json = if with_tokenizer { self.tokenizer_json()? } else { None };
        let merged;
        let weights: &dyn Tensors = match self {
            Model::Checkpoint(base) => base.weights(),
            Model::Adapted { base, adapter, .. } => {
                merged = Merged::new(base, adapter);
                &merged
            }
            Model::Llama2c(model) => model,
            Model::NanoGpt(model) => model.as_ref(),
        };
        let files = HuggingFaceFiles {
            config: self.config(),
            weights,
            tokenizer_json: tokenizer_json.as_deref(),
            tokenizer_folder: self.folder().map(Checkpoint::dir),
        };
        Ok(checkpoint::save_hugging_face(output, overwrite, files)?)
    }

    /// The model as a checkpoint, to be exported to `output`. A model in another format is first
    /// written to a folder that exists as long as the returned guard.
    pub fn into_checkpoint(
        self,
        output: &Path,
        overwrite: bool,
        with_tokenizer: bool,
    ) -> Result<(Checkpoint, Option<Scratch>)> {
        if let Model::Checkpoint(checkpoint) = self {
            return Ok((checkpoint, None));
        }
        let scratch = atomic::scratch_for(output, overwrite)?;
        let folder = scratch.path().join("model");
        self.save_hugging_face(&folder, false, with_tokenizer)?;
        Ok((Checkpoint::open(&folder)?, Some(scratch)))
    }

    fn config(&self) -> &ModelConfig {
        match self {
            Model::Checkpoint(base) | Model::Adapted { base, .. } => base.config(),
            Model::Llama2c(model) => model.config(),
            Model::NanoGpt(model) => model.config(),
        }
    }

    fn tokenizer_json(&self) -> Result<Option<String>> {
        match self {
            Model::Checkpoint(base) | Model::Adapted { base, .. } => {
                Ok(checkpoint::tokenizer_json(base.dir())?)
            }
            Model::Llama2c(model) => Ok(Some(model.tokenizer_json().to_owned())),
            Model::NanoGpt(model) => Ok(model.tokenizer_json().map(str::to_owned)),
        }
    }
}
