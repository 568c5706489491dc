//! What a run writes while it goes on: checkpoints, samples and the chart.

use std::time::{Duration, Instant};

use checkpoint::CheckpointError;
use checkpoint::atomic::AtomicError;

use super::Session;
use crate::state::{self, Snapshot};
use crate::{chart, sample};

/// Between two attempts to write the last checkpoint.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Session<'_> {
    /// A full disk is no reason to stop: what could not be written is in memory.
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
            self.corpus.tokenizer(),
            &settings.sample_prompt,
            settings.sample_tokens,
            self.corpus.context(),
            self.device.first(),
        );
        let entry = sample::entry(self.state.epoch, self.state.step, &text);
        let written = self.samples.append(&entry);
        self.note_failure(written);
        Ok(())
    }

    /// A checkpoint in the middle of a run: a full disk is no reason to lose what is in memory.
    ///
    /// # Errors
    /// For what no later attempt can mend either: the run ends here and not at its end, with the
    /// checkpoints before this one.
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

    /// The checkpoint that a run ends with. While the disk refuses it, what was trained is in memory
    /// only: it is tried again until it is written or the user gives up.
    ///
    /// # Errors
    /// For what no later attempt can mend; and the disk's, once the user has given up.
    pub(super) fn save_at_last(
        &mut self,
        golden: Option<&checkpoint::Golden>,
    ) -> anyhow::Result<()> {
        // Whoever has asked to stop asks a second time to give up, which ends the process at once.
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
            // The checkpoint that the run went on from may be gone by now.
            tokenizer_folder: self
                .tokenizer_folder
                .as_ref()
                .map(|folder| self.checkpoint.as_deref().unwrap_or(folder)),
            init_from: self.run_file.train.init_from.as_deref(),
        };
        let keep = self.run_file.train.keep_checkpoints;
        self.checkpoint = Some(state::save(&self.folder, &snapshot, keep)?);
        // A picture that a viewer holds open, or a disk without room for it, has cost no weight.
        self.note_failure(chart::write(&self.folder.chart(), self.log.lines()));
        Ok(())
    }
}

/// Whether a checkpoint was refused by the disk, or by something in its place there: both may be
/// mended while training goes on.
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
