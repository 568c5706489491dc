//! Tokens of conversations and which of them train, for `tests/peers/chat_masks.py`: each line of
//! stdin is a JSON object with a template (empty: the tokenizer's) and a record, each line of stdout
//! one with the tokens or the error. The argument is the tokenizer's folder.

use std::io::Write;

use data::Tokenizer;
use data::chat::{TrainingTemplate, chat_tokens, example};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Question {
    template: String,
    record: serde_json::Map<String, serde_json::Value>,
    last_only: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Tokens { ids: Vec<u32>, trains: Vec<bool> },
    Error(String),
}

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).map(std::path::PathBuf::from).unwrap_or_default();
    let tokenizer = Tokenizer::from_folder(&folder)?;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lines() {
        let question: Question = serde_json::from_str(&line?)?;
        let answer = match tokens(&tokenizer, question) {
            Ok(answer) => answer,
            Err(error) => Answer::Error(format!("{error:#}")),
        };
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

fn tokens(tokenizer: &Tokenizer, question: Question) -> anyhow::Result<Answer> {
    let Question { template, record, last_only } = question;
    let source = match template.is_empty() {
        true => TrainingTemplate::source(tokenizer, None)?,
        false => template,
    };
    let template = TrainingTemplate::new(tokenizer, source)?;
    let answered = template.render(&[example(&record, None)?], last_only).remove(0)?;
    let found = chat_tokens(tokenizer, &answered)?;
    Ok(Answer::Tokens { ids: found.ids, trains: found.trains })
}
