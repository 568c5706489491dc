//! Tasks: what a model can do, as lm-evaluation-harness measures it.
//!
//! ```text
//! file --layout--> questions --task--> context --encode--> tokens
//!     choices:   likelihood of each choice behind the context  --> acc, acc_norm, acc_bytes
//!     generated: greedy answer --filters--> exact_match
//! ```
//!
//! | metric | right if |
//! |---|---|
//! | `acc` | the right choice has the largest log-likelihood |
//! | `acc_norm` | the same after division by the choice's length in characters |
//! | `acc_bytes` | the same after division by its length in bytes of UTF-8 |
//! | `exact_match,FILTER` | what the filter finds in the generated text is the answer |
//!
//! Names, prompts, seams between tokens, ties and standard errors are those of
//! lm-evaluation-harness 0.4 with a Hugging Face model in f32; `tests/peers/tasks.py` compares.

mod answers;
mod command;
mod encode;
mod filters;
mod gates;
mod layout;
mod likelihood;
mod python;
mod records;
mod report;
mod sample;
mod task;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use generate::{EngineKind, LoadedModel, ModelJob, Ready};

pub use command::{EXAMPLES, TasksArgs, run};
pub use gates::judge;
pub use report::{FORMAT, Metric, TaskResult, TasksReport, VERSION, table};
pub use sample::Sample;
pub use task::{Context, Task};

use crate::report::Engine;
use answers::Writer;
use encode::Encoder;
use layout::{Answer, Prompt, Question};
use likelihood::{Likelihood, Reader, Scored};

/// A model and how to run it.
#[derive(Debug, Clone)]
pub struct TaskModel {
    /// Its name in tables.
    pub label: String,
    /// A checkpoint, a Hugging Face folder, a GGUF or a folder of pieces.
    pub path: PathBuf,
    /// A `tokenizer.json` to use instead of the model's own.
    pub tokenizer: Option<PathBuf>,
    /// What computes its logits.
    pub engine: EngineKind,
    /// Threads that compute; 0 uses all cores.
    pub threads: usize,
    /// Tokens that the model may read at once; its context if not given.
    pub context: Option<usize>,
}

/// Asks one model the questions of every task. `see` gets each question's outcome.
///
/// # Errors
/// When the model cannot be loaded, a question does not fit (the message names file and line), a
/// logit is not finite, or the user stops.
pub fn ask(
    model: &TaskModel,
    tasks: &[Task],
    interrupt: &cli::Interrupt,
    see: &mut dyn FnMut(Sample),
) -> Result<Vec<TaskResult>> {
    let job = ModelJob {
        path: model.path.clone(),
        tokenizer: model.tokenizer.clone(),
        engine: model.engine,
        threads: model.threads,
    };
    let ready = Ready::load(&job)?;
    tasks.iter().map(|task| Asking { model, ready: &ready, task, interrupt }.run(see)).collect()
}

/// One model on one task.
struct Asking<'a> {
    model: &'a TaskModel,
    ready: &'a Ready,
    task: &'a Task,
    interrupt: &'a cli::Interrupt,
}

impl Asking<'_> {
    fn run(&self, see: &mut dyn FnMut(Sample)) -> Result<TaskResult> {
        let start = Instant::now();
        let task = self.task;
        let has_messages =
            |question: &Question| matches!(question.asked.prompt, Prompt::Messages(_));
        let converses = task.chat || task.questions.iter().any(has_messages);
        let (tokenizer, rows) = (&self.ready.tokenizer, self.ready.model.vocab_size());
        let encoder = Encoder::new(tokenizer, rows, self.context()?, converses)
            .with_context(|| self.model.path.display().to_string())?;
        let is_generated = task
            .questions
            .first()
            .is_some_and(|question| !matches!(question.asked.answer, Answer::Choice { .. }));
        let right = match is_generated {
            true => self.generate(&encoder, see)?,
            false => self.choose(&encoder, see)?,
        };
        let metrics = task.metrics();
        let metrics = metrics.iter().zip(&right);
        Ok(TaskResult {
            task: task.name.to_owned(),
            file: file_name(&task.path),
            questions: task.questions.len(),
            shots: task.shots,
            chat: task.chat,
            model: self.model.label.clone(),
            engine: engine_of(self.model.engine),
            metrics: metrics.map(|(name, right)| Metric::of(name, right)).collect(),
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// Tokens that the model reads at once.
    fn context(&self) -> Result<usize> {
        let own = match &self.ready.model {
            LoadedModel::Reference(model) => model.config().context_length,
            LoadedModel::Llama(llama, _) => llama.context_length(),
        };
        let wanted = self.model.context.unwrap_or(own);
        anyhow::ensure!(
            (1..=own).contains(&wanted),
            "--context {wanted}: expected from 1 to the model's context of {own}"
        );
        Ok(wanted)
    }

    /// Whether each question was answered right, for each metric of choices.
    fn choose(&self, encoder: &Encoder<'_>, see: &mut dyn FnMut(Sample)) -> Result<Vec<Vec<bool>>> {
        let mut encoded: Vec<(String, Vec<Scored>)> = Vec::with_capacity(self.task.questions.len());
        for question in &self.task.questions {
            let encode = || -> Result<(String, Vec<Scored>)> {
                let context = encoder.text(self.task.context(question))?;
                let choices = encoder.choices(self.task, &context, &question.asked.answer)?;
                Ok((context, choices))
            };
            encoded.push(encode().with_context(|| self.place(question))?);
        }
        let mut reader =
            Reader::new(&self.ready.model, encoded.iter().map(|(_, choices)| &choices[..]))?;
        let mut right = vec![Vec::new(); self.task.metrics().len()];
        let progress = self.progress();
        for (question, (context, scored)) in self.task.questions.iter().zip(&encoded) {
            self.check_interrupt()?;
            let likelihoods = reader.question(scored).with_context(|| self.place(question))?;
            let Answer::Choice { choices, gold } = &question.asked.answer else { continue };
            let chosen = chosen(&likelihoods, choices);
            for (right, chosen) in right.iter_mut().zip(chosen) {
                right.push(chosen == *gold);
            }
            see(Sample::of_choices(self, question, context, &likelihoods, chosen));
            progress.advance(1);
        }
        progress.finish();
        Ok(right)
    }

    /// Whether each question was answered right, for each filter of generated texts.
    fn generate(
        &self,
        encoder: &Encoder<'_>,
        see: &mut dyn FnMut(Sample),
    ) -> Result<Vec<Vec<bool>>> {
        let task = self.task;
        let mut encoded: Vec<(String, Vec<u32>)> = Vec::with_capacity(task.questions.len());
        for question in &task.questions {
            let encode = || -> Result<(String, Vec<u32>)> {
                let text = encoder.text(task.context(question))?;
                let tokens = encoder.prompt(&text, task.max_tokens)?;
                Ok((text, tokens))
            };
            encoded.push(encode().with_context(|| self.place(question))?);
        }
        let longest = encoded.iter().map(|(_, tokens)| tokens.len()).max().unwrap_or(1);
        let mut writer = Writer::new(self.ready, longest + task.max_tokens)?;
        let mut right = vec![Vec::new(); task.metrics().len()];
        let progress = self.progress();
        for (question, (text, tokens)) in task.questions.iter().zip(&encoded) {
            self.check_interrupt()?;
            let generated = writer
                .answer(tokens, task.max_tokens, &task.stops)
                .with_context(|| self.place(question))?;
            let found = filters::judge(&generated, &question.asked.answer)
                .with_context(|| self.place(question))?;
            for (right, (_, is_right)) in right.iter_mut().zip(&found) {
                right.push(*is_right);
            }
            see(Sample::of_text(self, question, text, &generated, &found));
            progress.advance(1);
        }
        progress.finish();
        Ok(right)
    }

    fn place(&self, question: &Question) -> String {
        question.place.to_string()
    }

    fn progress(&self) -> cli::Progress {
        let title = format!("{} {}", self.model.label, self.task.name);
        cli::Progress::new(&title, self.task.questions.len() as u64, cli::Meter::Items)
    }

    fn check_interrupt(&self) -> Result<()> {
        if self.interrupt.requested() { Err(cli::Interrupted.into()) } else { Ok(()) }
    }
}

/// The choices with the largest log-likelihood: as it is, for each character, for each byte. The
/// first of several.
fn chosen(likelihoods: &[Likelihood], choices: &[String]) -> [usize; 3] {
    let lengths: [fn(&str) -> usize; 3] = [|_| 1, |text| text.chars().count(), str::len];
    lengths.map(|length| {
        let scores = likelihoods
            .iter()
            .zip(choices)
            .map(|(likelihood, choice)| likelihood.log / length(choice) as f64);
        let best = scores.enumerate().fold((0, f64::NEG_INFINITY), |best, (index, score)| {
            if score > best.1 { (index, score) } else { best }
        });
        best.0
    })
}

fn engine_of(kind: EngineKind) -> Engine {
    match kind {
        EngineKind::Reference => Engine::Reference,
        EngineKind::Llama => Engine::LlamaCpp,
    }
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_counted_in_characters_and_in_bytes() {
        let likelihoods = [-6.0, -7.0, -6.0].map(|log| Likelihood { log, is_greedy: false });
        // Characters: 3, 4, 2; bytes: 3, 4, 6.
        let choices = ["abc", "abcd", "日本"].map(str::to_owned);
        assert_eq!(chosen(&likelihoods, &choices), [0, 1, 2]);
    }
}
