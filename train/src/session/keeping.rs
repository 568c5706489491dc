//! What a run writes while it goes on: checkpoints, samples and the chart.

use super::Session;
use crate::state::{self, Snapshot};
use crate::{chart, sample};

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
    pub(super) fn checkpoint_or_note(&mut self) {
        if let Err(error) = self.save(None) {
            self.progress.note(&format!(
                "warning: {}; training goes on and tries again in {} steps",
                cli::one_line(&error),
                self.run_file.train.checkpoint_interval
            ));
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
            origin: self.origin.as_ref().map(|origin| self.checkpoint.as_deref().unwrap_or(origin)),
            init_from: self.run_file.train.init_from.as_deref(),
        };
        let keep = self.run_file.train.keep_checkpoints;
        self.checkpoint = Some(state::save(&self.folder, &snapshot, keep)?);
        // A picture that a viewer holds open, or a disk without room for it, has cost no weight.
        self.note_failure(chart::write(&self.folder.chart(), self.log.lines()));
        Ok(())
    }
}
