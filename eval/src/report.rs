//! The report of an evaluation: `report.json`, and the printed table.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::gates::GateResult;
use crate::metrics::Metrics;
use crate::tasks::{TaskResult, table};

/// Identifies the file among other JSON.
pub const FORMAT: &str = "pocketgpt.report";
/// Raised when a reader of the previous version would misread the file.
pub const VERSION: u32 = 1;

/// All measurements, and whether they pass the gates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Version of the program that measured.
    pub program: String,
    /// The tokens that all passes read.
    pub tokens: Tokens,
    /// The files, the unquantized one first.
    pub files: Vec<FileSize>,
    /// The comparisons, in the order they were made.
    pub pairs: Vec<Pair>,
    /// What every model answered, model by model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskResult>,
    /// The limits and whether they hold.
    pub gates: Vec<GateResult>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

/// The source of the tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// A file name.
    pub source: String,
    /// Number of windows.
    pub windows: usize,
    /// Tokens in one window.
    pub context: usize,
}

/// The size of a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileSize {
    /// Name of the file, or of the folder of pieces.
    pub name: String,
    /// `F32`, `Q8_0`, ...
    pub recipe: String,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Number of weights.
    pub parameters: u64,
    /// Bits per weight, on average.
    pub bits_per_weight: f64,
    /// SHA-256 of the whole GGUF; for pieces, that of the file they were cut from; none for a
    /// checkpoint.
    pub sha256: Option<String>,
}

/// A forward pass: an engine and a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// The engine.
    pub engine: Engine,
    /// `F32`, `Q8_0`, ...
    pub recipe: String,
}

/// The engines that compute forward passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Engine {
    /// The model of training; its logits are stored in the checkpoint.
    #[serde(rename = "burn")]
    Burn,
    /// The plain Rust pass of this project.
    #[serde(rename = "reference")]
    Reference,
    /// llama.cpp, in this process.
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
}

/// Two passes over the same tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The pass that is trusted more.
    pub base: Pass,
    /// The pass that is evaluated.
    pub candidate: Pass,
    /// The differences; none if a logit was not finite.
    pub metrics: Option<Metrics>,
    /// Which logit was not finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Report {
    /// Whether every gate holds.
    pub fn passed(&self) -> bool {
        self.gates.iter().all(|gate| gate.passed)
    }

    /// The missed gates as an error that ends a command with exit code 1.
    ///
    /// # Errors
    /// [`cli::GateFailed`] with one line for each missed gate.
    pub fn check(&self) -> Result<(), cli::GateFailed> {
        let missed: Vec<String> =
            self.gates.iter().filter(|gate| !gate.passed).map(GateResult::to_string).collect();
        if missed.is_empty() { Ok(()) } else { Err(cli::GateFailed { missed }) }
    }

    /// The measures of the reference on the variant `recipe` compared with the unquantized file.
    pub fn quality(&self, recipe: &str) -> Option<&Metrics> {
        let judged = |pair: &&Pair| {
            pair.candidate.engine == Engine::Reference
                && pair.base.engine == Engine::Reference
                && pair.candidate.recipe == recipe
        };
        self.pairs.iter().find(judged).and_then(|pair| pair.metrics.as_ref())
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Burn => "Burn",
            Engine::Reference => "reference",
            Engine::LlamaCpp => "llama.cpp",
        })
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.recipe, self.engine)
    }
}

impl Pair {
    /// `Q8_0 reference : F32 reference`, candidate first.
    pub fn name(&self) -> String {
        format!("{} : {}", self.candidate, self.base)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tokens { source, windows, context } = &self.tokens;
        writeln!(f, "{windows} windows of {context} tokens from {source}\n")?;
        write_files(f, &self.files)?;
        write_pairs(f, &self.pairs)?;
        if !self.tasks.is_empty() {
            writeln!(f, "{}", table(&self.tasks))?;
        }
        for gate in &self.gates {
            writeln!(f, "{} {gate}", if gate.passed { "ok  " } else { "FAIL" })?;
        }
        for note in &self.notes {
            writeln!(f, "note {note}")?;
        }
        let missed = self.gates.iter().filter(|gate| !gate.passed).count();
        match missed {
            0 => write!(f, "all {} gates hold", self.gates.len()),
            _ => write!(f, "{missed} of {} gates missed", self.gates.len()),
        }
    }
}

fn write_files(f: &mut fmt::Formatter<'_>, files: &[FileSize]) -> fmt::Result {
    let width = files.iter().map(|file| file.name.chars().count()).max().unwrap_or(0).max(4);
    writeln!(f, "{:width$}  {:>10}  {:>13}  {:>11}", "file", "tensors", "weights", "bits/weight")?;
    for file in files {
        writeln!(
            f,
            "{:width$}  {:>10}  {:>13}  {:>11.3}",
            file.name,
            cli::bytes(file.tensor_bytes),
            cli::count(file.parameters),
            file.bits_per_weight
        )?;
    }
    writeln!(f)
}

fn write_pairs(f: &mut fmt::Formatter<'_>, pairs: &[Pair]) -> fmt::Result {
    let width = pairs.iter().map(|pair| pair.name().chars().count()).max().unwrap_or(0).max(16);
    writeln!(
        f,
        "{:width$}  {:>8} {:>8} {:>8}  {:^35}  {:>7}  {:>14}",
        "", "relative", "largest", "", "KL divergence (nats)", "same", "perplexity"
    )?;
    writeln!(
        f,
        "{:width$}  {:>8} {:>8} {:>8}  {:>8} {:>8} {:>8} {:>8}  {:>7}  {:>8} {:>8}",
        "candidate : base",
        "RMS",
        "diff.",
        "1-corr.",
        "mean",
        "median",
        "99 %",
        "max",
        "top-1",
        "base",
        "cand."
    )?;
    for pair in pairs {
        write!(f, "{:width$}  ", pair.name())?;
        match &pair.metrics {
            Some(metrics) => write_metrics(f, metrics)?,
            None => writeln!(f, "{}", pair.problem.as_deref().unwrap_or("not measured"))?,
        }
    }
    writeln!(f)
}

fn write_metrics(f: &mut fmt::Formatter<'_>, metrics: &Metrics) -> fmt::Result {
    let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), short);
    let agreement = &metrics.agreement;
    writeln!(
        f,
        "{:>8} {:>8} {:>8}  {:>8} {:>8} {:>8} {:>8}  {:>5.1} %  {:>8} {:>8}",
        short(metrics.relative_rms),
        short(metrics.max_difference),
        optional(metrics.correlation.map(|correlation| 1.0 - correlation)),
        short(agreement.kl.mean),
        short(agreement.kl.median),
        short(agreement.kl.p99),
        short(agreement.kl.max),
        100.0 * agreement.top1_agreement,
        optional(agreement.base_perplexity),
        optional(agreement.perplexity),
    )
}

/// Three or four digits, with a power of ten if the number is far from 1.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        x if !(1e-3..1e6).contains(&x) => format!("{value:.1e}"),
        x if x < 1.0 => format!("{value:.4}"),
        x if x < 100.0 => format!("{value:.3}"),
        _ => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (2.54e-9, "2.5e-9"),
            (0.0123, "0.0123"),
            (11.0, "11.000"),
            (50257.3, "50257.3"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
