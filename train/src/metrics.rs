//! `metrics.jsonl`: one JSON object for each step, appended as training goes.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::evaluate::Evaluation;
use crate::journal::Journal;
use crate::rewards::{Rewards, ValidationRewards};

/// What is known after a step; unknown values are left out of the line.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// Optimizer steps taken; 0 is the model before training.
    pub step: u64,
    /// Epoch that the step belongs to, counted from 0.
    pub epoch: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Loss of the step's batch in nats; at step 0 that of the training split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_loss: Option<f64>,
    /// Divergence of the step's batch from the teacher's predictions in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_divergence: Option<f64>,
    /// Rewards of the step's pairs, if the run learns from pairs.
    #[serde(flatten)]
    pub rewards: Option<Rewards>,
    /// Rewards of the pairs of the validation split.
    #[serde(flatten)]
    pub val_rewards: Option<ValidationRewards>,
    /// Loss of the validation split in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// Learning rate of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// L2 norm of all gradients before clipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    /// Tokens of the step divided by its seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// Seconds since training began, over all sessions of the run.
    pub elapsed_s: f64,
    /// Most memory the process has held so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<u64>,
}

impl Metrics {
    /// What is known of the validation split.
    pub fn validation(&self) -> Option<Evaluation> {
        Some(Evaluation { loss: self.val_loss?, rewards: self.val_rewards.map(Into::into) })
    }
}

/// The file, and what it holds.
pub struct MetricsLog {
    file: Journal,
    lines: Vec<Metrics>,
}

impl MetricsLog {
    /// Opens the log of a run that goes on after `step`: lines of later steps, and what a killed
    /// process left of a line, are cut off.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path, step: Option<u64>) -> anyhow::Result<Self> {
        let lines: Vec<Metrics> = match step {
            Some(step) => read(path)?.into_iter().filter(|line| line.step <= step).collect(),
            None => Vec::new(),
        };
        let text = lines.iter().map(text_of).collect::<Result<String, _>>()?;
        Ok(MetricsLog { file: Journal::start(path, &text)?, lines })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// As [`Journal::append`]; the line is kept.
    pub fn append(&mut self, line: Metrics) -> anyhow::Result<()> {
        let text = text_of(&line)?;
        self.lines.push(line);
        self.file.append(&text)
    }

    /// Writes the lines that could not be written so far, and waits until the disk has all of them.
    ///
    /// # Errors
    /// As [`Journal::sync`].
    pub fn sync(&mut self) -> anyhow::Result<()> {
        self.file.sync()
    }

    /// All lines of the run so far.
    pub fn lines(&self) -> &[Metrics] {
        &self.lines
    }
}

fn text_of(line: &Metrics) -> serde_json::Result<String> {
    Ok(serde_json::to_string(line)? + "\n")
}

/// The lines of a log; what a killed process left of a line is skipped.
///
/// # Errors
/// When a file that exists cannot be read.
pub fn read(path: &Path) -> anyhow::Result<Vec<Metrics>> {
    let text = match plain_file::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    fn line(step: u64) -> Metrics {
        Metrics { step, train_loss: Some(0.1 * step as f64), ..Metrics::default() }
    }

    #[test]
    fn a_resumed_log_forgets_later_steps_and_half_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, None).unwrap();
        (0..5).for_each(|step| log.append(line(step)).unwrap());
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"step\": 5, \"epo").unwrap();

        let mut log = MetricsLog::open(&path, Some(2)).unwrap();
        assert_eq!(log.lines(), [line(0), line(1), line(2)]);
        log.append(line(3)).unwrap();
        assert_eq!(read(&path).unwrap(), [line(0), line(1), line(2), line(3)]);
    }

    #[test]
    fn rewards_have_the_names_of_trl_and_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let rewards = Rewards { chosen: 0.1, rejected: -0.3, margins: 0.4, accuracies: 0.75 };
        let line = Metrics { rewards: Some(rewards), val_rewards: Some(rewards.into()), ..line(1) };
        MetricsLog::open(&path, None).unwrap().append(line.clone()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"rewards/margins\":0.4,\"rewards/accuracies\":0.75"), "{text}");
        assert!(text.contains("\"val_rewards/chosen\":0.1"), "{text}");
        assert_eq!(MetricsLog::open(&path, Some(1)).unwrap().lines(), [line]);
    }

    #[test]
    fn a_fresh_log_is_empty_and_unknown_values_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        MetricsLog::open(&path, None).unwrap().append(line(1)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"step\":1,\"epoch\":0,\"tokens\":0,\"train_loss\":0.1,\"elapsed_s\":0.0}\n"
        );
        assert_eq!(MetricsLog::open(&path, None).unwrap().lines(), []);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }
}
