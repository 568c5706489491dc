//! The model whose predictions are learned while weights are rounded.

use anyhow::{Context, ensure};
use burn::tensor::Device;
use checkpoint::{Checkpoint, TrainerState, Vocabulary};
use config::{ModelConfig, RunFile};
use model::Model;

use crate::init_from::digest;
use crate::state;

/// A teacher, whose weights are read when they are first needed.
pub struct Teacher {
    checkpoint: Checkpoint,
    digest: String,
    share: f32,
    model: Option<Model>,
}

impl Teacher {
    /// Opens the model that `train.qat.teacher` names, if any, for a student of `config` with the
    /// tokenizer `tokenizer_json`. A resumed run has the digest of its teacher in `state`.
    ///
    /// # Errors
    /// When the folder does not hold a model, or the model has another vocabulary, has a context
    /// shorter than a window, or is not the teacher that the run began with.
    pub fn open(
        run_file: &RunFile,
        config: &ModelConfig,
        tokenizer_json: &str,
        state: &TrainerState,
    ) -> anyhow::Result<Option<Self>> {
        let Some(qat) = &run_file.train.qat else { return Ok(None) };
        let Some(path) = &qat.teacher else { return Ok(None) };
        let checkpoint =
            Checkpoint::open(&checkpoint::locate(path)?).context("train.qat.teacher")?;
        let (dir, its) = (checkpoint.dir().display(), checkpoint.config());
        let tokens = |json: &str| Ok::<_, anyhow::Error>(Vocabulary::parse(json)?.tokens);
        ensure!(
            its.vocab_size == config.vocab_size
                && tokens(&checkpoint.tokenizer_json()?)? == tokens(tokenizer_json)?,
            "train.qat.teacher: {dir} has another vocabulary than this model; a teacher's \
             predictions are learned token by token"
        );
        let (window, sees) = (run_file.data.context, its.context_length);
        ensure!(
            window <= sees,
            "train.qat.teacher: {dir} sees {sees} tokens, and a window has {window}; expected \
             data.context to be at most {sees}"
        );
        let digest = digest(&checkpoint)?;
        ensure!(
            state.qat_teacher.is_empty() || state.qat_teacher == digest,
            "train.qat.teacher: {dir} is not the model that this run has learned from; put that one \
             back, or start over with --force"
        );
        Ok(Some(Teacher { checkpoint, digest, share: qat.teacher_weight, model: None }))
    }

    /// The digest of its weights.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The weight of its loss next to that of the text, from 0 to 1.
    pub fn share(&self) -> f32 {
        self.share
    }

    /// Reads its weights, once.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn wake(&mut self, device: &Device) -> anyhow::Result<()> {
        if self.model.is_none() {
            let config = self.checkpoint.config();
            let model = state::load(config, &self.checkpoint, &device.clone().inner())
                .with_context(|| {
                    format!("train.qat.teacher: {}", self.checkpoint.dir().display())
                })?;
            self.model = Some(model);
        }
        Ok(())
    }

    /// The model, once its weights have been read.
    pub fn model(&self) -> Option<&Model> {
        self.model.as_ref()
    }
}
