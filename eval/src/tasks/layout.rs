//! From records to questions: the layouts of public tasks, and the text of each question as the
//! task files of lm-evaluation-harness write it (`lm_eval/tasks/{hellaswag,arc,piqa,mmlu,gsm8k}`).

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use config::TaskKind;
use data::Place;
use generate::chat::Message;
use serde::Deserialize;

use super::python::{capitalize, strip};
use super::records::{Record, kind, texts};

/// Most choices of a question.
const MOST_CHOICES: usize = 1024;
/// Longest pattern, in bytes.
const LONGEST_PATTERN: usize = 4096;

/// A question and where it stands.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its number in the file, from 1.
    pub number: usize,
    /// Where it stands, for messages.
    pub place: Place,
    /// What is asked.
    pub asked: Asked,
}

/// A question without its place: equal ones are the same question.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// What the model reads.
    pub prompt: Prompt,
    /// Examples are of the same subject.
    pub subject: Option<String>,
    /// What it should say.
    pub answer: Answer,
}

/// What the model reads.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A text to continue.
    Text(String),
    /// A conversation to answer.
    Messages(Vec<Message>),
}

/// What the model should say.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// One of several texts.
    Choice {
        /// All of them.
        choices: Vec<String>,
        /// The right one.
        gold: usize,
    },
    /// GSM8K: a solution that ends with `#### 42`.
    Number(String),
    /// Exactly this text, or this found by a regular expression.
    Text {
        /// The right text.
        text: String,
        /// Finds the answer in what was generated.
        pattern: Option<String>,
    },
}

impl Answer {
    /// What an answered example says.
    pub fn example(&self) -> &str {
        match self {
            Answer::Choice { choices, gold } => choices.get(*gold).map_or("", String::as_str),
            Answer::Number(text) | Answer::Text { text, .. } => text,
        }
    }
}

/// Reads the questions of a file, in its order, with the layout of the first if `wanted` is none.
///
/// # Errors
/// When the file cannot be read, or a record does not have the fields of the layout; the message
/// names file and line.
pub fn read(path: &Path, wanted: Option<TaskKind>) -> Result<(TaskKind, Vec<Question>)> {
    let records = super::records::read(path)?;
    let mut layout = wanted;
    let mut questions = Vec::with_capacity(records.len());
    for (index, record) in records.iter().enumerate() {
        let place = || record.place.to_string();
        let kind = match layout {
            Some(kind) => kind,
            None => *layout.insert(recognise(record).with_context(place)?),
        };
        let asked = question(kind, record).with_context(place)?;
        if let Some(first) = questions.first() {
            check_alike(first, &asked).with_context(place)?;
        }
        questions.push(Question { number: index + 1, place: record.place.clone(), asked });
    }
    let kind = layout.with_context(|| format!("{}: no questions", path.display()))?;
    Ok((kind, questions))
}

/// The questions of a file are judged by the same metrics.
fn check_alike(first: &Question, asked: &Asked) -> Result<()> {
    let form = |answer: &Answer| match answer {
        Answer::Choice { .. } => "choices",
        Answer::Number(_) => "`question` and `answer`",
        Answer::Text { pattern: None, .. } => "`answer` without `pattern`",
        Answer::Text { pattern: Some(_), .. } => "`answer` and `pattern`",
    };
    let (before, here) = (form(&first.asked.answer), form(&asked.answer));
    ensure!(before == here, "{here} here and {before} in {}; divide the file", first.place);
    Ok(())
}

fn recognise(record: &Record) -> Result<TaskKind> {
    let all = |names: &[&str]| names.iter().all(|name| record.has(name));
    let layouts: [(&[&str], TaskKind); 8] = [
        (&["ctx_a", "endings"], TaskKind::HellaSwag),
        (&["question", "choices", "answerKey"], TaskKind::Arc),
        (&["goal", "sol1", "sol2"], TaskKind::Piqa),
        (&["query", "choices"], TaskKind::MultipleChoice),
        (&["question", "choices"], TaskKind::Mmlu),
        (&["question", "answer"], TaskKind::Generate),
        (&["prompt", "answer"], TaskKind::Generate),
        (&["messages", "answer"], TaskKind::Generate),
    ];
    match layouts.iter().find(|(names, _)| all(names)) {
        Some((_, kind)) => Ok(*kind),
        None => {
            let known = layouts.map(|(names, kind)| format!("{kind}: {}", names.join(" ")));
            bail!("the fields {} are of no known task ({})", record.names(), known.join("; "))
        }
    }
}

fn question(kind: TaskKind, record: &Record) -> Result<Asked> {
    match kind {
        TaskKind::HellaSwag => hellaswag(record),
        TaskKind::Arc => arc(record),
        TaskKind::Piqa => piqa(record),
        TaskKind::Mmlu => mmlu(record),
        TaskKind::MultipleChoice => multiple_choice(record),
        TaskKind::Generate => generated(record),
    }
}

/// Checked before the index of the right one is.
fn check_choices(choices: &[String]) -> Result<()> {
    ensure!(choices.len() >= 2, "{} choices; expected at least 2", choices.len());
    if let Some(empty) = choices.iter().position(String::is_empty) {
        bail!("choice {empty} (from 0) is empty; expected a text");
    }
    Ok(())
}

fn of_choices(prompt: String, choices: Vec<String>, gold: usize) -> Asked {
    let answer = Answer::Choice { choices, gold };
    Asked { prompt: Prompt::Text(prompt), subject: None, answer }
}

fn hellaswag(record: &Record) -> Result<Asked> {
    let context = format!("{} {}", record.text("ctx_a")?, capitalize(record.text("ctx_b")?));
    let query = without_artifacts(&format!("{}: {context}", record.text("activity_label")?));
    let endings = texts(record.field("endings")?, "endings", MOST_CHOICES)?;
    let choices: Vec<String> = endings.iter().map(|ending| without_artifacts(ending)).collect();
    check_choices(&choices)?;
    let gold = record.index("label", choices.len())?;
    Ok(of_choices(query, choices, gold))
}

/// `preprocess` of HellaSwag: brackets are left over from WikiHow.
fn without_artifacts(text: &str) -> String {
    without_brackets(&strip(text).replace(" [title]", ". ")).replace("  ", " ")
}

/// `re.sub("\\[.*?\\]", "", text)`: `.` is not a line break.
fn without_brackets(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let (before, inside) = rest.split_at(open);
        kept.push_str(before);
        rest = match inside.find([']', '\n']) {
            Some(end) if inside[end..].starts_with(']') => &inside[end + 1..],
            _ => {
                kept.push('[');
                &inside[1..]
            }
        };
    }
    kept + rest
}

fn arc(record: &Record) -> Result<Asked> {
    let query = format!("Question: {}\nAnswer:", record.text("question")?);
    let listed = record.field("choices")?;
    let list = |name: &str| {
        let found = listed.get(name);
        let found = found.with_context(|| format!("no field `choices.{name}`"))?;
        texts(found, &format!("choices.{name}"), MOST_CHOICES)
    };
    let (choices, labels) = (list("text")?, list("label")?);
    ensure!(
        choices.len() == labels.len(),
        "{} texts in `choices.text` and {} in `choices.label`; expected as many",
        choices.len(),
        labels.len()
    );
    check_choices(&choices)?;
    let key = record.text("answerKey")?;
    let gold = labels.iter().position(|label| label == key);
    let gold = gold.with_context(|| {
        format!("`answerKey` is {key:?}; expected one of {}", labels.join(", "))
    })?;
    Ok(of_choices(query, choices, gold))
}

fn piqa(record: &Record) -> Result<Asked> {
    let query = format!("Question: {}\nAnswer:", record.text("goal")?);
    let choices = vec![record.text("sol1")?.to_owned(), record.text("sol2")?.to_owned()];
    check_choices(&choices)?;
    Ok(of_choices(query, choices, record.index("label", 2)?))
}

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

fn mmlu(record: &Record) -> Result<Asked> {
    let texts = texts(record.field("choices")?, "choices", MOST_CHOICES)?;
    ensure!(texts.len() == 4, "{} choices; expected 4", texts.len());
    let mut query = strip(record.text("question")?).to_owned();
    for (letter, text) in LETTERS.iter().zip(&texts) {
        query.push_str(&format!("\n{letter}. {text}"));
    }
    query.push_str("\nAnswer:");
    let gold = record.index("answer", 4)?;
    let subject = match record.has("subject") {
        true => Some(record.text("subject")?.to_owned()),
        false => None,
    };
    let asked = of_choices(query, LETTERS.map(str::to_owned).to_vec(), gold);
    Ok(Asked { subject, ..asked })
}

fn multiple_choice(record: &Record) -> Result<Asked> {
    let choices = texts(record.field("choices")?, "choices", MOST_CHOICES)?;
    check_choices(&choices)?;
    let gold = record.index("gold", choices.len())?;
    Ok(of_choices(record.text("query")?.to_owned(), choices, gold))
}

fn generated(record: &Record) -> Result<Asked> {
    if record.has("question") {
        let answer = record.text("answer")?;
        ensure!(
            answer.contains("#### "),
            "`answer` has no `#### ` before its number, which a `question` needs; give `prompt` and \
             `answer` for any other text"
        );
        let prompt = Prompt::Text(format!("Question: {}\nAnswer:", record.text("question")?));
        let answer = Answer::Number(answer.to_owned());
        return Ok(Asked { prompt, subject: None, answer });
    }
    let prompt = match record.has("messages") {
        true => Prompt::Messages(messages(record)?),
        false => Prompt::Text(record.text("prompt")?.to_owned()),
    };
    let pattern = match record.has("pattern") {
        true => Some(pattern(record.text("pattern")?)?),
        false => None,
    };
    let text = record.text("answer")?.to_owned();
    Ok(Asked { prompt, subject: None, answer: Answer::Text { text, pattern } })
}

fn messages(record: &Record) -> Result<Vec<Message>> {
    let value = record.field("messages")?;
    let messages = Vec::<Message>::deserialize(value).with_context(|| {
        format!("`messages` is {}; expected role and content of each", kind(value))
    })?;
    let last = messages.last().context("`messages` is empty; expected a question")?;
    ensure!(
        last.role == generate::chat::Speaker::User,
        "`messages` ends with the role {:?}; expected the user's question",
        last.role
    );
    Ok(messages)
}

fn pattern(text: &str) -> Result<String> {
    ensure!(
        text.len() <= LONGEST_PATTERN,
        "`pattern` has {} bytes; expected at most {LONGEST_PATTERN}",
        text.len()
    );
    super::filters::compile(text)?;
    Ok(text.to_owned())
}

/// The task's name in a report: GSM8K's layout has its own.
pub fn name(kind: TaskKind, questions: &[Question]) -> &'static str {
    match questions.first().map(|question| &question.asked.answer) {
        Some(Answer::Number(_)) => "gsm8k",
        _ => kind.name(),
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
