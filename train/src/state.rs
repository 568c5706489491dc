//! Checkpoints of a run: writing one, naming it the latest, removing old ones, reading one back.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::tensor::Device;
use checkpoint::{Checkpoint, CheckpointContents, Golden, TrainerState};
use config::{ModelConfig, RunFile};
use model::Model;

use crate::folder::{RunFolder, write_text};
use crate::optimizer::Optimizer;
use crate::tensors::{Reader, View};

/// What a checkpoint is made from.
pub struct Snapshot<'a> {
    /// The weights.
    pub model: &'a Model,
    /// The moments.
    pub optimizer: &'a Optimizer,
    /// Where training stands.
    pub trainer: &'a TrainerState,
    /// The text of `tokenizer.json`.
    pub tokenizer_json: &'a str,
    /// Logits to compare with, in the last checkpoint.
    pub golden: Option<&'a Golden>,
}

/// Writes `checkpoints/step-N`, points `latest` at it, then removes all but the newest `keep`.
///
/// # Errors
/// When the checkpoint cannot be written; the ones before it are still there then.
pub fn save(folder: &RunFolder, snapshot: &Snapshot<'_>, keep: usize) -> anyhow::Result<PathBuf> {
    let name = format!("step-{:06}", snapshot.trainer.step);
    let dir = folder.checkpoints().join(&name);
    let config = snapshot.model.config();
    checkpoint::save(
        &dir,
        CheckpointContents {
            config,
            weights: &View::weights(snapshot.model),
            tokenizer_json: snapshot.tokenizer_json,
            optimizer: Some(&View::moments(config, snapshot.optimizer)),
            trainer: snapshot.trainer,
            golden: snapshot.golden,
        },
    )
    .with_context(|| format!("cannot write the checkpoint {}", dir.display()))?;
    write_text(&folder.latest(), &format!("{name}\n"))?;
    prune(&folder.checkpoints(), keep);
    Ok(dir)
}

/// Removes all but the newest `keep` checkpoints, and what killed processes left. One that
/// cannot be removed is no reason to stop training: the next save tries again.
fn prune(checkpoints: &Path, keep: usize) {
    for name in names_in(checkpoints).filter(|name| name.starts_with(REMOVED)) {
        fs::remove_dir_all(checkpoints.join(name)).ok();
    }
    let steps = steps(checkpoints);
    let surplus = steps.len().saturating_sub(keep);
    for (_, name) in &steps[..surplus] {
        // Out of sight first, so that a reader never finds half a checkpoint.
        let removed = checkpoints.join(format!("{REMOVED}{name}"));
        if fs::rename(checkpoints.join(name), &removed).is_ok() {
            fs::remove_dir_all(&removed).ok();
        }
    }
}

/// The checkpoints in a folder by step, oldest first; none where it cannot be read.
pub fn steps(checkpoints: &Path) -> Vec<(u64, String)> {
    let number = |name: &str| name.strip_prefix("step-")?.parse().ok();
    let mut steps: Vec<(u64, String)> =
        names_in(checkpoints).filter_map(|name| Some((number(&name)?, name))).collect();
    steps.sort();
    steps
}

fn names_in(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// Begins the name of a checkpoint that is being removed.
const REMOVED: &str = ".removed-";

/// What a checkpoint gives back.
pub struct Restored {
    /// The weights.
    pub model: Model,
    /// The moments.
    pub optimizer: Optimizer,
    /// Where training stood.
    pub trainer: TrainerState,
}

/// Reads the checkpoint `dir` of a run of `config` on tokens with the hash `tokens_hash`.
///
/// # Errors
/// When it cannot be read, holds no state of training, or belongs to another model or text.
pub fn restore(
    dir: &Path,
    run_file: &RunFile,
    config: &ModelConfig,
    tokens_hash: &str,
    device: &Device,
) -> anyhow::Result<Restored> {
    let checkpoint = Checkpoint::open(dir)?;
    let (Some(trainer), Some(moments)) = (checkpoint.trainer()?, checkpoint.optimizer()?) else {
        bail!("{} holds weights only: training cannot go on from it", dir.display());
    };
    if trainer.tokens_hash != tokens_hash {
        bail!(
            "{} was trained on another text or with another tokenizer; start over with --force",
            dir.display()
        );
    }
    if parameters(checkpoint.config()) != parameters(config) {
        bail!(
            "{} holds a model of another shape than [model] asks for; start over with --force",
            dir.display()
        );
    }
    let reader = Reader::new(config, checkpoint.weights());
    let model = Model::load(config, device, |path, _| reader.weight(path))?;
    let reader = Reader::new(config, &moments);
    let settings = run_file.optimizer.clone();
    let optimizer =
        Optimizer::restore(settings, &model, trainer.step, |path| reader.moments(path))?;
    Ok(Restored { model, optimizer, trainer })
}

/// The configuration without what the weights do not depend on.
fn parameters(config: &ModelConfig) -> ModelConfig {
    ModelConfig { dropout: 0.0, ..config.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pruning_keeps_the_newest_and_what_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["step-000009", "step-000010", "step-1000000", "notes", ".removed-step-000001"]
        {
            fs::create_dir_all(folder.path().join(name).join("inner")).unwrap();
        }
        prune(folder.path(), 2);
        let entries = fs::read_dir(folder.path()).unwrap().flatten();
        let mut left: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, ["notes", "step-000010", "step-1000000"]);
    }
}
