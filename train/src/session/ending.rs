//! The end of a run: stopped by the user, or with its last checkpoint and a report.

use anyhow::Context;
use checkpoint::Checkpoint;
use cli::Interrupted;
use cli::memory::peak_resident;

use super::Session;
use crate::corpus::Split;
use crate::evaluate;
use crate::report::{Losses, Report, median_after_warm_up};

impl Session<'_> {
    /// Ends the session because the user asked to.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        if self.resumed_from.unwrap_or(0) < self.state.step {
            self.save_at_last(None)?;
        }
        self.sync_logs();
        self.progress.finish();
        Err(Interrupted.into())
    }

    /// Writes the log lines that could not be written while the disk was full, and waits for the disk.
    pub(super) fn sync_logs(&mut self) {
        for written in [self.log.sync(), self.samples.sync()] {
            self.note_failure(written);
        }
    }

    /// Writes the last checkpoint, then evaluates, which may take long, and returns the report.
    pub(super) fn finish(mut self) -> anyhow::Result<Report> {
        self.save_with_golden()?;
        self.sync_logs();
        let train = self.evaluate(Split::Train)?;
        let validation = match self.log.lines().last().filter(|_| !self.step_seconds.is_empty()) {
            // Measured after the last step.
            Some(line) => line.validation(),
            None => self.evaluate(Split::Validation)?,
        };
        let after = Losses::of(train, validation);
        self.note_losses(after);
        let step_time = median_after_warm_up(&self.step_seconds);
        Ok(Report {
            run_dir: self.folder.root().to_owned(),
            checkpoint: self.checkpoint.clone().context("no checkpoint was written")?,
            device: self.device.name.to_owned(),
            parameters: self.model()?.config().parameter_count(),
            steps: self.state.step,
            tokens: self.state.tokens,
            resumed_from: self.resumed_from,
            before: self.before,
            after,
            rewards: validation.or(train).and_then(|found| found.rewards),
            wall_s: self.began.elapsed().as_secs_f64(),
            elapsed_s: self.elapsed_s(),
            tokens_per_s: step_time.map(|seconds| self.tokens_per_step() / seconds),
            peak_rss_bytes: peak_resident(),
        })
    }

    /// Mean tokens of the steps of this process.
    fn tokens_per_step(&self) -> f64 {
        let tokens = self.state.tokens - self.tokens_before;
        tokens as f64 / self.step_seconds.len().max(1) as f64
    }

    /// Writes the last checkpoint, unless it exists with as many golden windows as are asked for.
    fn save_with_golden(&mut self) -> anyhow::Result<()> {
        let windows = evaluate::golden_windows(&self.corpus, self.run_file.eval.golden_windows);
        if let (true, Some(checkpoint)) = (self.step_seconds.is_empty(), &self.checkpoint) {
            let golden = Checkpoint::open(checkpoint)?.golden()?;
            if golden.is_some_and(|golden| golden.windows == windows.1) {
                return Ok(());
            }
        }
        let golden = evaluate::golden(self.model()?, &self.corpus, windows, self.device.first())?;
        self.save_at_last(Some(&golden))
    }
}
