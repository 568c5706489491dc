//! Renders chat templates for `tests/peers/chat_templates.py`: each line of stdin is a JSON object
//! with a template and its input, each line of stdout one with the text or the error.

use std::io::Write;

use chat_template::{ChatTemplate, TemplateInput};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Question {
    template: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
    input: TemplateInput,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Text(String),
    Error(String),
}

fn main() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lines() {
        let question: Question = serde_json::from_str(&line?)?;
        let answer = match render(&question) {
            Ok(text) => Answer::Text(text),
            Err(error) => Answer::Error(format!("{error:#}")),
        };
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

fn render(question: &Question) -> anyhow::Result<String> {
    let (bos, eos) = (question.bos_token.as_deref(), question.eos_token.as_deref());
    ChatTemplate::new(&question.template, bos, eos)?.render_input(&question.input)
}
