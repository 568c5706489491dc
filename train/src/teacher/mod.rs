//! The predictions that a run learns besides its text or instead of it: those of another model, or what
//! was recorded of them.

mod record;
mod recorded;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use burn::tensor::Device;
use checkpoint::names::{self, TensorName};
use checkpoint::{Checkpoint, TrainerState, Vocabulary, gguf_config, hash, locate, open_source};
use config::{ModelConfig, RunFile};
use gguf::{GgufParts, TensorSource};
use kernels::Distillation;
use model::Model;

pub use self::record::{RecordReport, record};
pub use self::recorded::Recorded;

use crate::corpus::Corpus;
use crate::init_from;

/// What the steps of a run learn.
#[derive(Clone, Copy)]
pub enum Lessons<'a> {
    /// The predictions of a model outside of any graph.
    Model(&'a Model),
    /// Recorded ones.
    Recorded(&'a Recorded),
}

/// A teacher, and how it is heard.
pub struct Teacher {
    settings: Distillation,
    digest: String,
    source: Source,
}

enum Source {
    Model(Box<TeacherModel>),
    Recorded(Recorded),
}

impl Teacher {
    /// Opens what `[train.teacher]` names, if it is there, for a student of `config` with the tokenizer
    /// `tokenizer_json`. A resumed run has the digest of its teacher in `state`.
    ///
    /// # Errors
    /// When there is neither a model nor a recording, it does not fit the student or its windows, or
    /// it is not the one that the run began with.
    pub fn open(
        run_file: &RunFile,
        config: &ModelConfig,
        tokenizer_json: &str,
        corpus: &Corpus,
        state: &TrainerState,
    ) -> anyhow::Result<Option<Self>> {
        let Some(teacher) = &run_file.train.teacher else { return Ok(None) };
        let settings = Distillation { share: teacher.share, temperature: teacher.temperature };
        let (name, source, digest) = match (&teacher.recorded, &teacher.model) {
            (Some(path), _) => {
                let recorded =
                    Recorded::open(path, corpus, config.vocab_size, settings.temperature)
                        .context("train.teacher.recorded")?;
                let digest = digest_of(path)?;
                (path, Source::Recorded(recorded), digest)
            }
            (None, Some(path)) => {
                let window = run_file.data.context;
                let model = TeacherModel::open(path, config, tokenizer_json, window)?;
                let digest = model.digest()?;
                (path, Source::Model(Box::new(model)), digest)
            }
            (None, None) => bail!("train.teacher names neither a model nor a recording"),
        };
        ensure!(
            state.teacher.is_empty() || state.teacher == digest,
            "train.teacher: {} is not what this run has learned from; put that one back, or start over \
             with --force",
            name.display()
        );
        Ok(Some(Teacher { settings, digest, source }))
    }

    /// The digest of its weights or of its recording.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How it is heard.
    pub fn settings(&self) -> Distillation {
        self.settings
    }

    /// Reads the weights of a model, once.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn wake(&mut self, device: &Device) -> anyhow::Result<()> {
        match &mut self.source {
            Source::Model(model) => model.load(device).map(|_| ()),
            Source::Recorded(_) => Ok(()),
        }
    }

    /// What it says; `None` before its weights have been read.
    pub fn lessons(&self) -> Option<Lessons<'_>> {
        match &self.source {
            Source::Model(model) => model.loaded.as_ref().map(Lessons::Model),
            Source::Recorded(recorded) => Some(Lessons::Recorded(recorded)),
        }
    }
}

/// A model as a teacher: any file or folder that holds one.
struct TeacherModel {
    path: PathBuf,
    source: Box<dyn TensorSource>,
    config: ModelConfig,
    loaded: Option<Model>,
}

impl TeacherModel {
    /// Opens the model at `path` for a student of `config` that reads windows of `window` tokens.
    ///
    /// # Errors
    /// When there is none, its vocabulary is another one, it cannot be computed here, or it sees less
    /// than a window.
    fn open(
        path: &Path,
        config: &ModelConfig,
        tokenizer_json: &str,
        window: usize,
    ) -> anyhow::Result<Self> {
        let name = path.display();
        let open = || {
            let source = open_source(path)?;
            let its = gguf_config(source.as_ref())?;
            Ok::<_, anyhow::Error>((source, its))
        };
        let (source, its) = open().with_context(|| format!("train.teacher.model: {name}"))?;
        if let Some(objection) = its.training_objection() {
            bail!("train.teacher.model: {name} has {objection}");
        }
        let tokens = Vocabulary::from_gguf(source.metadata())
            .with_context(|| format!("train.teacher.model: the tokenizer of {name}"))?
            .tokens;
        if let Some(difference) = difference(&Vocabulary::parse(tokenizer_json)?.tokens, &tokens) {
            bail!(
                "train.teacher.model: {name} has another vocabulary: {difference}; a teacher's \
                 predictions are learned token by token"
            );
        }
        ensure!(
            its.vocab_size == config.vocab_size,
            "train.teacher.model: {name} predicts {} tokens, and this model {}; a teacher's predictions \
             are learned token by token, so it needs the same vocabulary",
            its.vocab_size,
            config.vocab_size
        );
        let sees = its.context_length;
        ensure!(
            window <= sees,
            "train.teacher.model: {name} sees {sees} tokens, and a window has {window}; expected \
             data.context to be at most {sees}"
        );
        Ok(TeacherModel { path: path.to_owned(), source, config: its, loaded: None })
    }

    /// BLAKE3 of the weights.
    fn digest(&self) -> anyhow::Result<String> {
        match self.path.is_dir() {
            true => init_from::digest(&Checkpoint::open(&locate(&self.path)?)?),
            false => {
                let parts = GgufParts::open(&self.path)?;
                let digests = parts.files().iter().map(|file| digest_of(file.path()));
                Ok(digests.collect::<anyhow::Result<Vec<_>>>()?.join(" "))
            }
        }
    }

    /// The model, read once.
    fn load(&mut self, device: &Device) -> anyhow::Result<&Model> {
        let model = match self.loaded.take() {
            Some(model) => model,
            None => self
                .read(&device.clone().inner())
                .with_context(|| format!("train.teacher.model: {}", self.path.display()))?,
        };
        Ok(self.loaded.insert(model))
    }

    fn read(&self, device: &Device) -> anyhow::Result<Model> {
        let rows: std::collections::HashMap<String, TensorName> = names::tensors(&self.config)
            .into_iter()
            .filter(TensorName::in_model)
            .map(|row| (row.burn.clone(), row))
            .collect();
        Model::load(&self.config, device, |path, _| {
            let row =
                rows.get(path).with_context(|| format!("{path} is in no file of this model"))?;
            let tensor = self.source.tensor(&row.gguf)?;
            let values = gguf::read_f32(self.source.as_ref(), tensor)?;
            self.source.release(tensor);
            Ok(row.burn_from_gguf(values))
        })
    }
}

/// The first token of `ours` that a teacher's vocabulary has not at the same place; it may have more.
fn difference(ours: &[String], its: &[String]) -> Option<String> {
    let at = (0..ours.len()).find(|&at| its.get(at) != Some(&ours[at]))?;
    Some(match its.get(at) {
        Some(its) => format!("token {at} is {its:?} there and {:?} here", ours[at]),
        None => format!("it has {} tokens, and this model {}", its.len(), ours.len()),
    })
}

fn digest_of(path: &Path) -> anyhow::Result<String> {
    let digests = hash::hash_file(path);
    Ok(digests.with_context(|| format!("cannot read {}", path.display()))?.blake3)
}
