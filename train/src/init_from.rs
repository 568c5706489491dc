//! The inputs of a run besides its run file: the folder of `train.init_from`, and the tokenizer.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use checkpoint::{Checkpoint, hash};
use config::{Model, ModelConfig, RunFile, TokenizerKind};
use data::{Corpus, Tokenizer};

use crate::folder::Start;

/// A checkpoint or Hugging Face folder that a run takes shape, tokenizer and weights from.
pub struct InitialModel {
    checkpoint: Checkpoint,
    config: ModelConfig,
}

impl InitialModel {
    /// Opens the folder that the run file names, if any. A resumed run has everything it needs in
    /// its own checkpoint, unless it trains with LoRA: then the base weights are still read from
    /// the folder.
    ///
    /// # Errors
    /// When the folder does not hold a model, or `[model]` asks for another one.
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
        Ok(Some(InitialModel { checkpoint, config }))
    }

    /// The shape of the folder's model, with the run file's dropout.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The folder.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The digest of the folder's weights, which must equal `before` if that is set: adapters are
    /// only valid for the weights that they were trained with.
    ///
    /// # Errors
    /// When the weights cannot be read, or have another digest.
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

/// A key of `[model]` that is set must agree with the folder. A key that is left out has its
/// default value, and the folder's value is used.
fn require_agreement(model: &Model, folder: &ModelConfig, dir: &Path) -> anyhow::Result<()> {
    for ShapeKey { key, asked, default, found } in shape_keys(model, &Model::default(), folder) {
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

/// One key of `[model]`, as text.
struct ShapeKey {
    key: &'static str,
    /// The value in the run file; `None` if it follows from other keys.
    asked: Option<String>,
    /// The value if the key is left out.
    default: Option<String>,
    /// The value of the folder's model.
    found: String,
}

fn shape_keys(model: &Model, default: &Model, folder: &ModelConfig) -> Vec<ShapeKey> {
    /// A key, and how to read its value from the run file and from a model's shape.
    type Row = (&'static str, fn(&Model) -> Option<String>, fn(&ModelConfig) -> String);
    let rows: [Row; 12] = [
        ("architecture", |m| text(m.architecture.name()), |c| c.architecture.name().to_owned()),
        ("context_length", |m| text(m.context_length), |c| c.context_length.to_string()),
        ("n_layer", |m| text(m.n_layer), |c| c.n_layer.to_string()),
        ("n_head", |m| text(m.n_head), |c| c.n_head.to_string()),
        ("n_kv_head", |m| m.n_kv_head.and_then(text), |c| c.n_kv_head.to_string()),
        ("n_embd", |m| text(m.n_embd), |c| c.n_embd.to_string()),
        ("n_inner", |m| m.n_inner.and_then(text), |c| c.n_inner.to_string()),
        ("norm_epsilon", |m| text(m.norm_epsilon), |c| c.norm_epsilon.to_string()),
        ("rope_base", |m| text(m.rope_base), |c| c.rope_base.to_string()),
        ("qkv_bias", |m| m.qkv_bias.and_then(text), |c| c.qkv_bias.to_string()),
        ("tie_embeddings", |m| text(m.tie_embeddings), |c| c.tie_embeddings.to_string()),
        ("attention", |m| Some(format!("{:?}", m.attention)), |c| format!("{:?}", c.attention)),
    ];
    let keys = rows.into_iter().map(|(key, asked, found)| ShapeKey {
        key,
        asked: asked(model),
        default: asked(default),
        found: found(folder),
    });
    keys.collect()
}

fn text(value: impl ToString) -> Option<String> {
    Some(value.to_string())
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

/// The folder of a tokenizer whose other files are copied with `tokenizer.json`, if it came from a
/// folder.
pub fn tokenizer_folder(run_file: &RunFile, initial: Option<&InitialModel>) -> Option<PathBuf> {
    let folder = || run_file.data.tokenizer_path.clone().filter(|path| path.is_dir());
    let is_foreign = run_file.data.tokenizer == TokenizerKind::HuggingFace;
    initial
        .map(|initial| initial.checkpoint.dir().to_owned())
        .or_else(|| is_foreign.then(folder).flatten())
}

/// The tokenizer of a run. A tokenizer that is trained on the corpus is trained once: a resumed run
/// reads it back.
///
/// # Errors
/// When it cannot be read, or cannot be trained on the corpus.
pub fn tokenizer(
    run_file: &RunFile,
    initial: Option<&InitialModel>,
    start: &Start,
) -> anyhow::Result<Tokenizer> {
    if let Some(initial) = initial {
        return initial.tokenizer();
    }
    let settings = &run_file.data;
    match (settings.tokenizer, start) {
        (TokenizerKind::Gpt2, _) => Tokenizer::gpt2(),
        (TokenizerKind::Simple, _) => data::simple_from_file(&Corpus::of_run_file(settings)?),
        (TokenizerKind::HuggingFace, _) => {
            let path = settings.tokenizer_path.as_deref().unwrap_or(Path::new("."));
            Tokenizer::open(path).context("data.tokenizer_path")
        }
        (TokenizerKind::Trained, Start::Resume(checkpoint)) => Tokenizer::from_folder(checkpoint),
        (TokenizerKind::Trained, Start::Fresh) => {
            data::train_tokenizer(&Corpus::of_run_file(settings)?, settings.vocab_size)
        }
    }
}
