//! What a run starts from besides its run file: the folder of `train.init_from`, and the tokenizer.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use checkpoint::{Checkpoint, hash};
use config::{Model, ModelConfig, RunFile, TokenizerKind};
use data::Tokenizer;

use crate::folder::Start;

/// A checkpoint or Hugging Face folder whose shape, tokenizer and weights a run takes over.
pub struct Origin {
    checkpoint: Checkpoint,
    config: ModelConfig,
}

impl Origin {
    /// The folder that the run file names, if it names one. A run that goes on has all that it
    /// needs in its own checkpoint, unless that was trained with LoRA: then the weights that it
    /// adapts are still those of the folder.
    ///
    /// # Errors
    /// When there is no model in the folder, or `[model]` asks for another one.
    pub fn open(run_file: &RunFile, start: &Start) -> anyhow::Result<Option<Self>> {
        let Some(init_from) = &run_file.train.init_from else { return Ok(None) };
        let dir = match start {
            Start::Resume(checkpoint) if run_file.lora.rank == 0 => checkpoint.clone(),
            _ => checkpoint::locate(init_from)?,
        };
        let checkpoint = Checkpoint::open(&dir).context("train.init_from")?;
        let config = ModelConfig { dropout: run_file.model.dropout, ..checkpoint.config().clone() };
        if let Some(objection) = config.training_objection() {
            bail!("train.init_from: {} has {objection}", dir.display());
        }
        require_agreement(&run_file.model, &config, &dir)?;
        let (context, most) = (run_file.data.context, config.context_length);
        ensure!(
            context <= most,
            "data.context = {context}: expected at most {most}, the context length of {}",
            dir.display()
        );
        Ok(Some(Origin { checkpoint, config }))
    }

    /// The shape of the folder's model, with the run file's dropout.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The folder.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// What tells the folder's weights from others, which must be what it was `before`, if it was
    /// anything: adapters are of use with the weights that they were trained for.
    ///
    /// # Errors
    /// When the weights cannot be read, or are others.
    pub fn same_as_before(&self, before: &str) -> anyhow::Result<String> {
        let digest = digest(&self.checkpoint)?;
        ensure!(
            before.is_empty() || before == digest,
            "train.init_from: {} does not hold the weights that this run's adapters were trained for; \
             put those back, or start over with --force",
            self.checkpoint.dir().display()
        );
        Ok(digest)
    }

    fn tokenizer(&self) -> anyhow::Result<Tokenizer> {
        Tokenizer::from_folder(self.checkpoint.dir())
    }
}

/// A key of `[model]` that was set must say what the folder says. One that was left out has its
/// default, and the folder wins.
fn require_agreement(model: &Model, folder: &ModelConfig, dir: &Path) -> anyhow::Result<()> {
    let keys = keys(model).into_iter().zip(keys(&Model::default())).zip(found(folder));
    for (((key, asked), (_, default)), found) in keys {
        ensure!(
            asked == default || asked.as_ref() == Some(&found),
            "model.{key} = {}, but it is {found} in {}, which train.init_from names: leave it out, \
             the model's shape comes from there",
            asked.unwrap_or_default(),
            dir.display()
        );
    }
    Ok(())
}

/// What `[model]` says of a shape, by key; nothing where it leaves that to other keys.
fn keys(model: &Model) -> [(&'static str, Option<String>); 12] {
    let number = |n: usize| Some(n.to_string());
    [
        ("architecture", Some(model.architecture.name().to_owned())),
        ("context_length", number(model.context_length)),
        ("n_layer", number(model.n_layer)),
        ("n_head", number(model.n_head)),
        ("n_kv_head", model.n_kv_head.and_then(number)),
        ("n_embd", number(model.n_embd)),
        ("n_inner", model.n_inner.and_then(number)),
        ("norm_epsilon", Some(model.norm_epsilon.to_string())),
        ("rope_base", Some(model.rope_base.to_string())),
        ("qkv_bias", model.qkv_bias.map(|bias| bias.to_string())),
        ("tie_embeddings", Some(model.tie_embeddings.to_string())),
        ("attention", Some(format!("{:?}", model.attention))),
    ]
}

/// What a folder says, in the order of [`keys`].
fn found(config: &ModelConfig) -> [String; 12] {
    [
        config.architecture.name().to_owned(),
        config.context_length.to_string(),
        config.n_layer.to_string(),
        config.n_head.to_string(),
        config.n_kv_head.to_string(),
        config.n_embd.to_string(),
        config.n_inner.to_string(),
        config.norm_epsilon.to_string(),
        config.rope_base.to_string(),
        config.qkv_bias.to_string(),
        config.tie_embeddings.to_string(),
        format!("{:?}", config.attention),
    ]
}

/// BLAKE3 of a checkpoint's weights.
///
/// # Errors
/// When they cannot be read.
pub fn digest(checkpoint: &Checkpoint) -> anyhow::Result<String> {
    let digest = |path: &Path| {
        let digests = hash::hash_file(path);
        Ok(digests.with_context(|| format!("cannot read {}", path.display()))?.blake3)
    };
    let digests = checkpoint.weights().files().map(digest).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(digests.join(" "))
}

/// The folder whose files beside `tokenizer.json` go along with it, where it came from a folder.
pub fn companions(run_file: &RunFile, origin: Option<&Origin>) -> Option<PathBuf> {
    let folder = || run_file.data.tokenizer_path.clone().filter(|path| path.is_dir());
    let is_foreign = run_file.data.tokenizer == TokenizerKind::HuggingFace;
    origin
        .map(|origin| origin.checkpoint.dir().to_owned())
        .or_else(|| is_foreign.then(folder).flatten())
}

/// The tokenizer of a run. One that is trained on the corpus is trained once: a run that goes on
/// reads it back.
///
/// # Errors
/// When it cannot be read, or be trained on the corpus.
pub fn tokenizer(
    run_file: &RunFile,
    origin: Option<&Origin>,
    start: &Start,
) -> anyhow::Result<Tokenizer> {
    if let Some(origin) = origin {
        return origin.tokenizer();
    }
    let settings = &run_file.data;
    match (settings.tokenizer, start) {
        (TokenizerKind::Gpt2, _) => Tokenizer::gpt2(),
        (TokenizerKind::Simple, _) => data::simple_from_file(&settings.path),
        (TokenizerKind::HuggingFace, _) => {
            let path = settings.tokenizer_path.as_deref().unwrap_or(Path::new("."));
            Tokenizer::open(path).context("data.tokenizer_path")
        }
        (TokenizerKind::Trained, Start::Resume(checkpoint)) => Tokenizer::from_folder(checkpoint),
        (TokenizerKind::Trained, Start::Fresh) => {
            data::train_tokenizer(&settings.path, settings.vocab_size)
        }
    }
}
