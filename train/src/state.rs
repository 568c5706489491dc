//! Checkpoints of a run: writes, marks as latest, removes and reads them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use burn::tensor::Device;
use checkpoint::atomic;
use checkpoint::lora::AdapterSettings;
use checkpoint::{
    AdapterContents, Checkpoint, CheckpointContents, CheckpointError, Golden, HuggingFaceFiles,
    TrainerState, names,
};
use config::{Lora, ModelConfig, RunFile};
use kernels::random;
use model::{Model, lora};

use crate::Prospect;
use crate::folder::{RunFolder, write_text};
use crate::init_from::InitialModel;
use crate::optimizer::Optimizer;
use crate::tensors::{self, Reader, View};

/// What the tokens come from, as the run file says it.
fn texts_of(data: &config::Data) -> String {
    match data.source.is_empty() {
        true => format!("data.path = {}", data.path),
        false => "[[data.source]]".to_owned(),
    }
}

/// The contents of a checkpoint.
pub struct Snapshot<'a> {
    /// The weights.
    pub model: &'a Model,
    /// Its state.
    pub optimizer: &'a Optimizer,
    /// The position in the training.
    pub trainer: &'a TrainerState,
    /// The text of `tokenizer.json`.
    pub tokenizer_json: &'a str,
    /// Logits to compare with, in the last checkpoint.
    pub golden: Option<&'a Golden>,
    /// Settings of the adapters and of the model that they adapt; rank 0 if there are none.
    pub lora: &'a Lora,
    /// The folder that the tokenizer came from, whose other files are copied.
    pub tokenizer_folder: Option<&'a Path>,
    /// The folder of `train.init_from`.
    pub init_from: Option<&'a Path>,
}

/// Writes `checkpoints/step-N`, points `latest` at it, then removes all but the newest `keep`.
///
/// # Errors
/// When the checkpoint cannot be written; the earlier ones still exist then.
pub fn save(folder: &RunFolder, snapshot: &Snapshot<'_>, keep: usize) -> anyhow::Result<PathBuf> {
    let name = format!("step-{:06}", snapshot.trainer.step);
    let dir = folder.checkpoints().join(&name);
    let (config, lora) = (snapshot.model.config(), snapshot.lora);
    let trained = tensors::trained(config, lora);
    let settings = AdapterSettings {
        rank: lora.rank,
        alpha: lora.alpha,
        rslora: lora.rslora,
        dropout: lora.dropout,
        base_model: snapshot.init_from.unwrap_or(Path::new("")).display().to_string(),
    };
    let adapters = (lora.rank > 0).then(|| View::adapters(snapshot.model, &trained));
    checkpoint::save_adapted(
        &dir,
        CheckpointContents {
            config,
            weights: &View::weights(snapshot.model),
            tokenizer_json: snapshot.tokenizer_json,
            tokenizer_folder: snapshot.tokenizer_folder,
            optimizer: Some(&View::optimizer(&trained, snapshot.optimizer)),
            trainer: snapshot.trainer,
            golden: snapshot.golden,
        },
        adapters.as_ref().map(|tensors| AdapterContents { settings: &settings, tensors }),
    )
    .with_context(|| format!("cannot write the checkpoint {}", dir.display()))?;
    write_text(&folder.latest(), &format!("{name}\n"))?;
    prune(&folder.checkpoints(), snapshot.trainer.step, keep);
    Ok(dir)
}

/// Tries to save a run before its first step, without writing to the disk.
///
/// # Errors
/// When its checkpoints could not be written, for whatever reason.
pub fn rehearse(folder: &RunFolder, model: &Model, prospect: &Prospect<'_>) -> anyhow::Result<()> {
    let files = HuggingFaceFiles {
        config: prospect.config,
        weights: &View::weights(model),
        tokenizer_json: Some(prospect.tokenizer_json),
        tokenizer_folder: prospect.tokenizer_folder,
    };
    checkpoint::rehearse_save(folder.root(), files).with_context(|| {
        format!("a checkpoint of this run cannot be saved in {}", folder.root().display())
    })
}

/// Refuses a run whose checkpoints do not fit on the disk.
///
/// # Errors
/// When there is not enough space; the error gives both sizes.
pub fn require_room(
    folder: &RunFolder,
    prospect: &Prospect<'_>,
    overwrite: bool,
) -> anyhow::Result<()> {
    let Some(free) = atomic::available_space(folder.root()) else { return Ok(()) };
    // The existing checkpoints are removed first in this case.
    let freed = if overwrite { size_of(&folder.checkpoints()) } else { 0 };
    let config = prospect.config;
    let elements =
        |rows: &[names::TensorName]| rows.iter().map(|row| row.elements()).sum::<usize>();
    let weights = elements(&names::tensors(config));
    let trained = elements(&tensors::trained(config, &prospect.run_file.lora));
    // F32: the weights, and two moments of what is trained.
    let needed = 4 * (weights + 2 * trained) as u64;
    ensure!(
        needed <= free.saturating_add(freed),
        "{}: a checkpoint of this run takes {}, and the disk has {} left; make room, or choose \
         another disk with --set run.dir=FOLDER",
        folder.root().display(),
        cli::bytes(needed),
        cli::bytes(free.saturating_add(freed))
    );
    Ok(())
}

/// Bytes of all files below a folder; 0 where it cannot be read.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size_of(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Removes all but the newest `keep` checkpoints up to the step `latest`, and the leftovers of
/// killed processes. Checkpoints of later steps stay: a run that was set back to an earlier step
/// reaches them again. If a checkpoint cannot be removed, training goes on and the next save tries
/// again.
fn prune(checkpoints: &Path, latest: u64, keep: usize) {
    remove_leftovers(checkpoints);
    let mut steps = steps(checkpoints);
    steps.retain(|(step, _)| *step <= latest);
    let surplus = steps.len().saturating_sub(keep);
    for (_, name) in &steps[..surplus] {
        // Renamed first, so that a reader never finds a partial checkpoint.
        let removed = checkpoints.join(format!("{REMOVED}{name}"));
        if fs::rename(checkpoints.join(name), &removed).is_ok() {
            fs::remove_dir_all(&removed).ok();
        }
    }
}

/// Removes what processes that were killed have left of files and of checkpoints in their removal, in
/// a run folder whose lock is held.
pub fn remove_all_leftovers(folder: &RunFolder) {
    atomic::remove_leftovers(folder.root());
    remove_leftovers(&folder.checkpoints());
}

fn remove_leftovers(checkpoints: &Path) {
    atomic::remove_leftovers(checkpoints);
    for name in names_in(checkpoints).filter(|name| name.starts_with(REMOVED)) {
        fs::remove_dir_all(checkpoints.join(name)).ok();
    }
}

/// The checkpoints in a folder by step, oldest first; empty if it cannot be read.
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

/// Prefix of the name of a checkpoint that is being removed.
const REMOVED: &str = ".removed-";

/// The contents of a restored checkpoint.
pub struct Restored {
    /// The weights.
    pub model: Model,
    /// Its state.
    pub optimizer: Optimizer,
    /// The position in the training.
    pub trainer: TrainerState,
}

/// The model before its first step: newly initialized, or that of `train.init_from`, with new
/// adapters if the run file asks for them.
///
/// # Errors
/// When the folder's weights cannot be read.
pub fn begin(
    run_file: &RunFile,
    config: &ModelConfig,
    initial: Option<&InitialModel>,
    device: &Device,
) -> anyhow::Result<Model> {
    let seed = |what: &str| random::derive_named(run_file.run.seed, what);
    let Some(initial) = initial else {
        return Ok(Model::init(config, run_file.train.initialization, seed("weights"), device));
    };
    let model = load_grown(config, initial, device)?;
    adapted(model, &run_file.lora, |path, shape| {
        Ok(lora::initial_values(seed("adapters"), path, shape))
    })
}

/// The model of `initial`, with the rows that `config` has more in the embedding and the head: the
/// mean of the others, so that a new token is neither likely nor unlikely before it is learned
/// (Hewitt, "Initializing New Word Embeddings for Pretrained Language Models", 2021).
fn load_grown(
    config: &ModelConfig,
    initial: &InitialModel,
    device: &Device,
) -> anyhow::Result<Model> {
    let before = initial.config();
    let reader = Reader::new(names::tensors(before), initial.checkpoint().weights());
    let (rows, new) = (before.vocab_size, config.vocab_size - before.vocab_size);
    Ok(Model::load(config, device, |path, shape| {
        let values = reader.weight(path)?;
        Ok::<_, CheckpointError>(match *shape {
            _ if new == 0 => values,
            // The embedding `[V, C]`.
            [all, _] if path.starts_with("wte") && all == config.vocab_size => {
                with_mean_rows(values, rows, new)
            }
            // The head `[C, V]`.
            [width, all] if path.starts_with("lm_head") && all == config.vocab_size => {
                let grown = with_mean_rows(checkpoint::transpose(&values, width, rows), rows, new);
                checkpoint::transpose(&grown, all, width)
            }
            _ => values,
        })
    })?)
}

/// A matrix of `rows` rows with `new` more, each the mean of the others.
fn with_mean_rows(mut values: Vec<f32>, rows: usize, new: usize) -> Vec<f32> {
    let width = values.len() / rows.max(1);
    let column = |at: usize| values.iter().skip(at).step_by(width).map(|&x| f64::from(x));
    let mean: Vec<f32> =
        (0..width).map(|at| (column(at).sum::<f64>() / rows as f64) as f32).collect();
    values.extend(mean.repeat(new));
    values
}

/// Reads the checkpoint `dir` of a run of `config` on tokens with the hash `tokens_hash`.
///
/// # Errors
/// When it cannot be read, does not hold a training state, or belongs to another model or text.
pub fn restore(
    dir: &Path,
    run_file: &RunFile,
    config: &ModelConfig,
    initial: Option<&InitialModel>,
    tokens_hash: &str,
    device: &Device,
) -> anyhow::Result<Restored> {
    let checkpoint = Checkpoint::open(dir)?;
    let (Some(trainer), Some(moments)) = (checkpoint.trainer()?, checkpoint.optimizer()?) else {
        bail!("{} holds weights only: training cannot go on from it", dir.display());
    };
    if trainer.tokens_hash != tokens_hash {
        bail!(
            "{} was trained on other tokens than {} gives now: the text or the \
             tokenizer has changed since; put it back as it was, start over with --force, or leave \
             that run alone with --set run.dir=FOLDER",
            dir.display(),
            texts_of(&run_file.data)
        );
    }
    if parameters(checkpoint.config()) != parameters(config) {
        bail!(
            "{} holds a model of another shape than [model] asks for; start over with --force",
            dir.display()
        );
    }
    let trained = tensors::trained(config, &run_file.lora);
    let model = match (checkpoint.adapter()?, initial) {
        (Some(adapter), Some(initial)) => {
            let reader = Reader::new(trained.clone(), adapter.weights());
            let base = load(config, initial.checkpoint(), device)?;
            adapted(base, &run_file.lora, |path, _| Ok(reader.weight(path)?))?
        }
        _ => load(config, &checkpoint, device)?,
    };
    let reader = Reader::new(trained, &moments);
    let settings = run_file.optimizer.clone();
    let read = |path: &str, name: &str| reader.optimizer(path, name);
    let optimizer = Optimizer::restore(settings, &model, trainer.step, read)?;
    Ok(Restored { model, optimizer, trainer })
}

/// The model of a checkpoint; `config` is its shape.
///
/// # Errors
/// When its weights cannot be read.
pub fn load(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    device: &Device,
) -> anyhow::Result<Model> {
    let reader = Reader::new(names::tensors(config), checkpoint.weights());
    Ok(Model::load(config, device, |path, _| reader.weight(path))?)
}

/// The model with adapters, if `lora` asks for any.
fn adapted(
    model: Model,
    lora: &Lora,
    read: impl FnMut(&str, &[usize]) -> anyhow::Result<Vec<f32>>,
) -> anyhow::Result<Model> {
    if lora.rank == 0 { Ok(model) } else { model.with_adapters(lora, read) }
}

/// The configuration without the settings that do not affect the weights.
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
        let left = || {
            let entries = fs::read_dir(folder.path()).unwrap().flatten();
            let mut left: Vec<_> = entries.map(|entry| entry.file_name()).collect();
            left.sort();
            left
        };
        // A run that was set back to step 9 keeps what it has just written.
        prune(folder.path(), 10, 1);
        assert_eq!(left(), ["notes", "step-000010", "step-1000000"]);
        prune(folder.path(), 1_000_000, 2);
        assert_eq!(left(), ["notes", "step-000010", "step-1000000"]);
        prune(folder.path(), 1_000_000, 1);
        assert_eq!(left(), ["notes", "step-1000000"]);
    }
}
