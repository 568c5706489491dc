//! Conversations as text in which it is known what the model answers, for training.
//!
//! A template may say so itself (`{% generation %}`). For any other, an answer is what the template
//! adds when it renders the conversation up to the answer, with the beginning of an answer behind
//! it, and once more with the answer in it:
//!
//! ```text
//! render(turns before, add_generation_prompt)  <|im_start|>user ... <|im_start|>assistant
//! render(turns up to the answer)               <|im_start|>user ... <|im_start|>assistant Hello.<|im_end|>
//!                                                                                         ^^^^^^^^^^^^^^^^
//! ```
//!
//! This holds only if the template writes each turn once and does not change it when more turns
//! follow, which is checked.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Result, anyhow};
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use minijinja::Template;
use minijinja::value::{Serde, Value};
use serde::{Deserialize, Serialize};

use crate::{
    ChatTemplate, NAME, TemplateInput, environment, failure, generation, isolated, refusal,
};

/// Around answers that a template marks itself: noncharacters, which Unicode reserves for programs.
/// No message may hold them.
pub const MARKS: [char; 2] = ['\u{fdd2}', '\u{fdd3}'];

/// What templates are told that today is: the date that Llama 3's has where it is told none. A date
/// that moves would make another training text each day.
const TODAY: Date = date(2024, 7, 26);

/// Time for each text of a batch; one takes about a tenth of a millisecond.
const EACH: Duration = Duration::from_millis(5);
/// Conversations of a batch that may go beyond the bounds before the rest is given up.
const MOST_FAILURES: usize = 3;

/// A conversation as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The whole conversation.
    pub text: String,
    /// The model's answers, in bytes of `text`: in order, none of them empty.
    pub answers: Vec<Range<usize>>,
}

/// What the process that renders says of a conversation.
#[derive(Serialize, Deserialize)]
enum Outcome {
    Answered(Answered),
    /// The text of [`refusal`].
    Failed(String),
    /// Why the answers cannot be told from the text.
    Refused(String),
}

impl Outcome {
    fn into_result(self) -> Result<Answered> {
        match self {
            Outcome::Answered(answered) => Ok(answered),
            Outcome::Failed(text) => Err(failure(&text)),
            Outcome::Refused(text) => Err(anyhow!(text)),
        }
    }
}

impl ChatTemplate {
    /// Whether the template says itself which text is an answer (`{% generation %}`).
    pub fn marks_answers(&self) -> bool {
        generation::is_used(&self.source)
    }

    /// Renders conversations with their answers: those of the messages at and behind a number, by
    /// which the second of each pair says where the first trains. They are rendered in one process,
    /// so that thousands of conversations take seconds.
    ///
    /// # Errors
    /// For each conversation: what [`ChatTemplate::render_input`] refuses; an answer that cannot
    /// be told from the text around it; and a conversation without an answer.
    pub fn render_answered(&self, inputs: &[(TemplateInput, usize)]) -> Vec<Result<Answered>> {
        if let Some(outcomes) = self.outcomes(inputs).ok().filter(|all| all.len() == inputs.len()) {
            return outcomes.into_iter().map(Outcome::into_result).collect();
        }
        // One of them goes beyond the bounds: each gets a process of its own.
        let (mut failures, mut last) = (0, String::new());
        let alone = |input| {
            if failures == MOST_FAILURES {
                return Err(failure(&format!("{last}; that happened {MOST_FAILURES} times")));
            }
            match self.outcomes(std::slice::from_ref(input)) {
                Ok(outcomes) => {
                    let outcome = outcomes.into_iter().next();
                    outcome.ok_or_else(|| failure("it gives no text"))?.into_result()
                }
                Err(error) => {
                    failures += 1;
                    last = error.to_string();
                    Err(failure(&last))
                }
            }
        };
        inputs.iter().map(alone).collect()
    }

    /// What one process says of all of them.
    fn outcomes(&self, inputs: &[(TemplateInput, usize)]) -> Result<Vec<Outcome>> {
        let messages = |(input, _): &(TemplateInput, usize)| input.messages.len().unwrap_or(0);
        let texts: usize = inputs.iter().map(|input| 1 + 2 * messages(input)).sum();
        let time = isolated::LONGEST + EACH * u32::try_from(texts).unwrap_or(u32::MAX / 1000);
        let text = isolated::run(time, || {
            let today = TODAY.to_zoned(TimeZone::UTC)?;
            let environment = environment(&self.source, today, Some(MARKS))?;
            let template = environment.get_template(NAME)?;
            let outcomes: Vec<Outcome> = inputs
                .iter()
                .map(|(input, first)| self.outcome(&template, input, *first))
                .collect();
            Ok(serde_json::to_string(&outcomes)?)
        })?;
        Ok(serde_json::from_str(&text)?)
    }

    fn outcome(&self, template: &Template<'_, '_>, input: &TemplateInput, first: usize) -> Outcome {
        let messages: Vec<Value> = input.messages.try_iter().into_iter().flatten().collect();
        let render = |end: usize, add_generation_prompt: bool| -> Result<String> {
            let variables = self.variables(&TemplateInput {
                messages: Value::from(messages[..end].to_vec()),
                tools: input.tools.clone(),
                add_generation_prompt,
            })?;
            template.render(variables).map_err(|error| refusal(&error))
        };
        let found = match self.marks_answers() {
            true => render(messages.len(), false).map(|text| Ok(from_marks(&text))),
            false => from_prefixes(&messages, first, render),
        };
        match found {
            Err(error) => Outcome::Failed(format!("{error:#}")),
            Ok(Err(reason)) => Outcome::Refused(reason),
            Ok(Ok(answered)) if answered.answers.is_empty() => {
                Outcome::Refused("the conversation has no answer to learn".to_owned())
            }
            Ok(Ok(answered)) => Outcome::Answered(answered),
        }
    }
}

impl TemplateInput {
    /// From JSON: a list of messages, and a list of tools or `null`.
    pub fn from_json(messages: &serde_json::Value, tools: &serde_json::Value) -> Self {
        TemplateInput {
            messages: Value::from(Serde(messages)),
            tools: Value::from(Serde(tools)),
            add_generation_prompt: false,
        }
    }
}

/// A text without [`MARKS`], and what stood between them.
fn from_marks(marked: &str) -> Answered {
    let mut answered = Answered { text: String::with_capacity(marked.len()), answers: Vec::new() };
    let mut start = None;
    for letter in marked.chars() {
        match letter {
            letter if letter == MARKS[0] => start = Some(answered.text.len()),
            letter if letter == MARKS[1] => {
                let start = start.take().unwrap_or(answered.text.len());
                if start < answered.text.len() {
                    answered.answers.push(start..answered.text.len());
                }
            }
            letter => answered.text.push(letter),
        }
    }
    answered
}

/// The whole text, and each answer from the text before it and the text with it.
///
/// # Errors
/// Those of `render`; inside of them, why the answers cannot be told from the text.
fn from_prefixes(
    messages: &[Value],
    first: usize,
    render: impl Fn(usize, bool) -> Result<String>,
) -> Result<Result<Answered, String>> {
    let mut answered = Answered { text: render(messages.len(), false)?, answers: Vec::new() };
    for (at, message) in messages.iter().enumerate().skip(first) {
        let role = message.get_attr("role").ok();
        if role.as_ref().and_then(Value::as_str) != Some("assistant") {
            continue;
        }
        let (before, behind) = (render(at, true)?, render(at + 1, false)?);
        let number = at + 1;
        if !behind.starts_with(&before) {
            return Ok(Err(format!(
                "the {NAME} writes something else before message {number} when that is given than \
                 when the model is to write it; give one that marks answers with {{% generation %}} \
                 as data.chat_template"
            )));
        }
        if !answered.text.starts_with(&behind) {
            return Ok(Err(format!(
                "the {NAME} changes message {number} when others follow it; set data.train_on = \
                 \"last\", or give one that marks answers with {{% generation %}} as \
                 data.chat_template"
            )));
        }
        if before.len() < behind.len() {
            answered.answers.push(before.len()..behind.len());
        }
    }
    Ok(Ok(answered))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CHATML: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor \
                          %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

    fn conversation() -> TemplateInput {
        let messages = json!([
            { "role": "user", "content": "a" }, { "role": "assistant", "content": "b" },
            { "role": "user", "content": "c" }, { "role": "assistant", "content": "d" },
        ]);
        TemplateInput::from_json(&messages, &json!(null))
    }

    fn answers(template: &str, first: usize) -> Result<Vec<String>> {
        let template = ChatTemplate::new(template, None, None)?;
        let mut found = template.render_answered(&[(conversation(), first)]);
        let Answered { text, answers } = found.remove(0)?;
        Ok(answers.into_iter().map(|answer| text[answer].to_owned()).collect())
    }

    #[test]
    fn an_answer_is_what_the_template_adds_for_it() {
        assert_eq!(answers(CHATML, 0).unwrap(), ["b<|end|>\n", "d<|end|>\n"]);
        assert_eq!(answers(CHATML, 2).unwrap(), ["d<|end|>\n"]);
    }

    #[test]
    fn a_template_may_say_it_itself() {
        let template = "{% for m in messages %}{% if m.role == 'assistant' %}[{% generation %}{{ \
                        m.content }}!{% endgeneration %}]{% else %}{{ m.content }}{% endif \
                        %}{% endfor %}";
        assert_eq!(answers(template, 0).unwrap(), ["b!", "d!"]);
        let template = ChatTemplate::new(template, None, None).unwrap();
        let found = template.render_answered(&[(conversation(), 0)]).remove(0).unwrap();
        assert_eq!(found, Answered { text: "a[b!]c[d!]".to_owned(), answers: vec![2..4, 7..9] });
    }

    #[test]
    fn templates_that_change_earlier_turns_are_refused() {
        let last = "{% for m in messages %}{{ m.role }}:{% if loop.last or m.role == 'user' %}{{ \
                    m.content }}{% endif %};{% endfor %}{% if add_generation_prompt \
                    %}assistant:{% endif %}";
        let error = answers(last, 0).unwrap_err().to_string();
        assert!(error.contains("changes message 2") && error.contains("train_on"), "{error}");
        assert_eq!(answers(last, 2).unwrap(), ["d;"]);
        let other = CHATML.replace("<|assistant|>", "<|model|>");
        let error = answers(&other, 0).unwrap_err().to_string();
        assert!(error.contains("before message 2"), "{error}");
    }

    #[test]
    fn one_conversation_at_fault_is_refused_alone() {
        let template = "{% for m in messages %}{% if m.content == 'no' %}{{ raise_exception('no \
                        no') }}{% endif %}{% if m.content == 'run' %}{% set n = namespace(x='0123456789') %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% \
                        endfor %}{% endif %}{{ m.content }}{% endfor %}";
        let template = ChatTemplate::new(template, None, None).unwrap();
        let said = |text: &str| {
            let messages = json!([
                { "role": "user", "content": "q" }, { "role": "assistant", "content": text }
            ]);
            (TemplateInput::from_json(&messages, &json!(null)), 0)
        };
        let none =
            TemplateInput::from_json(&json!([{ "role": "user", "content": "q" }]), &json!(null));
        let inputs = [said("yes"), said("no"), said("run"), (none, 0), said("yes")];
        let found = template.render_answered(&inputs);
        let text = |at: usize| found[at].as_ref().map(|answered| answered.text.as_str());
        assert_eq!((text(0).unwrap(), text(4).unwrap()), ("qyes", "qyes"));
        let error = |at: usize| found[at].as_ref().unwrap_err().to_string();
        assert_eq!(error(1), "the chat template refuses this conversation: no no");
        assert!(error(2).contains("more than 192 MB"), "{}", error(2));
        assert!(error(3).contains("no answer"), "{}", error(3));
    }

    #[test]
    fn a_template_that_never_ends_is_given_up_after_a_few_conversations() {
        let template = "{% set n = namespace(x='0123456789') %}{% for i in range(40) %}{% set n.x \
                        = n.x ~ n.x %}{% endfor %}";
        let template = ChatTemplate::new(template, None, None).unwrap();
        let inputs: Vec<_> = (0..20).map(|_| (conversation(), 0)).collect();
        let found = template.render_answered(&inputs);
        let errors: Vec<String> =
            found.into_iter().map(|found| found.unwrap_err().to_string()).collect();
        assert!(!errors[2].contains("3 times") && errors[3].contains("3 times"), "{errors:?}");
    }
}
