//! The run folder: where each file lies, and whether a run begins, goes on or is refused.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use checkpoint::atomic::{self, AtomicError};
use config::RunFile;

use crate::Options;

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

impl RunFolder {
    /// Opens the run folder of a run file and decides where to start. The run file is saved as
    /// `config.toml` before anything else happens.
    ///
    /// # Errors
    /// When the folder holds another run and `options` does not say what to do with it, or the
    /// folder cannot be written.
    pub fn open(run_file: &RunFile, options: &Options) -> anyhow::Result<(Self, Start)> {
        let folder = RunFolder { root: run_file.run.dir.clone() };
        fs::create_dir_all(folder.checkpoints()).with_context(|| {
            format!(
                "cannot make the run folder {}; choose another with --set run.dir=FOLDER",
                folder.root.display()
            )
        })?;
        if options.overwrite {
            folder.clear()?;
        }
        let start = folder.start(run_file, options)?;
        let text = run_file.to_toml().context("cannot write the run file as TOML")?;
        write_text(&folder.config(), &text)?;
        Ok((folder, start))
    }

    fn start(&self, run_file: &RunFile, options: &Options) -> anyhow::Result<Start> {
        // With a run file alone, a run was refused before its first step.
        if !self.metrics().exists() && !self.latest().exists() {
            return Ok(Start::Fresh);
        }
        let saved = RunFile::load(&self.config(), &[])
            .with_context(|| format!("{} holds a run; --force starts over", self.root.display()))?;
        let checkpoint = checkpoint::latest(&self.root);
        if let (true, Ok(_), Some(key)) =
            (options.resume, &checkpoint, changed_essence(&saved, run_file))
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
        match checkpoint {
            Ok(checkpoint) => Ok(Start::Resume(checkpoint)),
            // Stopped before its first checkpoint: there is nothing to lose.
            Err(_) if !self.latest().exists() => Ok(Start::Fresh),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what training left here, and nothing else. The pointer to the last checkpoint
    /// goes first, so that a process killed half way leaves no pointer into nothing.
    fn clear(&self) -> anyhow::Result<()> {
        let files = [self.latest(), self.metrics(), self.samples(), self.chart(), self.tokens()];
        let removed = files.iter().map(|file| (file, fs::remove_file(file)));
        let folder = self.checkpoints();
        let removed = removed.chain([(&folder, fs::remove_dir_all(&folder))]);
        for (path, result) in removed.collect::<Vec<_>>() {
            match result {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        fs::remove_file(self.config()).ok();
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))
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
}

/// The first key that a resumed run cannot change: what the weights' shapes, the batches and
/// their order follow from.
fn changed_essence(a: &RunFile, b: &RunFile) -> Option<&'static str> {
    let same = [
        ("run.seed", a.run.seed == b.run.seed),
        ("[model]", a.model == b.model),
        ("[data]", a.data == b.data),
        ("train.batch_size", a.train.batch_size == b.train.batch_size),
        (
            "train.gradient_accumulation",
            a.train.gradient_accumulation == b.train.gradient_accumulation,
        ),
    ];
    same.into_iter().find(|(_, same)| !same).map(|(key, _)| key)
}
