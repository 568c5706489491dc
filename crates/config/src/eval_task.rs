//! `[[eval.task]]`: questions that every variant of a run must answer well enough.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file of questions and how to ask them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvalTask {
    /// The questions: JSON Lines, JSON, CSV or Parquet. Relative to the working directory.
    pub path: PathBuf,
    /// The layout of the questions; recognised from the fields if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskKind>,
    /// Answered examples before each question.
    pub shots: usize,
    /// The file of these examples; the questions' own file if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shots_from: Option<PathBuf>,
    /// Ask the first questions only; all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Ask as a user of a chat.
    pub chat: bool,
    /// Most tokens of a generated answer.
    pub max_tokens: usize,
    /// What is judged: `acc`, `acc_norm`, `acc_bytes`, or `exact_match`, where there are several
    /// with a comma and the filter (`exact_match,flexible-extract`). The task's first if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Least value of the metric of every model, the unquantized one included, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// How much a quantized variant may lose against the unquantized model, in the metric's unit:
    /// 0.02 are two points of a hundred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_loss: Option<f64>,
}

impl EvalTask {
    /// Tokens of a generated answer, at most, as in lm-evaluation-harness.
    pub const MAX_TOKENS: usize = 256;
}

impl Default for EvalTask {
    fn default() -> Self {
        EvalTask {
            path: PathBuf::new(),
            task: None,
            shots: 0,
            shots_from: None,
            limit: None,
            chat: false,
            max_tokens: Self::MAX_TOKENS,
            metric: None,
            minimum: None,
            largest_loss: None,
        }
    }
}

/// The layout of a file of questions, and with it the form of the prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// `activity_label`, `ctx_a`, `ctx_b`, `endings`, `label`.
    #[serde(rename = "hellaswag")]
    HellaSwag,
    /// `question`, `choices.text`, `choices.label`, `answerKey`.
    Arc,
    /// `goal`, `sol1`, `sol2`, `label`.
    Piqa,
    /// `question`, four `choices`, `answer` from 0, and a `subject`.
    Mmlu,
    /// `query`, `choices`, `gold` from 0.
    MultipleChoice,
    /// `question` and `answer` with `#### 42` at its end; or `prompt` or `messages`, `answer`, and
    /// a `pattern` that finds the answer in what was generated.
    Generate,
}

impl TaskKind {
    /// All of them.
    pub const ALL: [TaskKind; 6] = [
        TaskKind::HellaSwag,
        TaskKind::Arc,
        TaskKind::Piqa,
        TaskKind::Mmlu,
        TaskKind::MultipleChoice,
        TaskKind::Generate,
    ];

    /// As it is written in a run file.
    pub fn name(self) -> &'static str {
        match self {
            TaskKind::HellaSwag => "hellaswag",
            TaskKind::Arc => "arc",
            TaskKind::Piqa => "piqa",
            TaskKind::Mmlu => "mmlu",
            TaskKind::MultipleChoice => "multiple-choice",
            TaskKind::Generate => "generate",
        }
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for TaskKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        TaskKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let known = TaskKind::ALL.map(TaskKind::name).join(", ");
            format!("\"{text}\" is not a task: expected one of {known}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_spelled_alike_in_run_files_and_on_the_command_line() {
        for kind in TaskKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        let error = "winogrande".parse::<TaskKind>().unwrap_err();
        assert!(error.contains("expected one of hellaswag, arc, piqa, mmlu"), "{error}");
    }
}
