//! The run folder: where each file lies, and whether a run begins, goes on or is refused.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use checkpoint::atomic::{self, AtomicError};
use config::RunFile;

use crate::{Options, state};

/// Paths in a run folder.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
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
const OURS: [&str; 13] = [
    "config.toml",
    "tokens.bin",
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

impl RunFolder {
    /// The run folder of a run file, and where the run starts; nothing in it is removed yet.
    ///
    /// # Errors
    /// When the folder is somebody else's, holds another run and `options` does not say what to
    /// do with it, has nothing to go on from though `options` asks for that, or cannot be made.
    pub fn open(run_file: &RunFile, options: &Options) -> anyhow::Result<(Self, Start)> {
        let folder = RunFolder { root: run_file.run.dir.clone() };
        fs::create_dir_all(&folder.root).with_context(|| {
            format!(
                "cannot make the run folder {}; choose another with --set run.dir=FOLDER",
                folder.root.display()
            )
        })?;
        folder.require_ours()?;
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
        let checkpoints = self.checkpoints();
        fs::create_dir_all(&checkpoints)
            .with_context(|| format!("cannot make the folder {}", checkpoints.display()))?;
        let text = run_file.to_toml().context("cannot write the run file as TOML")?;
        write_text(&self.config(), &text)
    }

    /// Refuses a folder whose files are not a run's.
    fn require_ours(&self) -> anyhow::Result<()> {
        if [self.metrics(), self.latest(), self.checkpoints()].iter().any(|path| path.exists()) {
            return Ok(());
        }
        let entries = fs::read_dir(&self.root)
            .with_context(|| format!("cannot read the folder {}", self.root.display()))?;
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let stranger = names
            .filter(|name| !name.starts_with('.') && !OURS.contains(&name.as_str()))
            .min()
            .or_else(|| {
                let is_strange =
                    self.config().exists() && RunFile::load(&self.config(), &[]).is_err();
                is_strange.then(|| "a config.toml that is no run file".to_owned())
            });
        match stranger {
            None => Ok(()),
            Some(name) => bail!(
                "{} holds {name} and no run: choose an empty folder with --set run.dir=FOLDER",
                self.root.display()
            ),
        }
    }

    fn start(&self, run_file: &RunFile, options: &Options) -> anyhow::Result<Start> {
        let checkpoint = self.last_checkpoint()?;
        if checkpoint.is_none() && options.resume {
            bail!("{} holds no checkpoint to go on from: leave --resume out", self.root.display());
        }
        // Refused before its first step, or stopped before its first checkpoint: nothing is lost.
        let Some(checkpoint) = checkpoint else { return Ok(Start::Fresh) };
        let saved = RunFile::load(&self.config(), &[])
            .with_context(|| format!("{} holds a run; --force starts over", self.root.display()))?;
        if options.resume
            && let Some(key) = changed_essence(&saved, run_file)
        {
            bail!(
                "{}: {key} differs from the run that is there, and a resumed run cannot change \
                 it; set it back, or start over with --force",
                self.root.display()
            );
        }
        if !options.resume && !same_training(&saved, run_file) {
            bail!(
                "{} holds a run with other settings; --resume goes on with the new ones, --force \
                 starts over, --set run.dir=FOLDER leaves it alone",
                self.root.display()
            );
        }
        Ok(Start::Resume(checkpoint))
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
        for file in [self.metrics(), self.samples(), self.chart(), self.tokens(), self.config()] {
            gone(&file, fs::remove_file(&file))?;
        }
        gone(&removed, fs::remove_dir_all(&removed))
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
        out.write_all(text.as_bytes())
            .map_err(|source| AtomicError::Write { path: path.to_owned(), source })
    })?;
    Ok(())
}

/// Whether two run files train the same; what later stages do may differ.
fn same_training(a: &RunFile, b: &RunFile) -> bool {
    changed_essence(a, b).is_none()
        && a.device == b.device
        && a.train == b.train
        && a.optimizer == b.optimizer
        && a.schedule == b.schedule
        // Rounding starts from what export writes.
        && (a.train.qat.is_none() || a.export.tensor_type == b.export.tensor_type)
}

/// The first key that a resumed run cannot change: what the weights' shapes, the batches and
/// their order follow from.
fn changed_essence(a: &RunFile, b: &RunFile) -> Option<&'static str> {
    let same = [
        ("run.seed", a.run.seed == b.run.seed),
        ("[model]", a.model == b.model),
        ("[data]", a.data == b.data),
        ("train.init_from", a.train.init_from == b.train.init_from),
        ("[lora]", a.lora == b.lora),
        ("train.batch_size", a.train.batch_size == b.train.batch_size),
        (
            "train.gradient_accumulation",
            a.train.gradient_accumulation == b.train.gradient_accumulation,
        ),
    ];
    same.into_iter().find(|(_, same)| !same).map(|(key, _)| key)
}
