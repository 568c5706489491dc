//! Prompts and seams between tokens against lm-evaluation-harness: `tests/peers/tasks.py --golden`
//! wrote the expected values with its own task files and its Hugging Face model.

use std::path::{Path, PathBuf};

use config::EvalTask;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Golden {
    /// Tokens that the model reads at once.
    context_length: usize,
    tasks: Vec<GoldenTask>,
}

#[derive(Deserialize)]
struct GoldenTask {
    file: String,
    shots: usize,
    shots_from: Option<String>,
    questions: Vec<GoldenQuestion>,
}

#[derive(Deserialize)]
struct GoldenQuestion {
    number: usize,
    context: String,
    choices: Vec<GoldenChoice>,
}

#[derive(Deserialize)]
struct GoldenChoice {
    context: Vec<u32>,
    continuation: Vec<u32>,
    read: Vec<u32>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tasks")
}

/// A byte-level BPE of 400 tokens that puts `<s>` before a text.
fn tokenizer() -> Tokenizer {
    Tokenizer::open(&folder().join("tokenizer.json")).unwrap()
}

#[test]
fn prompts_and_tokens_are_those_of_the_harness() {
    let golden = std::fs::read_to_string(folder().join("golden.json")).unwrap();
    let golden: Golden = serde_json::from_str(&golden).unwrap();
    let tokenizer = tokenizer();
    let encoder =
        Encoder::new(&tokenizer, tokenizer.vocab_size(), golden.context_length, false).unwrap();
    let (mut choices, mut cut) = (0, 0);
    for task in &golden.tasks {
        let spec = EvalTask {
            path: folder().join(&task.file),
            shots: task.shots,
            shots_from: task.shots_from.as_ref().map(|name| folder().join(name)),
            ..EvalTask::default()
        };
        let read = Task::read(&spec, &[]).unwrap();
        for expected in &task.questions {
            let place = format!("{}:{}, {} shots", task.file, expected.number, task.shots);
            let question = read.questions.iter().find(|it| it.number == expected.number).unwrap();
            let context = encoder.text(read.context(question)).unwrap();
            assert_eq!(context, expected.context, "{place}");
            let Answer::Choice { choices: texts, .. } = &question.asked.answer else { continue };
            let scored = encoder.choices(&read, &context, &question.asked.answer).unwrap();
            assert_eq!(scored.len(), expected.choices.len(), "{place}");
            for ((text, scored), expected) in texts.iter().zip(scored).zip(&expected.choices) {
                let (before, own) =
                    encoder.pair(&context, &format!("{}{text}", read.delimiter())).unwrap();
                assert_eq!(before, expected.context, "{place}, {text}");
                assert_eq!(own, expected.continuation, "{place}, {text}");
                assert_eq!(scored.continuation, own.len());
                let (_, read) = scored.tokens.split_last().unwrap();
                assert_eq!(read, expected.read, "{place}, {text}");
                choices += 1;
                cut += usize::from(read.len() < before.len() + own.len() - 1);
            }
        }
    }
    assert!(choices > 100 && cut > 10, "{choices} choices, {cut} of them cut on the left");
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let tokenizer = tokenizer();
    let encoder = Encoder::new(&tokenizer, tokenizer.vocab_size(), 8, false).unwrap();
    let refused = |choice: &str| {
        let choices = vec!["a".to_owned(), choice.to_owned()];
        let answer = Answer::Choice { choices, gold: 0 };
        let spec = EvalTask { path: folder().join("multiple-choice.jsonl"), ..EvalTask::default() };
        let task = Task::read(&spec, &[]).unwrap();
        format!("{:#}", encoder.choices(&task, "Q", &answer).unwrap_err())
    };
    assert_eq!(
        refused(&"xz".repeat(9)),
        "choice 1 (from 0) has 19 tokens; expected at most the context of 8"
    );
    let error = encoder.prompt("a", 8).unwrap_err().to_string();
    assert_eq!(error, "--max-tokens 8: expected fewer than the context of 8");
    let no_template = Encoder::new(&tokenizer, 400, 8, true).err().unwrap().to_string();
    assert!(no_template.starts_with("the model has no chat template"), "{no_template}");
}
