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

use anyhow::{Result, anyhow, bail, ensure};
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use minijinja::value::{Serde, Value};

use crate::{
    ChatTemplate, NAME, TemplateInput, environment, failure, generation, isolated, refusal,
};

/// Around answers that a template marks itself: noncharacters, which Unicode reserves for programs.
/// No message may hold them.
pub const MARKS: [char; 2] = ['\u{fdd2}', '\u{fdd3}'];

/// What templates are told that today is: the date that Llama 3's has where it is told none. A date
/// that moves would make another training text each day.
const TODAY: Date = date(2024, 7, 26);

/// A conversation as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The whole conversation.
    pub text: String,
    /// The model's answers, in bytes of `text`: in order, none of them empty.
    pub answers: Vec<Range<usize>>,
}

/// A text that is to be rendered: a conversation up to and without message `end`.
struct Part {
    conversation: usize,
    end: usize,
    add_generation_prompt: bool,
}

impl ChatTemplate {
    /// Whether the template says itself which text is an answer (`{% generation %}`).
    pub fn marks_answers(&self) -> bool {
        generation::is_used(&self.source)
    }

    /// Renders conversations, each of which is a list of messages and a list of tools, with the
    /// answers of the messages at and behind `first[i]`. They are rendered in one process, so that
    /// thousands of conversations take seconds.
    ///
    /// # Errors
    /// For each conversation: what [`ChatTemplate::render_input`] refuses; an answer that cannot
    /// be told from the text around it; and a conversation without an answer.
    pub fn render_answered(&self, inputs: &[(TemplateInput, usize)]) -> Vec<Result<Answered>> {
        let marks = self.marks_answers();
        let parts: Vec<Part> = (0..inputs.len())
            .flat_map(|at| parts_of(at, &inputs[at].0, inputs[at].1, marks))
            .collect();
        let mut texts = self.render_parts(inputs, &parts).into_iter();
        let mut parts = parts.iter().peekable();
        let mut take = |conversation: usize| {
            let mut found = Vec::new();
            while let Some(part) = parts.next_if(|part| part.conversation == conversation) {
                let text = texts.next().unwrap_or_else(|| Err(anyhow!("it was not rendered")));
                found.push((part.end, text));
            }
            found
        };
        (0..inputs.len())
            .map(|at| {
                let found = take(at);
                let answered = match marks {
                    true => from_marks(found),
                    false => from_prefixes(found),
                }?;
                ensure!(!answered.answers.is_empty(), "the conversation has no answer to learn");
                Ok(answered)
            })
            .collect()
    }

    /// All parts in one process; if that does not go well, each in one of its own, so that only
    /// the conversation at fault fails.
    fn render_parts(
        &self,
        inputs: &[(TemplateInput, usize)],
        parts: &[Part],
    ) -> Vec<Result<String>> {
        let time = isolated::LONGEST + isolated::LONGEST / 100 * parts.len() as u32;
        let together = isolated::run(time, || {
            let texts = self.render_here(inputs, parts)?;
            Ok(serde_json::to_string(&texts)?)
        });
        let together = together
            .and_then(|text| Ok(serde_json::from_str::<Vec<Result<String, String>>>(&text)?));
        match together {
            Ok(texts) if texts.len() == parts.len() => {
                texts.into_iter().map(|text| text.map_err(|error| failure(&error))).collect()
            }
            Err(error) if parts.len() == 1 => vec![Err(failure(&error.to_string()))],
            Ok(_) if parts.len() == 1 => vec![Err(failure("it gives no text"))],
            _ => parts
                .iter()
                .flat_map(|part| self.render_parts(inputs, std::slice::from_ref(part)))
                .collect(),
        }
    }

    /// What each part renders to, or the text of [`refusal`].
    fn render_here(
        &self,
        inputs: &[(TemplateInput, usize)],
        parts: &[Part],
    ) -> Result<Vec<Result<String, String>>> {
        let today = TODAY.to_zoned(TimeZone::UTC)?;
        let environment = environment(&self.source, today, Some(MARKS))?;
        let template = environment.get_template(NAME)?;
        let render = |part: &Part| -> Result<String> {
            let (input, _) = &inputs[part.conversation];
            let messages = input.messages.try_iter()?.take(part.end).collect::<Vec<Value>>();
            let variables = self.variables(&TemplateInput {
                messages: Value::from(messages),
                tools: input.tools.clone(),
                add_generation_prompt: part.add_generation_prompt,
            })?;
            template.render(variables).map_err(|error| refusal(&error))
        };
        Ok(parts.iter().map(|part| render(part).map_err(|error| format!("{error:#}"))).collect())
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

/// What has to be rendered of one conversation: all of it; and where the template does not mark
/// answers, what stands before and behind each.
fn parts_of(conversation: usize, input: &TemplateInput, first: usize, marks: bool) -> Vec<Part> {
    let messages: Vec<Value> = input.messages.try_iter().into_iter().flatten().collect();
    let part = |end, add_generation_prompt| Part { conversation, end, add_generation_prompt };
    let mut parts = vec![part(messages.len(), false)];
    if marks {
        return parts;
    }
    for (at, message) in messages.iter().enumerate().skip(first) {
        let role = message.get_attr("role").ok();
        if role.as_ref().and_then(Value::as_str) == Some("assistant") {
            parts.extend([part(at, true), part(at + 1, false)]);
        }
    }
    parts
}

/// The whole text, with [`MARKS`] around its answers.
fn from_marks(parts: Vec<(usize, Result<String>)>) -> Result<Answered> {
    let Some((_, marked)) = parts.into_iter().next() else { bail!("it was not rendered") };
    let mut answered = Answered { text: String::new(), answers: Vec::new() };
    let mut start = None;
    for letter in marked?.chars() {
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
    Ok(answered)
}

/// The whole text, and pairs of texts before and behind each answer.
fn from_prefixes(parts: Vec<(usize, Result<String>)>) -> Result<Answered> {
    let mut parts = parts.into_iter();
    let Some((_, whole)) = parts.next() else { bail!("it was not rendered") };
    let mut answered = Answered { text: whole?, answers: Vec::new() };
    while let (Some((at, before)), Some((_, behind))) = (parts.next(), parts.next()) {
        let (before, behind) = (before?, behind?);
        let number = at + 1;
        ensure!(
            behind.starts_with(&before),
            "the {NAME} writes something else before message {number} when that is given than when \
             the model is to write it; give one that marks answers with {{% generation %}} as \
             data.chat_template"
        );
        ensure!(
            answered.text.starts_with(&behind),
            "the {NAME} changes message {number} when others follow it; set data.train_on = \
             \"last\", or give one that marks answers with {{% generation %}} as data.chat_template"
        );
        if before.len() < behind.len() {
            answered.answers.push(before.len()..behind.len());
        }
    }
    Ok(answered)
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
}
