//! The results of tasks: as JSON, and as one table with a column for each model.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::report::Engine;

/// Identifies the file among other JSON.
pub const FORMAT: &str = "pocketgpt.tasks";
/// Raised when a reader of the previous version would misread the file.
pub const VERSION: u32 = 1;

/// What models can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TasksReport {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Version of the program that measured.
    pub program: String,
    /// One for each model and task, model by model.
    pub results: Vec<TaskResult>,
}

/// One model on one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// `hellaswag`, ...
    pub task: String,
    /// Name of the file of questions.
    pub file: String,
    /// Questions asked.
    pub questions: usize,
    /// Answered examples before each.
    pub shots: usize,
    /// Whether the chat template was applied.
    pub chat: bool,
    /// The model's label.
    pub model: String,
    /// What computed its logits.
    pub engine: Engine,
    /// The figures.
    pub metrics: Vec<Metric>,
    /// Seconds that the questions took, without loading the model.
    pub seconds: f64,
}

/// A mean over the questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// `acc`, ...; `exact_match` with its filter behind a comma.
    pub name: String,
    /// From 0 to 1.
    pub value: f64,
    /// The sample's standard deviation over the root of the number of questions; none for one
    /// question.
    pub standard_error: Option<f64>,
}

impl Metric {
    /// The share of questions that were answered right.
    pub fn of(name: &str, right: &[bool]) -> Self {
        let count = right.len() as f64;
        let value = right.iter().filter(|&&right| right).count() as f64 / count.max(1.0);
        let deviations = right.iter().map(|&right| (f64::from(u8::from(right)) - value).powi(2));
        let deviations: f64 = deviations.sum();
        let standard_error =
            (right.len() > 1).then(|| (deviations / (count - 1.0)).sqrt() / count.sqrt());
        Metric { name: name.to_owned(), value, standard_error }
    }
}

impl TaskResult {
    /// Whether another result is of the same questions, asked alike.
    fn is_comparable(&self, other: &TaskResult) -> bool {
        (&self.task, &self.file, self.questions, self.shots, self.chat)
            == (&other.task, &other.file, other.questions, other.shots, other.chat)
    }

    /// Questions answered right, by a metric.
    pub(super) fn right(&self, metric: &Metric) -> f64 {
        (metric.value * self.questions as f64).round()
    }
}

impl fmt::Display for TasksReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", table(&self.results).trim_end())
    }
}

/// A table of results: a row for each task and metric, a column for each model.
pub fn table(results: &[TaskResult]) -> String {
    let mut models: Vec<&str> = Vec::new();
    let mut tasks: Vec<&TaskResult> = Vec::new();
    for result in results {
        if !models.contains(&result.model.as_str()) {
            models.push(&result.model);
        }
        if !tasks.iter().any(|known| known.is_comparable(result)) {
            tasks.push(result);
        }
    }
    let mut rows =
        vec![["task", "file", "questions", "shots", "metric"].map(str::to_owned).to_vec()];
    rows[0].extend(models.iter().map(|&model| model.to_owned()));
    for task in tasks {
        let of = |model: &&str| {
            results.iter().find(|result| result.model == **model && result.is_comparable(task))
        };
        for (place, metric) in task.metrics.iter().enumerate() {
            let mut row = vec![
                task.task.clone(),
                task.file.clone(),
                task.questions.to_string(),
                task.shots.to_string(),
                metric.name.clone(),
            ];
            let figure = |model| of(model).and_then(|result| result.metrics.get(place)).map(shown);
            row.extend(models.iter().map(|model| figure(model).unwrap_or_else(|| "-".to_owned())));
            rows.push(row);
        }
        let mut row = vec![String::new(); 4];
        row.push("time".to_owned());
        let time = |model| of(model).map(|result| cli::seconds(result.seconds));
        row.extend(models.iter().map(|model| time(model).unwrap_or_else(|| "-".to_owned())));
        rows.push(row);
    }
    aligned(&rows)
}

fn shown(metric: &Metric) -> String {
    match metric.standard_error {
        Some(error) => format!("{:.4} ± {error:.4}", metric.value),
        None => format!("{:.4}", metric.value),
    }
}

/// Columns two spaces apart, texts on the left.
fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standard_error_is_the_samples_over_the_root_of_n() {
        // lm_eval.api.metrics.mean_stderr([1, 0, 0, 1, 1]) = 0.2449489742783178
        let metric = Metric::of("acc", &[true, false, false, true, true]);
        assert_eq!(metric.value, 0.6);
        assert!((metric.standard_error.unwrap() - 0.244_948_974_278_317_8).abs() < 1e-15);
        assert_eq!(Metric::of("acc", &[true]).standard_error, None);
    }
}
