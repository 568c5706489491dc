//! The report of a training run.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::evaluate::Evaluation;
use crate::rewards::Rewards;

/// Losses over the two splits, without dropout, in nats per token; of pairs of answers, in nats per pair.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Losses {
    /// Mean over the windows of the training split.
    pub train: Option<f64>,
    /// Mean over the windows of the validation split; none if it is shorter than a window.
    pub validation: Option<f64>,
}

impl Losses {
    /// Those of two evaluations.
    pub(crate) fn of(train: Option<Evaluation>, validation: Option<Evaluation>) -> Self {
        let [train, validation] = [train, validation].map(|found| found.map(|found| found.loss));
        Losses { train, validation }
    }
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The run folder.
    pub run_dir: PathBuf,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
    /// The kind of device: `flex`, `ndarray`, `wgpu` or `cuda`.
    pub device: String,
    /// Trainable parameters.
    pub parameters: usize,
    /// Optimizer steps taken, over all sessions.
    pub steps: u64,
    /// Tokens trained on, over all sessions.
    pub tokens: u64,
    /// The step that this process resumed from.
    pub resumed_from: Option<u64>,
    /// Losses before the first step.
    pub before: Losses,
    /// Losses after the last step.
    pub after: Losses,
    /// Rewards of the validation split after the last step, if the run learns from pairs of answers;
    /// of the training split where there is no validation split.
    #[serde(flatten)]
    pub rewards: Option<Rewards>,
    /// Seconds of this process, including evaluation, samples and checkpoints.
    pub wall_s: f64,
    /// Seconds of all sessions.
    pub elapsed_s: f64,
    /// Tokens of a step divided by the median step time of this process, without the first two
    /// steps.
    pub tokens_per_s: Option<f64>,
    /// Peak memory of the process, if the system reports it.
    pub peak_rss_bytes: Option<u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "{name:<16} {value}");
        let parameters = cli::count(self.parameters as u64);
        row("model", format!("{parameters} parameters on {}", self.device))?;
        let resumed = self.resumed_from.map(|step| format!(", resumed at {step}"));
        let steps = format!("{}{}", cli::count(self.steps), resumed.unwrap_or_default());
        row("steps", format!("{steps} ({} tokens)", cli::count(self.tokens)))?;
        row("training loss", change(self.before.train, self.after.train))?;
        row("validation loss", change(self.before.validation, self.after.validation))?;
        row("wall time", cli::seconds(self.wall_s))?;
        if let Some(Rewards { chosen, rejected, margins, accuracies }) = self.rewards {
            row("rewards", format!("chosen {chosen:.4}, rejected {rejected:.4}"))?;
            row("margin", format!("{margins:.4}, right {:.1} %", 100.0 * accuracies))?;
        }
        if let Some(speed) = self.tokens_per_s {
            row("speed", format!("{speed:.1} tokens/s (median step)"))?;
        }
        if let Some(peak) = self.peak_rss_bytes {
            row("peak memory", cli::bytes(peak))?;
        }
        write!(f, "{:<16} {}", "checkpoint", self.checkpoint.display())
    }
}

fn change(before: Option<f64>, after: Option<f64>) -> String {
    let show = |loss: Option<f64>| loss.map_or("none".to_owned(), |loss| format!("{loss:.4}"));
    format!("{} -> {}", show(before), show(after))
}

/// The median step time without the first two steps, which fill caches and memory pools.
pub fn median_after_warm_up(seconds: &[f64]) -> Option<f64> {
    let mut kept = seconds.get(2..).filter(|kept| !kept.is_empty())?.to_vec();
    kept.sort_by(f64::total_cmp);
    let middle = kept.len() / 2;
    Some(match kept.len() % 2 {
        0 => (kept[middle - 1] + kept[middle]) / 2.0,
        _ => kept[middle],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_leaves_the_first_two_out() {
        assert_eq!(median_after_warm_up(&[9.0, 9.0]), None);
        assert_eq!(median_after_warm_up(&[9.0, 9.0, 1.0, 3.0, 2.0]), Some(2.0));
        assert_eq!(median_after_warm_up(&[9.0, 9.0, 1.0, 3.0]), Some(2.0));
    }
}
