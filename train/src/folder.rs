//! The run folder: where each file lies, and whether a run begins, goes on or is refused.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use checkpoint::RunLock;
use checkpoint::atomic::{self, AtomicError};
use config::{Change, RunFile};

use crate::{Options, state};

/// Paths in a run folder that no other process writes into.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
    _lock: RunLock,
    /// Settings of training that are others than the run that is there has been trained with.
    changes: Vec<Change>,
}

/// Where a run starts from.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// From fresh weights.
    Fresh,
    /// From the checkpoint in this folder.
    Resume(PathBuf),
}

/// Every file and folder that a stage writes into a run folder.
const OURS: [&str; 14] = [
    "config.toml",
    "tokens.bin",
    "reference.safetensors",
    "metrics.jsonl",
    "samples.txt",
    "loss.pdf",
    "latest",
    "checkpoints",
    "stages.json",
    "report.json",
    "gguf",
    "fragments",
    "bundle",
    "bundle.zip",
];

/// Makes the run folder `root` where it is missing, and takes it for this process.
///
/// # Errors
/// When it cannot be made, is somebody else's, or another process works in it.
pub fn claim(root: &Path, command: &str) -> anyhow::Result<RunLock> {
    checkpoint::atomic::create_folders(root).with_context(|| {
        format!(
            "cannot make the run folder {}; choose another with --set run.dir=FOLDER",
            root.display()
        )
    })?;
    require_ours(root)?;
    Ok(RunLock::take(root, command)?)
}

/// Refuses a folder whose files are not a run's.
fn require_ours(root: &Path) -> anyhow::Result<()> {
    if ["metrics.jsonl", "latest", "checkpoints"].iter().any(|name| root.join(name).exists()) {
        return Ok(());
    }
    let entries =
        fs::read_dir(root).with_context(|| format!("cannot read the folder {}", root.display()))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let stranger = names
        .filter(|name| !name.starts_with('.') && !OURS.contains(&name.as_str()))
        .min()
        .or_else(|| {
            let config = root.join("config.toml");
            let is_strange = config.exists() && RunFile::load(&config, &[]).is_err();
            is_strange.then(|| "a config.toml that is no run file".to_owned())
        });
    match stranger {
        None => Ok(()),
        Some(name) => bail!(
            "{} holds {name} and no run: choose an empty folder with --set run.dir=FOLDER",
            root.display()
        ),
    }
}

impl RunFolder {
    /// The run folder of a run file, and where the run starts; nothing in it is removed yet.
    ///
    /// # Errors
    /// When the folder is somebody else's, holds another run and `options` does not say what to
    /// do with it, has nothing to go on from though `options` asks for that, or cannot be made.
    pub fn open(run_file: &RunFile, options: &Options) -> anyhow::Result<(Self, Start)> {
        let root = run_file.run.dir.clone();
        let lock = match &options.lock {
            Some(lock) => lock.clone(),
            None => claim(&root, "train")?,
        };
        let mut folder = RunFolder { root, _lock: lock, changes: Vec::new() };
        let start = match options.overwrite {
            true => Start::Fresh,
            false => folder.start(run_file, options)?,
        };
        Ok((folder, start))
    }

    /// Makes the folder this run's, once nothing speaks against the run any more: what training
    /// left here goes if `overwrite` says so, and the run file is saved.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn begin(&self, run_file: &RunFile, overwrite: bool) -> anyhow::Result<()> {
        if overwrite {
            self.clear()?;
        }
        self.remove_rehearsals();
        let checkpoints = self.checkpoints();
        checkpoint::atomic::create_folders(&checkpoints)
            .with_context(|| format!("cannot make the folder {}", checkpoints.display()))?;
        let text = run_file.to_toml().context("cannot write the run file as TOML")?;
        write_text(&self.config(), &text)
    }

    fn start(&mut self, run_file: &RunFile, options: &Options) -> anyhow::Result<Start> {
        let checkpoint = self.last_checkpoint()?;
        if checkpoint.is_none() && options.resume {
            bail!("{} holds no checkpoint to go on from: leave --resume out", self.root.display());
        }
        // Refused before its first step, or stopped before its first checkpoint: nothing is lost.
        let Some(checkpoint) = checkpoint else { return Ok(Start::Fresh) };
        let saved = RunFile::load(&self.config(), &[])
            .with_context(|| format!("{} holds a run; --force starts over", self.root.display()))?;
        self.changes = saved.training_settings()?.changes(&run_file.training_settings()?);
        // Golden windows are made anew at the end of a run that has others.
        self.changes.retain(|change| change.key != "eval.golden_windows");
        if let Some(change) = self.changes.iter().find(|change| is_fixed(change)) {
            bail!(
                "{} holds a run with other settings: {change}, and a run that has begun cannot \
                 change that; set it back, start over with --force, or leave that run alone with \
                 --set run.dir=FOLDER",
                self.root.display()
            );
        }
        if !options.resume && !self.changes.is_empty() {
            bail!(
                "{} holds a run with other settings: {}; --resume goes on with the new ones, \
                 --force starts over, --set run.dir=FOLDER leaves that run alone",
                self.root.display(),
                list(&self.changes)
            );
        }
        Ok(Start::Resume(checkpoint))
    }

    /// Refuses new settings for a run that has `step` of `total_steps` steps behind it and none left
    /// to use them: its run file would speak of another training than the one that was.
    ///
    /// # Errors
    /// With the settings.
    pub fn require_steps_left(&self, step: u64, total_steps: u64) -> anyhow::Result<()> {
        if self.changes.is_empty() || step < total_steps {
            return Ok(());
        }
        bail!(
            "{} holds a finished run of {step} steps, and no step is left to train with the new \
             settings: {}; set them back, raise train.epochs or train.max_steps, or start over \
             with --force",
            self.root.display(),
            list(&self.changes)
        )
    }

    /// The checkpoint that `latest` names. A process that was killed after writing its first one
    /// has left no `latest`: the first checkpoint alone then is the last one too, and `latest` says
    /// so from now on, before there is a second one.
    fn last_checkpoint(&self) -> anyhow::Result<Option<PathBuf>> {
        if self.latest().exists() {
            let checkpoint = checkpoint::latest(&self.root).with_context(|| {
                format!(
                    "{} is damaged: write the name of a folder in checkpoints into it, or start \
                     over with --force",
                    self.latest().display()
                )
            })?;
            return Ok(Some(checkpoint));
        }
        let mut steps = state::steps(&self.checkpoints());
        steps.retain(|(_, name)| self.checkpoints().join(name).is_dir());
        match steps.as_slice() {
            [] => Ok(None),
            [(_, only)] => {
                write_text(&self.latest(), &format!("{only}\n"))?;
                Ok(Some(self.checkpoints().join(only)))
            }
            [.., (_, newest)] => bail!(
                "{root} holds checkpoints, but {latest} that names the last one is missing: put \
                 it back with `echo {newest} > {latest}`, or start over with --force",
                root = self.root.display(),
                latest = self.latest().display(),
            ),
        }
    }

    /// Removes what training left here, and nothing else. The pointer to the last checkpoint and
    /// the checkpoints' folder go first, so that a process killed half way leaves no part of a
    /// run that looks like a whole one.
    fn clear(&self) -> anyhow::Result<()> {
        gone(&self.latest(), fs::remove_file(self.latest()))?;
        let removed = self.root.join(".removed-checkpoints");
        gone(&removed, fs::remove_dir_all(&removed))?;
        gone(&self.checkpoints(), fs::rename(self.checkpoints(), &removed))?;
        for file in [
            self.metrics(),
            self.samples(),
            self.chart(),
            self.tokens(),
            self.reference(),
            self.config(),
        ] {
            gone(&file, fs::remove_file(&file))?;
        }
        gone(&removed, fs::remove_dir_all(&removed))
    }

    /// Removes what processes left that were killed before their first step. Only one process works
    /// here, and it has had its rehearsal.
    fn remove_rehearsals(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(checkpoint::REHEARSAL_PREFIX) {
                fs::remove_dir_all(entry.path()).ok();
            }
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The resolved run file.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The text as token ids.
    pub fn tokens(&self) -> PathBuf {
        self.root.join("tokens.bin")
    }

    /// The text as token ids, until the run may begin.
    pub fn new_tokens(&self) -> PathBuf {
        self.root.join(".tokens.bin.new")
    }

    /// The log-probabilities of answers before the first step.
    pub fn reference(&self) -> PathBuf {
        self.root.join("reference.safetensors")
    }

    /// One line for each step.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// What the model wrote after each epoch.
    pub fn samples(&self) -> PathBuf {
        self.root.join("samples.txt")
    }

    /// The loss curves.
    pub fn chart(&self) -> PathBuf {
        self.root.join("loss.pdf")
    }

    /// Names the last checkpoint.
    pub fn latest(&self) -> PathBuf {
        self.root.join("latest")
    }

    /// Holds a folder for each checkpoint.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }
}

/// How a removal went; what was not there is gone too.
fn gone(path: &Path, removed: std::io::Result<()>) -> anyhow::Result<()> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a small text file whole or not at all.
pub fn write_text(path: &Path, text: &str) -> anyhow::Result<()> {
    atomic::write_file(path, true, |out| {
        out.write_all(text.as_bytes()).map_err(|source| AtomicError::write(path, source))
    })?;
    Ok(())
}

/// Whether a run that has begun cannot make this change: of what the weights' shapes, the batches
/// and their order follow from, and of what weights are rounded for.
fn is_fixed(change: &Change) -> bool {
    let Change { key, before, after } = change;
    // Only a run with `[train.qat]` reads it; rounding may be added to one that has begun.
    if key == "export.tensor_type" {
        return before.is_some() && after.is_some();
    }
    let sections = ["model.", "data.", "lora."];
    let keys = [
        "run.seed",
        "train.init_from",
        "train.objective",
        "train.batch_size",
        "train.gradient_accumulation",
    ];
    sections.iter().any(|section| key.starts_with(section)) || keys.contains(&key.as_str())
}

/// The first few changes, and how many more there are.
fn list(changes: &[Change]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = changes.iter().take(SHOWN).map(Change::to_string).collect();
    let more = match changes.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" ({more} more)"),
    };
    format!("{}{more}", shown.join(", "))
}
