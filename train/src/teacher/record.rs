//! `train --record`: what a teacher predicts, written once.

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};
use checkpoint::atomic::{self, AtomicError};
use cli::{Interrupted, Meter, Progress};
use config::{Objective, RunFile};
use kernels::Pass;
use serde::Serialize;

use super::TeacherModel;
use super::recorded::{Header, write_positions};
use crate::Options;
use crate::corpus::Split;
use crate::device;
use crate::folder::RunFolder;
use crate::session::Prepared;

/// The result of [`record`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecordReport {
    /// The file.
    pub recorded: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Positions that train.
    pub positions: u64,
    /// Tokens for each of them.
    pub tokens: usize,
    /// Mean probability of those tokens together.
    pub probability: f64,
    /// Seconds.
    pub wall_s: f64,
}

impl fmt::Display for RecordReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<16} {}", "positions", cli::count(self.positions))?;
        let share = 100.0 * self.probability;
        writeln!(f, "{:<16} {} each, of {share:.2} % of the probability", "tokens", self.tokens)?;
        writeln!(f, "{:<16} {}", "time", cli::seconds(self.wall_s))?;
        write!(f, "{:<16} {}, {}", "recorded", self.recorded.display(), cli::bytes(self.bytes))
    }
}

/// Writes the predictions of `train.teacher.model` for all positions of the training split that train to
/// `train.teacher.recorded`. The run folder is only used to encode the text.
///
/// # Errors
/// When the run file names no model or no file, the model does not fit the run, or the file exists
/// (unless [`Options::overwrite`]) or cannot be written.
pub fn record(run_file: &RunFile, options: &Options) -> anyhow::Result<RecordReport> {
    run_file.validate()?;
    let began = Instant::now();
    let teacher = run_file.train.teacher.as_ref();
    let teacher =
        teacher.context("--record writes what a teacher predicts; add [train.teacher]")?;
    let (Some(model), Some(output)) = (&teacher.model, &teacher.recorded) else {
        anyhow::bail!(
            "--record asks train.teacher.model and writes train.teacher.recorded; name both"
        );
    };
    ensure!(
        options.overwrite || !output.exists(),
        "{} exists; add --force to replace it",
        output.display()
    );
    let device = device::select(run_file.device, 1)?;
    let precision = device::precision(&run_file.train, &device)?;
    let (folder, start) =
        RunFolder::open(run_file, &Options { overwrite: false, ..options.clone() })?;
    let Prepared { config, corpus, objective, .. } = Prepared::new(run_file, &folder, &start)?;
    ensure!(
        objective == Objective::NextToken,
        "pairs of answers are compared without a teacher: leave out [train.teacher]"
    );
    let json = corpus.tokenizer().tokenizer_json()?;
    let mut model = TeacherModel::open(model, &config, &json, run_file.data.context)?;
    let model = model.load(device.first())?;
    let k = teacher.recorded_tokens.min(config.vocab_size);
    let header = Header::of(&corpus, config.vocab_size, k, teacher.temperature);
    let pass = Pass { precision, ..Pass::default() };
    let progress = Progress::new("record", header.windows as u64, Meter::Items);
    let (mut probability, positions) = (0.0, header.positions);
    atomic::write_file::<_, anyhow::Error>(output, options.overwrite, |out| {
        header.write(out)?;
        let windows: Vec<usize> = (0..header.windows).collect();
        for windows in windows.chunks(run_file.train.batch_size) {
            if options.interrupt.requested() {
                return Err(Interrupted.into());
            }
            let batch = corpus.batch(Split::Train, windows)?;
            progress.advance(windows.len() as u64);
            if batch.trained_tokens() == 0 {
                continue;
            }
            let input = batch.on(&device.first().clone().inner());
            let (ids, log_probabilities) = model.likeliest(input, k, teacher.temperature, pass);
            let ids: Vec<u32> = ids.into_data().iter::<u32>().collect();
            let log_probabilities: Vec<f32> = log_probabilities.into_data().iter::<f32>().collect();
            probability += log_probabilities.iter().map(|&log| f64::from(log).exp()).sum::<f64>();
            write_positions(out, k, &ids, &log_probabilities)
                .map_err(|source| AtomicError::write(output, source))?;
        }
        Ok(())
    })?;
    progress.finish();
    Ok(RecordReport {
        recorded: output.clone(),
        bytes: std::fs::metadata(output).map_or(0, |found| found.len()),
        positions,
        tokens: k,
        probability: probability / positions.max(1) as f64,
        wall_s: began.elapsed().as_secs_f64(),
    })
}
