//! A file of questions with the text that goes before each: a description, answered examples.
//!
//! Examples are the first of their file, in its order (`first_n` of lm-evaluation-harness). Where
//! they come from the file of the questions, the question itself is not among its examples. Those
//! of a question with a subject are of this subject.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use config::{EvalTask, TaskKind};
use generate::chat::Message;

use super::filters;
use super::layout::{self, Answer, Asked, Prompt, Question};

/// Between a question and its answer in an example, and before a choice.
const DELIMITER: &str = " ";
/// Behind an answered example.
const BETWEEN: &str = "\n\n";

/// Questions, and how they are asked.
#[derive(Debug, Clone)]
pub struct Task {
    /// `hellaswag`, ...; `gsm8k` for its layout.
    pub name: &'static str,
    /// The file of the questions.
    pub path: PathBuf,
    /// The questions to ask.
    pub questions: Vec<Question>,
    /// Answered examples before each.
    pub shots: usize,
    /// Ask as a user of a chat.
    pub chat: bool,
    /// Most tokens of a generated answer.
    pub max_tokens: usize,
    /// Texts that end a generated answer.
    pub stops: Vec<String>,
    /// Candidates for examples, and their places by subject.
    pool: Vec<Asked>,
    by_subject: HashMap<Option<String>, Vec<usize>>,
}

/// What the model reads for one question.
#[derive(Debug, Clone, PartialEq)]
pub enum Context {
    /// A text to continue.
    Text(String),
    /// A conversation, to be written by the model's chat template.
    Messages(Vec<Message>),
}

impl Task {
    /// Reads the files of a task. `stops` are the texts that end a generated answer, those of the
    /// layout if none.
    ///
    /// # Errors
    /// When a file cannot be read or has other records than expected, there are fewer examples than
    /// wanted, or the metric is not one of this task.
    pub fn read(spec: &EvalTask, stops: &[String]) -> Result<Self> {
        let (kind, mut questions) = layout::read(&spec.path, spec.task)?;
        let pool = match &spec.shots_from {
            _ if spec.shots == 0 => Vec::new(),
            None => questions.clone(),
            Some(path) => examples(path, kind, &questions)?,
        };
        questions.truncate(spec.limit.unwrap_or(usize::MAX));
        let mut by_subject: HashMap<Option<String>, Vec<usize>> = HashMap::new();
        let pool: Vec<Asked> = pool.into_iter().map(|question| question.asked).collect();
        for (place, asked) in pool.iter().enumerate() {
            by_subject.entry(asked.subject.clone()).or_default().push(place);
        }
        let stops = match stops {
            [] => default_stops(&questions),
            given => given.to_vec(),
        };
        let task = Task {
            name: layout::name(kind, &questions),
            path: spec.path.clone(),
            questions,
            shots: spec.shots,
            chat: spec.chat,
            max_tokens: spec.max_tokens,
            stops,
            pool,
            by_subject,
        };
        task.check_examples(spec)?;
        if let Some(metric) = &spec.metric {
            task.metric(metric)?;
        }
        Ok(task)
    }

    fn check_examples(&self, spec: &EvalTask) -> Result<()> {
        if self.shots == 0 {
            return Ok(());
        }
        for question in &self.questions {
            let place = &question.place;
            ensure!(
                matches!(question.asked.prompt, Prompt::Text(_)),
                "{place}: examples cannot go before `messages`: put them there, and leave --shots out"
            );
            let found = self.examples_of(&question.asked).take(self.shots).count();
            let from = spec.shots_from.as_ref().unwrap_or(&spec.path);
            let of = question.asked.subject.as_ref().map(|subject| format!(" of {subject}"));
            ensure!(
                found == self.shots,
                "{place}: {} holds {found} examples{}; expected {} (--shots)",
                from.display(),
                of.unwrap_or_default(),
                self.shots
            );
        }
        Ok(())
    }

    fn examples_of<'t>(&'t self, asked: &'t Asked) -> impl Iterator<Item = &'t Asked> {
        let places = self.by_subject.get(&asked.subject).map_or(&[][..], Vec::as_slice);
        let candidates = places.iter().filter_map(|&place| self.pool.get(place));
        candidates.filter(move |example| *example != asked).take(self.shots)
    }

    /// The names of its metrics, `exact_match` with its filter behind a comma.
    pub fn metrics(&self) -> Vec<String> {
        let letters = ["acc"];
        let lengths = ["acc", "acc_norm", "acc_bytes"];
        let first = self.questions.first().map(|question| &question.asked.answer);
        match first {
            Some(Answer::Choice { .. }) if self.name == TaskKind::Mmlu.name() => {
                letters.map(str::to_owned).to_vec()
            }
            Some(Answer::Choice { .. }) => lengths.map(str::to_owned).to_vec(),
            Some(answer) => {
                filters::names(answer).iter().map(|name| format!("exact_match,{name}")).collect()
            }
            None => Vec::new(),
        }
    }

    /// The place of a metric by its name, with or without its filter.
    ///
    /// # Errors
    /// When the task has no such metric.
    pub fn metric(&self, name: &str) -> Result<usize> {
        let metrics = self.metrics();
        let is_it = |metric: &String| {
            metric == name || metric.split_once(',').is_some_and(|(plain, _)| plain == name)
        };
        match metrics.iter().position(is_it) {
            Some(place) => Ok(place),
            None => bail!(
                "{}: {} has no metric {name:?}; expected one of {}",
                self.path.display(),
                self.name,
                metrics.join(" ")
            ),
        }
    }

    /// What the model reads for a question, without an answer.
    pub fn context(&self, question: &Question) -> Context {
        let asked = &question.asked;
        let text = match &asked.prompt {
            Prompt::Messages(messages) => return Context::Messages(messages.clone()),
            Prompt::Text(text) => text,
        };
        let description = asked.subject.as_deref().map(description);
        let examples = self.examples_of(asked).map(|example| {
            let query = match &example.prompt {
                Prompt::Text(text) => text.as_str(),
                Prompt::Messages(_) => "",
            };
            (query, example.answer.example())
        });
        if self.chat {
            let mut messages: Vec<Message> = description.map(Message::system).into_iter().collect();
            for (query, answer) in examples {
                messages.extend([Message::user(query), Message::assistant(answer)]);
            }
            messages.push(Message::user(text));
            return Context::Messages(messages);
        }
        let mut context = description.unwrap_or_default();
        for (query, answer) in examples {
            context.extend([query, DELIMITER, answer, BETWEEN]);
        }
        Context::Text(context + text)
    }

    /// What goes between a context and a choice: a chat's answer begins without a space.
    pub fn delimiter(&self) -> &'static str {
        if self.chat { "" } else { DELIMITER }
    }
}

/// MMLU's words before its questions.
fn description(subject: &str) -> String {
    let subject = subject.replace('_', " ");
    format!("The following are multiple choice questions (with answers) about {subject}.\n\n")
}

fn examples(path: &Path, kind: TaskKind, questions: &[Question]) -> Result<Vec<Question>> {
    let (_, examples) = layout::read(path, Some(kind))?;
    let (ours, theirs) = (layout::name(kind, questions), layout::name(kind, &examples));
    ensure!(ours == theirs, "{}: the layout is {theirs}; expected {ours}", path.display());
    Ok(examples)
}

/// The `until` of lm-evaluation-harness's tasks; a chat ends by the model's own token.
fn default_stops(questions: &[Question]) -> Vec<String> {
    let stops: &[&str] = match questions.first().map(|question| &question.asked) {
        Some(Asked { answer: Answer::Number(_), .. }) => &["Question:", "</s>", "<|im_end|>"],
        Some(Asked { prompt: Prompt::Text(_), .. }) => &[BETWEEN],
        _ => &[],
    };
    stops.iter().map(|&stop| stop.to_owned()).collect()
}
