//! Reads from `report.json` whether the gates were met, and the figures of each recipe.
//!
//! `eval` writes the file. This crate has its own structs for it, because `eval` links llama.cpp.
//! The tests of both read `eval/tests/golden/report.json`, so they fail if a field is renamed in
//! only one.

use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::manifest::{Quality, TaskScore};

const FORMAT: &str = "pocketgpt.report";
const VERSION: u32 = 1;
/// The engine whose figures are used: it reads quantized weights exactly as they are stored.
const ENGINE: &str = "reference";

/// A report whose gates were met.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Measured {
    format: String,
    version: u32,
    files: Vec<File>,
    pairs: Vec<Pair>,
    #[serde(default)]
    tasks: Vec<Task>,
    gates: Vec<Gate>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Task {
    task: String,
    file: String,
    questions: usize,
    shots: usize,
    model: String,
    metrics: Vec<Figure>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Figure {
    name: String,
    value: f64,
    standard_error: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct File {
    recipe: String,
    tensor_bytes: u64,
    sha256: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Pair {
    base: Pass,
    candidate: Pass,
    metrics: Option<Metrics>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Pass {
    engine: String,
    recipe: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Metrics {
    kl: KlDivergence,
    top1_agreement: f64,
    base_perplexity: Option<f64>,
    perplexity: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct KlDivergence {
    mean: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Gate {
    name: String,
    measured: Option<f64>,
    limit: Option<f64>,
    passed: bool,
}

/// The file that was measured, as far as the report knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeasuredFile {
    /// SHA-256 of the GGUF.
    pub sha256: Option<String>,
    /// Bytes of all its tensors.
    pub tensor_bytes: Option<u64>,
}

impl Measured {
    /// Reads a report and refuses it unless every gate was met.
    ///
    /// # Errors
    /// When the report cannot be read, and [`cli::GateFailed`] for each gate that was missed.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = plain_file::read(path).with_context(|| {
            format!("cannot read the report {}: run eval first", path.display())
        })?;
        let report: Measured = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no report of eval", path.display()))?;
        ensure!(
            report.format == FORMAT && report.version == VERSION,
            "{}: expected {FORMAT} version {VERSION}, found {} version {}: run eval again",
            path.display(),
            report.format,
            report.version
        );
        let missed: Vec<String> =
            report.gates.iter().filter(|gate| !gate.passed).map(describe).collect();
        if missed.is_empty() { Ok(report) } else { Err(cli::GateFailed { missed }.into()) }
    }

    /// The figures of `recipe` against the unquantized file.
    pub fn quality(&self, recipe: &str) -> Quality {
        let judged = |pair: &&Pair| {
            pair.base.engine == ENGINE
                && pair.candidate.engine == ENGINE
                && pair.candidate.recipe == recipe
        };
        let metrics = self.pairs.iter().find(judged).and_then(|pair| pair.metrics.as_ref());
        let tasks = self.tasks(recipe);
        metrics.map_or_else(Quality::default, |metrics| Quality {
            mean_kl: Some(metrics.kl.mean),
            top1_agreement: Some(metrics.top1_agreement),
            perplexity: metrics.perplexity,
            reference_perplexity: metrics.base_perplexity,
            tasks,
        })
    }

    /// What `recipe` answered, beside the unquantized file, which `eval` asks first.
    fn tasks(&self, recipe: &str) -> Vec<TaskScore> {
        let base = self.tasks.first().map(|task| task.model.as_str());
        let of_recipe = self.tasks.iter().filter(|task| task.model == recipe);
        let scores = of_recipe.flat_map(|task| {
            let alike = |other: &&Task| {
                Some(other.model.as_str()) == base
                    && (&other.task, &other.file, other.shots)
                        == (&task.task, &task.file, task.shots)
            };
            let base = self.tasks.iter().find(alike);
            task.metrics.iter().map(move |figure| TaskScore {
                task: task.task.clone(),
                file: task.file.clone(),
                metric: figure.name.clone(),
                value: figure.value,
                standard_error: figure.standard_error,
                unquantized: base
                    .and_then(|base| base.metrics.iter().find(|it| it.name == figure.name))
                    .map(|figure| figure.value),
                questions: task.questions,
            })
        });
        scores.collect()
    }

    /// The file of `recipe` that was measured.
    ///
    /// # Errors
    /// When the report does not contain it.
    pub fn file(&self, recipe: &str) -> anyhow::Result<MeasuredFile> {
        let file = self.files.iter().find(|file| file.recipe == recipe);
        let file =
            file.with_context(|| format!("the report says nothing of {recipe}: run eval again"))?;
        Ok(MeasuredFile { sha256: file.sha256.clone(), tensor_bytes: Some(file.tensor_bytes) })
    }
}

fn describe(gate: &Gate) -> String {
    match (gate.measured, gate.limit) {
        (Some(measured), Some(limit)) => {
            format!(
                "{} = {measured:e}, limit {limit:e}, missed by {:e}",
                gate.name,
                (measured - limit).abs()
            )
        }
        _ => format!("{} could not be measured", gate.name),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// As `eval` writes it: `eval/tests/report.rs`.
    const GOLDEN: &str = include_str!("../../eval/tests/golden/report.json");

    fn report(passed: bool) -> Value {
        let mut report: Value = serde_json::from_str(GOLDEN).unwrap();
        report["gates"][0]["passed"] = json!(passed);
        report
    }

    fn load(value: &Value) -> anyhow::Result<Measured> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), value.to_string())?;
        Measured::load(file.path())
    }

    #[test]
    fn figures_are_found_by_recipe() {
        let measured = load(&report(true)).unwrap();
        let quality = measured.quality("Q8_0");
        assert_eq!((quality.mean_kl, quality.top1_agreement), (Some(0.0012), Some(0.985)));
        assert_eq!((quality.reference_perplexity, quality.perplexity), (Some(21.25), Some(21.5)));
        let task = |task: &TaskScore| {
            (task.task.clone(), task.metric.clone(), task.value, task.unquantized, task.questions)
        };
        let expected = ("arc".to_owned(), "acc".to_owned(), 0.5, Some(0.75), 4);
        assert_eq!(quality.tasks.iter().map(task).collect::<Vec<_>>(), [expected]);
        assert_eq!(measured.quality("F32"), Quality::default());
        let unquantized = measured.file("F32").unwrap();
        assert!(unquantized.sha256.is_some() && unquantized.tensor_bytes == Some(128));
        let pieces = MeasuredFile { sha256: None, tensor_bytes: Some(34) };
        assert_eq!(measured.file("Q8_0").unwrap(), pieces);
        assert!(measured.file("Q4_K_M").is_err());
    }

    #[test]
    fn a_missed_gate_ends_with_its_name_and_by_how_much() {
        let mut missed = report(false);
        missed["gates"][0]["measured"] = json!(1e-3);
        missed["gates"][0]["limit"] = json!(5e-4);
        let error = load(&missed).unwrap_err();
        assert!(error.downcast_ref::<cli::GateFailed>().is_some());
        assert_eq!(
            error.to_string(),
            "gate failed: Q8_0 reference : F32 reference, mean KL = 1e-3, limit 5e-4, missed by \
             5e-4"
        );
    }

    #[test]
    fn what_is_no_report_is_refused() {
        assert!(load(&json!({})).unwrap_err().to_string().contains("is no report"));
        let mut newer = report(true);
        newer["version"] = json!(2);
        assert!(load(&newer).unwrap_err().to_string().contains("run eval again"));
        assert!(
            Measured::load(Path::new("/no/such")).unwrap_err().to_string().contains("run eval")
        );
    }
}
