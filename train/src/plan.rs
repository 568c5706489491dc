//! The layout of a run: its steps and epochs, from the number of windows of a text.

use std::ops::Range;

use anyhow::bail;
use config::RunFile;

/// The relation of steps, epochs and batches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepPlan {
    /// Windows in one forward pass.
    pub batch_size: usize,
    /// Forward passes in one step.
    pub accumulation: usize,
    /// Steps in one epoch; windows that do not fill a step are not used.
    pub steps_per_epoch: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
}

impl StepPlan {
    /// The plan for a training split of `windows` windows.
    ///
    /// # Errors
    /// When they do not fill one step.
    pub fn new(run_file: &RunFile, windows: usize) -> anyhow::Result<Self> {
        let (batch_size, accumulation) =
            (run_file.train.batch_size, run_file.train.gradient_accumulation);
        let needed = batch_size.saturating_mul(accumulation);
        let steps_per_epoch = (windows / needed) as u64;
        if steps_per_epoch == 0 {
            bail!(
                "the text is too short: its training split has {windows} windows of {} tokens, \
                 and one step needs {needed} (train.batch_size * train.gradient_accumulation); \
                 use a longer text, or a smaller data.context, train.batch_size or \
                 train.gradient_accumulation",
                run_file.data.context
            );
        }
        let all = steps_per_epoch.saturating_mul(run_file.train.epochs as u64);
        let total_steps = run_file.train.max_steps.map_or(all, |most| all.min(most as u64));
        Ok(StepPlan { batch_size, accumulation, steps_per_epoch, total_steps })
    }

    /// The windows of one forward pass of one step, as positions in the epoch's order.
    pub fn places(&self, step: u64, micro: usize) -> Range<usize> {
        let step_in_epoch = (step % self.steps_per_epoch) as usize;
        let first = (step_in_epoch * self.accumulation + micro) * self.batch_size;
        first..first + self.batch_size
    }

    /// The windows of all forward passes of one step.
    pub fn places_of_step(&self, step: u64) -> Range<usize> {
        self.places(step, 0).start..self.places(step, self.accumulation - 1).end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(batch: usize, accumulation: usize, windows: usize) -> anyhow::Result<StepPlan> {
        let mut run_file = RunFile::default();
        run_file.train.batch_size = batch;
        run_file.train.gradient_accumulation = accumulation;
        run_file.train.epochs = 3;
        StepPlan::new(&run_file, windows)
    }

    #[test]
    fn every_window_of_an_epoch_is_used_at_most_once() {
        let plan = plan(2, 3, 20).unwrap();
        assert_eq!((plan.steps_per_epoch, plan.total_steps), (3, 9));
        let places: Vec<usize> = (3..6)
            .flat_map(|step| (0..3).map(move |micro| (step, micro)))
            .flat_map(|(step, micro)| plan.places(step, micro))
            .collect();
        assert_eq!(places, (0..18).collect::<Vec<_>>());
    }

    #[test]
    fn a_text_too_short_for_one_step_is_refused_with_the_numbers() {
        let error = plan(2, 3, 5).unwrap_err().to_string();
        assert!(error.contains("5 windows of 256 tokens") && error.contains("needs 6"), "{error}");
    }
}
