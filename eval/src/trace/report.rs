//! The report of a trace, as a table and as JSON.

use std::fmt;

use config::StageValues;
use serde::Serialize;

use super::source::Recorded;

/// The stages of a pass, in the order of computation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceReport {
    /// The tokens that were read.
    pub tokens: Vec<u32>,
    /// The stages of the model.
    pub stages: Vec<TracedStage>,
    /// The limit for `relative_rms`; none if nothing was compared.
    pub tolerance: Option<f64>,
    /// The first stage that differs by more.
    pub first_over: Option<String>,
    /// Stages of the model that were not compared, because the other trace does not have them.
    pub only_in_model: Vec<String>,
    /// Stages that only the other trace has.
    pub only_in_other: Vec<String>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TracedStage {
    /// As [`config::ForwardStage`] is written.
    pub name: String,
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    /// Root of the mean square of the values.
    pub rms: f64,
    /// Root mean square of the difference, relative to that of the other trace.
    pub relative_rms: Option<f64>,
    /// Why the two cannot be compared.
    pub problem: Option<String>,
}

impl TraceReport {
    /// Without a comparison.
    pub(super) fn alone(tokens: Vec<u32>, stages: &[StageValues]) -> Self {
        let stages = stages.iter().map(TracedStage::new).collect();
        TraceReport {
            tokens,
            stages,
            tolerance: None,
            first_over: None,
            only_in_model: Vec::new(),
            only_in_other: Vec::new(),
        }
    }

    /// A stage over the tolerance as an error that ends a command with exit code 1.
    ///
    /// # Errors
    /// [`cli::GateFailed`], which names the first such stage.
    pub fn check(&self) -> Result<(), cli::GateFailed> {
        let over = self.stages.iter().find(|stage| Some(&stage.name) == self.first_over.as_ref());
        match (over, self.tolerance) {
            (Some(stage), Some(tolerance)) => {
                let reason = match (&stage.problem, stage.relative_rms) {
                    (Some(problem), _) => problem.clone(),
                    (None, found) => format!(
                        "relative RMS difference {:.1e}, expected at most {tolerance:.1e}",
                        found.unwrap_or(f64::NAN)
                    ),
                };
                let missed = vec![format!("{} is the first that differs: {reason}", stage.name)];
                Err(cli::GateFailed { missed })
            }
            _ => Ok(()),
        }
    }
}

impl TracedStage {
    fn new(stage: &StageValues) -> Self {
        TracedStage {
            name: stage.stage.to_string(),
            shape: stage.shape.clone(),
            rms: rms(stage.values.iter().map(|&x| f64::from(x))),
            relative_rms: None,
            problem: None,
        }
    }

    /// Compares `values`, those of this stage, with the other trace's.
    pub(super) fn compare(&mut self, values: &[f32], other: &Recorded) {
        if self.shape != other.shape {
            let (here, there) = (&self.shape, &other.shape);
            self.problem = Some(format!("shape {here:?}, {there:?} in the other trace"));
            return;
        }
        let pairs = values.iter().zip(&other.values);
        let difference = rms(pairs.map(|(&x, &y)| f64::from(x) - f64::from(y)));
        let size = rms(other.values.iter().map(|&x| f64::from(x)));
        if !difference.is_finite() || !size.is_finite() {
            self.problem = Some("a value is not finite".to_owned());
        } else if size == 0.0 && difference != 0.0 {
            self.problem = Some("every value of the other trace is 0".to_owned());
        } else {
            self.relative_rms = Some(if difference == 0.0 { 0.0 } else { difference / size });
        }
    }

    /// Whether this stage was compared and differs by more than `tolerance`.
    pub(super) fn is_over(&self, tolerance: f64) -> bool {
        self.problem.is_some() || self.relative_rms.is_some_and(|found| found > tolerance)
    }
}

/// Root of the mean square.
fn rms(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    (values.map(|x| x * x).sum::<f64>() / count).sqrt()
}

impl fmt::Display for TraceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compared = self.tolerance.is_some();
        let width = self.stages.iter().map(|stage| stage.name.len()).max().unwrap_or(0);
        write!(f, "{:width$}  {:>16}  {:>10}", "stage", "shape", "RMS")?;
        writeln!(f, "{}", if compared { "  difference" } else { "" })?;
        for stage in &self.stages {
            let shape = stage.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
            write!(f, "{:width$}  {shape:>16}  {:>10.4e}", stage.name, stage.rms)?;
            match (&stage.problem, stage.relative_rms) {
                (Some(problem), _) => write!(f, "  {problem}")?,
                (None, Some(relative)) => write!(f, "  {relative:>10.1e}")?,
                (None, None) if compared => write!(f, "  {:>10}", "-")?,
                (None, None) => {}
            }
            let is_first = Some(&stage.name) == self.first_over.as_ref();
            writeln!(f, "{}", if is_first { "  <- first over the tolerance" } else { "" })?;
        }
        for (names, whose) in [(&self.only_in_model, "--model"), (&self.only_in_other, "--against")]
        {
            if !names.is_empty() {
                writeln!(f, "only in {whose}: {}", names.join(", "))?;
            }
        }
        match (self.tolerance, &self.first_over) {
            (Some(tolerance), None) => {
                let count = self.stages.len() - self.only_in_model.len();
                write!(f, "{count} stages compared, none differs by more than {tolerance:.1e}")
            }
            (Some(tolerance), Some(name)) => {
                write!(f, "{name} is the first that differs by more than {tolerance:.1e}")
            }
            (None, _) => write!(f, "{} stages, {} tokens", self.stages.len(), self.tokens.len()),
        }
    }
}
