//! Keeps typed special tokens as text: special tokens that are spelled in a message are marked
//! before a template renders the conversation, which distinguishes them from those that the
//! template writes itself.
//!
//! transformers does the same with `sanitize_control_tokens`. A template may split a marked text;
//! marks that no longer enclose a special token are dropped.

use anyhow::{Context, Result};
use chat_template::Message;
use serde_json::Value;

use crate::{Part, Tokenizer};

/// Marks around a special token in a message: noncharacters, which Unicode reserves for programs.
const MARKS: [char; 2] = ['\u{fdd0}', '\u{fdd1}'];

/// The tokens of a conversation that `render` writes. Special tokens in the messages stay text,
/// unless `parse_special` is set. The token that begins a text is added if the model expects it and
/// the template did not write it.
///
/// # Errors
/// Those of `render`, and when the vocabulary lacks a part of the text.
pub fn encode_conversation(
    tokenizer: &Tokenizer,
    messages: &[Message],
    parse_special: bool,
    render: impl FnOnce(&[Message]) -> Result<String>,
) -> Result<Vec<u32>> {
    let tokens = if parse_special {
        tokenizer.encode_with_specials(&render(messages)?)
    } else {
        let specials = tokenizer.specials();
        let rendered = render(&mark(messages, &specials))?;
        tokenizer.encode_parts(&parts(&rendered, &specials))
    }
    .context("the conversation")?;
    Ok(match tokenizer.begin_of_text() {
        Some(begin) if tokens.first() != Some(&begin) => [vec![begin], tokens].concat(),
        _ => tokens,
    })
}

/// The messages with every special token in them marked. `specials` are their spellings, the
/// longest first.
fn mark(messages: &[Message], specials: &[&str]) -> Vec<Message> {
    let marked = |message: &Message| Message {
        role: message.role,
        content: mark_text(&message.content, specials),
    };
    messages.iter().map(marked).collect()
}

/// [`mark`] in all texts of messages of any shape, without those that only a template may write.
pub(super) fn mark_json(value: &mut Value, specials: &[&str]) {
    match value {
        Value::String(text) => *text = mark_text(&text.replace(chat_template::MARKS, ""), specials),
        Value::Array(list) => list.iter_mut().for_each(|value| mark_json(value, specials)),
        Value::Object(fields) => {
            let texts = fields.iter_mut().filter(|(key, _)| *key != "role");
            texts.for_each(|(_, value)| mark_json(value, specials));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Where byte `at` of a rendered text lies once the marks are gone.
pub(super) fn unmarked(rendered: &str, at: usize) -> usize {
    at - rendered[..at].matches(MARKS).map(str::len).sum::<usize>()
}

fn mark_text(text: &str, specials: &[&str]) -> String {
    let clean = text.replace(MARKS, "");
    let mut marked = String::with_capacity(clean.len());
    let mut rest = clean.as_str();
    while let Some(letter) = rest.chars().next() {
        let length = match special_at(rest, specials) {
            Some(special) => {
                marked.extend([MARKS[0]]);
                marked.push_str(special);
                marked.extend([MARKS[1]]);
                special.len()
            }
            None => {
                marked.push(letter);
                letter.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    marked
}

/// The parts of a conversation that a template wrote from marked messages.
pub(super) fn parts<'t>(rendered: &'t str, specials: &[&str]) -> Vec<Part<'t>> {
    let mut parts = Vec::new();
    let mut rest = rendered;
    while let Some(at) = rest.find(MARKS) {
        parts.push(Part::Markup(&rest[..at]));
        let is_first = rest[at..].starts_with(MARKS[0]);
        rest = &rest[at + MARKS[0].len_utf8()..];
        let special = special_at(rest, specials).filter(|_| is_first);
        if let Some(special) = special
            && let Some(behind) = rest[special.len()..].strip_prefix(MARKS[1])
        {
            parts.push(Part::Text(&rest[..special.len()]));
            rest = behind;
        }
    }
    parts.push(Part::Markup(rest));
    parts.retain(|part| !matches!(part, Part::Markup("")));
    parts
}

/// The special token at the beginning of `text`.
fn special_at<'s>(text: &str, specials: &[&'s str]) -> Option<&'s str> {
    specials.iter().copied().find(|special| text.starts_with(special))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIALS: [&str; 3] = ["<|im_start|>", "<|im_end|>", "<s>"];

    fn through(content: &str, template: impl Fn(&str) -> String) -> Vec<String> {
        let marked = mark(&[Message::user(content)], &SPECIALS);
        let shown = |part: &Part<'_>| match part {
            Part::Markup(text) => text.to_string(),
            Part::Text(text) => format!("text:{text}"),
        };
        parts(&template(&marked[0].content), &SPECIALS).iter().map(shown).collect()
    }

    #[test]
    fn only_what_the_template_writes_is_markup() {
        let around = |content: &str| format!("<|im_start|>{content}<|im_end|>");
        assert_eq!(through("hi", around), ["<|im_start|>hi<|im_end|>"]);
        assert_eq!(
            through("a<|im_end|>b<s>", around),
            ["<|im_start|>a", "text:<|im_end|>", "b", "text:<s>", "<|im_end|>"]
        );
        assert_eq!(through("", |_| String::new()), [""; 0]);
    }

    #[test]
    fn marks_cannot_be_typed_and_templates_may_take_text_apart() {
        let plain = |content: &str| content.to_owned();
        assert_eq!(through("a\u{fdd1}<s>\u{fdd0}b", plain), ["a", "text:<s>", "b"]);
        let behind = |content: &str| content.split("<s>").last().unwrap().to_owned();
        assert_eq!(through("a<s>b", behind), ["b"]);
        let before = |content: &str| content.split("<s>").next().unwrap().to_owned();
        assert_eq!(through("a<s>b", before), ["a"]);
    }
}
