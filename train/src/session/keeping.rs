//! The files that a run writes during training: checkpoints, samples and the chart.

use std::time::{Duration, Instant};

use checkpoint::CheckpointError;
use checkpoint::atomic::AtomicError;

use super::Session;
use crate::state::{self, Snapshot};
use crate::{chart, sample};

/// Pause before the second attempt to write the last checkpoint.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Session<'_> {
    /// A full disk does not stop training: what could not be written is still in memory.
    pub(super) fn note_failure(&self, written: anyhow::Result<()>) {
        if let Err(error) = written {
            self.progress.note(&format!(
                "warning: {}; training goes on and tries again",
                cli::one_line(&error)
            ));
        }
    }

    pub(super) fn sample(&mut self) -> anyhow::Result<()> {
        let settings = &self.run_file.train;
        let text = sample::greedy(
            self.forward()?,
            &self.corpus,
            &settings.sample_prompt,
            settings.sample_tokens,
            self.device.first(),
        );
        let entry = sample::entry(self.state.epoch, self.state.step, &text);
        let written = self.samples.append(&entry);
        self.note_failure(written);
        Ok(())
    }

    /// Writes a checkpoint in the middle of a run. Training goes on if the disk is full, since the
    /// state is still in memory.
    ///
    /// # Errors
    /// For a failure that a later attempt cannot repair: the run ends now, not at its last step,
    /// and keeps the earlier checkpoints.
    pub(super) fn checkpoint_or_note(&mut self) -> anyhow::Result<()> {
        match self.save(None) {
            Err(error) if is_disk_trouble(&error) => self.progress.note(&format!(
                "warning: {}; training goes on and tries again in {} steps",
                cli::one_line(&error),
                self.run_file.train.checkpoint_interval
            )),
            result => return result,
        }
        Ok(())
    }

    /// Writes the last checkpoint of a run. While the disk refuses it, the trained weights exist in
    /// memory only, so the write is repeated until it succeeds or the user gives up.
    ///
    /// # Errors
    /// For a failure that a later attempt cannot repair, and for a disk error once the user has
    /// given up.
    pub(super) fn save_at_last(
        &mut self,
        golden: Option<&checkpoint::Golden>,
    ) -> anyhow::Result<()> {
        // A user who has asked to stop gives up by asking again, which ends the process at once.
        let may_give_up = !self.interrupt.requested();
        let again = if may_give_up { "" } else { " again" };
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.save(golden) {
                Err(error) if is_disk_trouble(&error) => error,
                result => return result,
            };
            self.progress.note(&format!(
                "warning: {}; what was trained since the last checkpoint is in memory only: make \
                 room, it is tried again in {} s; Ctrl-C{again} gives it up",
                cli::one_line(&error),
                pause.as_secs()
            ));
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if may_give_up && self.interrupt.requested() {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    pub(super) fn save(&mut self, golden: Option<&checkpoint::Golden>) -> anyhow::Result<()> {
        self.state.elapsed_s = self.elapsed_s();
        let snapshot = Snapshot {
            model: self.model()?,
            optimizer: &self.optimizer,
            trainer: &self.state,
            tokenizer_json: &self.tokenizer_json,
            golden,
            lora: &self.run_file.lora,
            // The checkpoint that the run resumed from may have been removed by now.
            tokenizer_folder: self
                .tokenizer_folder
                .as_ref()
                .map(|folder| self.checkpoint.as_deref().unwrap_or(folder)),
            init_from: self.run_file.train.init_from.as_deref(),
        };
        let keep = self.run_file.train.keep_checkpoints;
        self.checkpoint = Some(state::save(&self.folder, &snapshot, keep)?);
        // If the chart cannot be written (open in a viewer, disk full), no weights are lost.
        self.note_failure(chart::write(&self.folder.chart(), self.log.lines()));
        Ok(())
    }
}

/// Whether the disk, or something in the place of the checkpoint, made writing fail: the user may
/// repair both during training.
fn is_disk_trouble(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let refusal = cause.downcast_ref::<CheckpointError>();
        let is_of_the_place = matches!(
            refusal,
            Some(CheckpointError::Atomic(_) | CheckpointError::NoCheckpoint { .. })
        );
        is_of_the_place || cause.is::<std::io::Error>() || cause.is::<AtomicError>()
    })
}
