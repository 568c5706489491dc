//! `train plot`: the curves of several runs beside each other.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use checkpoint::atomic::{self, AtomicError};
use plot::{Figure, LineChart, Scale, Series};
use serde::Serialize;

use crate::metrics::{self, Metrics};

/// What was drawn.
#[derive(Debug, Clone, Serialize)]
pub struct CurvesReport {
    /// The picture.
    pub output: PathBuf,
    /// One for each run, in the order of the arguments.
    pub runs: Vec<RunSummary>,
}

/// The last values of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// Name of the curve.
    pub name: String,
    /// Optimizer steps.
    pub steps: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// The last training loss in nats per token.
    pub train_loss: Option<f64>,
    /// The last validation loss in nats per token.
    pub val_loss: Option<f64>,
    /// The smallest validation loss in nats per token.
    pub best_val_loss: Option<f64>,
}

/// A quantity that is drawn over another.
struct Curve {
    title: &'static str,
    x_label: &'static str,
    y_label: &'static str,
    x: fn(&Metrics) -> f64,
    y: fn(&Metrics) -> Option<f64>,
}

const LOSS: &str = "loss (nats per token)";
const TOKENS: &str = "tokens seen";

const CURVES: [Curve; 6] = [
    Curve {
        title: "Training loss",
        x_label: TOKENS,
        y_label: LOSS,
        x: tokens,
        y: |m| m.train_loss,
    },
    Curve {
        title: "Validation loss",
        x_label: TOKENS,
        y_label: LOSS,
        x: tokens,
        y: |m| m.val_loss,
    },
    Curve {
        title: "Validation loss over time",
        x_label: "minutes of training",
        y_label: LOSS,
        x: |m| m.elapsed_s / 60.0,
        y: |m| m.val_loss,
    },
    Curve {
        title: "Learning rate",
        x_label: TOKENS,
        y_label: "learning rate",
        x: tokens,
        y: |m| m.learning_rate,
    },
    Curve {
        title: "Gradient norm",
        x_label: TOKENS,
        y_label: "norm before clipping",
        x: tokens,
        y: |m| m.grad_norm,
    },
    Curve {
        title: "Speed",
        x_label: TOKENS,
        y_label: "tokens per second",
        x: tokens,
        y: |m| m.tokens_per_s,
    },
];

fn tokens(line: &Metrics) -> f64 {
    line.tokens as f64
}

/// Draws what `metrics.jsonl` of each run folder holds. What no run has measured is left out.
///
/// # Errors
/// When a folder has no metrics, or the picture cannot be written.
pub fn plot(runs: &[PathBuf], output: &Path, overwrite: bool) -> anyhow::Result<CurvesReport> {
    let names = names(runs);
    let read: Vec<Vec<Metrics>> = runs.iter().map(|run| read(run)).collect::<Result<_, _>>()?;
    let figures: Vec<Figure> =
        CURVES.iter().filter_map(|curve| figure(curve, &names, &read)).collect();
    let pdf = plot::render_pdf(&figures).context("cannot draw the curves")?;
    atomic::write_file(output, overwrite, |out| {
        out.write_all(&pdf).map_err(|source| AtomicError::write(output, source))
    })?;
    let runs = names.into_iter().zip(&read).map(|(name, lines)| summary(name, lines)).collect();
    Ok(CurvesReport { output: output.to_owned(), runs })
}

fn read(run: &Path) -> anyhow::Result<Vec<Metrics>> {
    let path = run.join("metrics.jsonl");
    ensure!(path.exists(), "{} is missing: name a run folder that was trained in", path.display());
    let lines = metrics::read(&path)?;
    ensure!(!lines.is_empty(), "{} has no lines: the run has taken no step", path.display());
    Ok(lines)
}

/// The last component of each path, or the whole path where two runs would have the same name.
fn names(runs: &[PathBuf]) -> Vec<String> {
    let last = |run: &PathBuf| {
        run.file_name().map_or_else(|| run.display().to_string(), |n| n.to_string_lossy().into())
    };
    let short: Vec<String> = runs.iter().map(last).collect();
    let unique = |name: &String| short.iter().filter(|other| *other == name).count() == 1;
    let whole = |(run, name): (&PathBuf, &String)| match unique(name) {
        true => name.clone(),
        false => run.display().to_string(),
    };
    runs.iter().zip(&short).map(whole).collect()
}

fn figure(curve: &Curve, names: &[String], runs: &[Vec<Metrics>]) -> Option<Figure> {
    let series: Vec<Series> = names
        .iter()
        .zip(runs)
        .map(|(name, lines)| {
            let points = lines.iter().filter_map(|m| Some(((curve.x)(m), (curve.y)(m)?)));
            Series { name: name.clone(), points: points.collect() }
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    (!series.is_empty()).then(|| {
        Figure::from(LineChart {
            title: curve.title.to_owned(),
            x_label: curve.x_label.to_owned(),
            y_label: curve.y_label.to_owned(),
            y_scale: Scale::Linear,
            series,
        })
    })
}

fn summary(name: String, lines: &[Metrics]) -> RunSummary {
    let last = |value: fn(&Metrics) -> Option<f64>| lines.iter().rev().find_map(value);
    RunSummary {
        name,
        steps: lines.last().map_or(0, |line| line.step),
        tokens: lines.last().map_or(0, |line| line.tokens),
        seconds: lines.last().map_or(0.0, |line| line.elapsed_s),
        train_loss: last(|line| line.train_loss),
        val_loss: last(|line| line.val_loss),
        best_val_loss: lines.iter().filter_map(|line| line.val_loss).min_by(f64::total_cmp),
    }
}

impl fmt::Display for CurvesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loss = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        let width = self.runs.iter().map(|run| run.name.chars().count()).max().unwrap_or(0).max(3);
        writeln!(
            f,
            "{:<width$}  {:>9}  {:>13}  {:>12}  {:>10}  {:>10}  {:>10}",
            "run", "steps", "tokens", "time", "training", "validation", "best"
        )?;
        for run in &self.runs {
            writeln!(
                f,
                "{:<width$}  {:>9}  {:>13}  {:>12}  {:>10}  {:>10}  {:>10}",
                run.name,
                cli::count(run.steps),
                cli::count(run.tokens),
                cli::seconds(run.seconds),
                loss(run.train_loss),
                loss(run.val_loss),
                loss(run.best_val_loss)
            )?;
        }
        write!(f, "drawn in {}", self.output.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path, name: &str, losses: &[f64]) -> PathBuf {
        let run = folder.join(name);
        std::fs::create_dir_all(&run).unwrap();
        let lines: String = losses
            .iter()
            .enumerate()
            .map(|(step, loss)| {
                let tokens = step * 64;
                format!(
                    "{{\"step\":{step},\"epoch\":0,\"tokens\":{tokens},\"train_loss\":{loss},\
                     \"val_loss\":{loss},\"elapsed_s\":{step}.5}}\n"
                )
            })
            .collect();
        std::fs::write(run.join("metrics.jsonl"), lines).unwrap();
        run
    }

    #[test]
    fn runs_are_drawn_together_and_summed_up() {
        let folder = tempfile::tempdir().unwrap();
        let runs =
            [run(folder.path(), "a", &[3.0, 1.5, 2.0]), run(folder.path(), "b", &[3.0, 2.5])];
        let output = folder.path().join("curves.pdf");
        let report = plot(&runs, &output, false).unwrap();
        assert!(std::fs::read(&output).unwrap().starts_with(b"%PDF"));
        let first = &report.runs[0];
        assert_eq!((first.name.as_str(), first.steps, first.tokens), ("a", 2, 128));
        assert_eq!((first.val_loss, first.best_val_loss), (Some(2.0), Some(1.5)));
        assert!(report.to_string().contains("2.5000"));
        let refused = plot(&runs, &output, false).unwrap_err().to_string();
        assert!(refused.contains("curves.pdf"), "{refused}");
        plot(&runs, &output, true).unwrap();
    }

    #[test]
    fn folders_of_the_same_name_are_told_apart_and_others_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let runs = [run(folder.path(), "x/a", &[1.0]), run(folder.path(), "y/a", &[1.0])];
        assert_eq!(names(&runs), runs.clone().map(|run| run.display().to_string()));
        let missing = plot(&[folder.path().join("none")], &folder.path().join("c.pdf"), false);
        let error = missing.unwrap_err().to_string();
        assert!(error.contains("none/metrics.jsonl is missing"), "{error}");
    }
}
