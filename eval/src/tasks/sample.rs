//! The outcome of one question, for `--log-samples`.

use serde::Serialize;

use super::layout::{Answer, Question};
use super::likelihood::Likelihood;
use super::{Asking, file_name};

/// One question, what the model said, and what that is worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// The model's label.
    pub model: String,
    /// `hellaswag`, ...
    pub task: String,
    /// Name of the file of questions.
    pub file: String,
    /// The question's number in it, from 1.
    pub question: usize,
    /// What the model read.
    pub context: String,
    /// What it said.
    #[serde(flatten)]
    pub outcome: SampleOutcome,
}

/// What a model said.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum SampleOutcome {
    /// Of a question with choices.
    Choice {
        /// The choices.
        choices: Vec<String>,
        /// The right one.
        gold: usize,
        /// Log-likelihood of each, in nats.
        log_likelihoods: Vec<f64>,
        /// Whether each is what the model would have generated.
        is_greedy: Vec<bool>,
        /// The one with the largest log-likelihood.
        chosen: usize,
        /// The one with the largest for each character.
        chosen_norm: usize,
        /// The one with the largest for each byte.
        chosen_bytes: usize,
    },
    /// Of a question with an answer.
    Text {
        /// The right answer.
        answer: String,
        /// What the model wrote.
        generated: String,
        /// What each filter found in it, and whether it is right.
        filtered: Vec<(String, bool)>,
    },
}

impl Sample {
    fn of(asking: &Asking<'_>, question: &Question, context: &str, outcome: SampleOutcome) -> Self {
        Sample {
            model: asking.model.label.clone(),
            task: asking.task.name.to_owned(),
            file: file_name(&asking.task.path),
            question: question.number,
            context: context.to_owned(),
            outcome,
        }
    }

    pub(super) fn of_choices(
        asking: &Asking<'_>,
        question: &Question,
        context: &str,
        likelihoods: &[Likelihood],
        chosen: [usize; 3],
    ) -> Self {
        let (choices, gold) = match &question.asked.answer {
            Answer::Choice { choices, gold } => (choices.clone(), *gold),
            _ => (Vec::new(), 0),
        };
        let [chosen, chosen_norm, chosen_bytes] = chosen;
        let outcome = SampleOutcome::Choice {
            choices,
            gold,
            log_likelihoods: likelihoods.iter().map(|likelihood| likelihood.log).collect(),
            is_greedy: likelihoods.iter().map(|likelihood| likelihood.is_greedy).collect(),
            chosen,
            chosen_norm,
            chosen_bytes,
        };
        Self::of(asking, question, context, outcome)
    }

    pub(super) fn of_text(
        asking: &Asking<'_>,
        question: &Question,
        context: &str,
        generated: &str,
        filtered: &[(String, bool)],
    ) -> Self {
        let outcome = SampleOutcome::Text {
            answer: question.asked.answer.example().to_owned(),
            generated: generated.to_owned(),
            filtered: filtered.to_vec(),
        };
        Self::of(asking, question, context, outcome)
    }
}
