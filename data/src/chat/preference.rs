//! Pairs of answers of which one is preferred, for preference training.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use super::formats::{Example, check, keys, message, text};
use super::template::TrainingTemplate;
use super::tokens::{ChatTokens, chat_tokens};
use crate::Tokenizer;

/// Two conversations with a common beginning.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferencePair {
    /// With the answer that is preferred.
    pub chosen: Example,
    /// With the other answer.
    pub rejected: Example,
}

/// The tokens of a pair; those of the answers behind the prompt train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreferenceTokens {
    /// Those of the conversation with the preferred answer.
    pub chosen: ChatTokens,
    /// Those of the other conversation.
    pub rejected: ChatTokens,
}

/// The pair of a record with `chosen` and `rejected`, each a text or a list of messages, and
/// perhaps `prompt`. Without it, the prompt is what both begin with (TRL's implicit prompt): of
/// conversations the messages that they have in common, but never the last one; of texts the
/// characters. A text as prompt beside whole conversations repeats their question, and is not read.
///
/// # Errors
/// When a key is missing or of another kind, a message lacks what one must have, or a side has no
/// answer behind the prompt; with what was found.
pub fn preference_pair(record: &Map<String, Value>) -> Result<PreferencePair> {
    for key in ["chosen", "rejected"] {
        ensure!(
            record.get(key).is_some_and(|value| !value.is_null()),
            "not a pair of answers: `{key}` is missing; the keys are {}; expected `chosen` and \
             `rejected`, and perhaps `prompt`",
            keys(record)
        );
    }
    let (chosen, rejected, prompt) =
        match (record.get("prompt"), &record["chosen"], &record["rejected"]) {
            (None | Some(Value::Null), Value::Array(chosen), Value::Array(rejected)) => {
                implicit(chosen, rejected)
            }
            (Some(Value::String(_)), Value::Array(chosen), Value::Array(rejected))
                if asks(chosen) && asks(rejected) =>
            {
                implicit(chosen, rejected)
            }
            (None | Some(Value::Null), _, _) => {
                implicit_text(text(record, "chosen")?, text(record, "rejected")?)?
            }
            (Some(_), _, _) => {
                let prompt = side(record, "prompt", "user")?;
                let behind = |key| Ok([prompt.clone(), side(record, key, "assistant")?].concat());
                let behind: (Result<_>, Result<_>) = (behind("chosen"), behind("rejected"));
                (behind.0?, behind.1?, prompt.len())
            }
        };
    let example = |messages: Vec<Value>, key: &str| {
        check(&messages).with_context(|| format!("`{key}`"))?;
        ensure!(
            messages[prompt..].iter().any(|message| message["role"] == "assistant"),
            "`{key}` has no message of the assistant behind the prompt, so there is nothing to \
             compare"
        );
        let tools = record.get("tools").cloned().unwrap_or_default();
        Ok(Example { messages, tools, first: prompt })
    };
    Ok(PreferencePair {
        chosen: example(chosen, "chosen")?,
        rejected: example(rejected, "rejected")?,
    })
}

/// Both conversations of a pair, and the number of messages of their prompt.
type Sides = (Vec<Value>, Vec<Value>, usize);

/// A list of messages, or a text as the one message of `role`.
fn side(record: &Map<String, Value>, key: &str, role: &str) -> Result<Vec<Value>> {
    Ok(match record.get(key) {
        Some(Value::Array(messages)) => messages.clone(),
        _ => vec![message(role, text(record, key)?)],
    })
}

/// Whether a conversation has its own question.
fn asks(messages: &[Value]) -> bool {
    messages.iter().any(|message| message["role"] == "user")
}

/// Whole conversations, whose prompt is what they begin with.
fn implicit(chosen: &[Value], rejected: &[Value]) -> Sides {
    (chosen.to_vec(), rejected.to_vec(), common_beginning(chosen, rejected))
}

/// Whole texts: what they begin with is the question. A space before the first difference belongs to
/// the answers (TRL, `extract_prompt`).
fn implicit_text(chosen: &str, rejected: &str) -> Result<Sides> {
    let pairs = chosen.chars().zip(rejected.chars());
    let common: usize = pairs.take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    let prompt = &chosen[..common];
    let prompt = prompt.strip_suffix(' ').unwrap_or(prompt);
    ensure!(
        !prompt.is_empty(),
        "`chosen` and `rejected` begin with different letters and there is no `prompt`; add the \
         question as `prompt`"
    );
    let conversation =
        |whole: &str| vec![message("user", prompt), message("assistant", &whole[prompt.len()..])];
    Ok((conversation(chosen), conversation(rejected), 1))
}

/// The number of messages that both begin with; the last of each is an answer.
fn common_beginning(chosen: &[Value], rejected: &[Value]) -> usize {
    let most = chosen.len().min(rejected.len()).saturating_sub(1);
    chosen.iter().zip(rejected).take(most).take_while(|(left, right)| left == right).count()
}

/// The tokens of each pair. Both sides are rendered by the same template in one process.
///
/// # Errors
/// For each pair: what the template refuses, a part of the text that the vocabulary lacks, and a
/// side of whose answer no token trains.
pub fn preference_tokens(
    pairs: &[PreferencePair],
    template: &TrainingTemplate,
    tokenizer: &Tokenizer,
) -> Vec<Result<PreferenceTokens>> {
    let examples: Vec<Example> =
        pairs.iter().flat_map(|pair| [pair.chosen.clone(), pair.rejected.clone()]).collect();
    let mut sides = template.render(&examples, false).into_iter().map(|answered| {
        let mut tokens = chat_tokens(tokenizer, &answered?)?;
        // The first token is never predicted.
        if let Some(first) = tokens.trains.first_mut() {
            *first = false;
        }
        ensure!(tokens.trained() > 0, "the answer has no token, so there is nothing to compare");
        Ok(tokens)
    });
    let mut next = |key: &'static str| {
        sides.next().context("it was not rendered").flatten().with_context(|| format!("`{key}`"))
    };
    pairs
        .iter()
        .map(|_| {
            let (chosen, rejected) = (next("chosen"), next("rejected"));
            Ok(PreferenceTokens { chosen: chosen?, rejected: rejected? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(record: Value) -> Result<PreferencePair> {
        let Value::Object(record) = record else { panic!("an object") };
        preference_pair(&record)
    }

    fn contents(example: &Example) -> Vec<&str> {
        example.messages.iter().filter_map(|message| message["content"].as_str()).collect()
    }

    /// Without `prompt`, conversations and texts are cut where TRL cuts them; the first is its example in
    /// `extract_prompt`.
    #[test]
    fn the_prompt_is_named_or_what_both_begin_with() {
        let user = |text: &str| json!({ "role": "user", "content": text });
        let assistant = |text: &str| json!({ "role": "assistant", "content": text });
        for (record, chosen, rejected, first) in [
            (
                json!({ "prompt": "q", "chosen": "a", "rejected": "b" }),
                vec!["q", "a"],
                vec!["q", "b"],
                1,
            ),
            (
                json!({ "prompt": [user("q"), assistant("a"), user("r")],
                    "chosen": [assistant("b")], "rejected": "c" }),
                vec!["q", "a", "r", "b"],
                vec!["q", "a", "r", "c"],
                3,
            ),
            (
                json!({ "chosen": [user("What color is the sky?"), assistant("It is blue.")],
                    "rejected": [user("What color is the sky?"), assistant("It is green.")] }),
                vec!["What color is the sky?", "It is blue."],
                vec!["What color is the sky?", "It is green."],
                1,
            ),
            (
                json!({ "chosen": "The sky is blue.", "rejected": "The sky is green." }),
                vec!["The sky is", " blue."],
                vec!["The sky is", " green."],
                1,
            ),
            (
                json!({ "prompt": "q", "chosen": [user("q"), assistant("a")],
                    "rejected": [user("q"), assistant("b")] }),
                vec!["q", "a"],
                vec!["q", "b"],
                1,
            ),
            (
                json!({ "prompt": "q", "chosen": [assistant("a")], "rejected": [assistant("b")] }),
                vec!["q", "a"],
                vec!["q", "b"],
                1,
            ),
            (
                json!({ "prompt": null, "chosen": [user("q"), assistant("a")],
                    "rejected": [user("q"), assistant("a")] }),
                vec!["q", "a"],
                vec!["q", "a"],
                1,
            ),
        ] {
            let pair = parsed(record.clone()).unwrap();
            assert_eq!(contents(&pair.chosen), chosen, "{record}");
            assert_eq!(contents(&pair.rejected), rejected, "{record}");
            assert_eq!((pair.chosen.first, pair.rejected.first), (first, first), "{record}");
        }
    }

    #[test]
    fn other_records_are_refused_with_what_was_found() {
        let user = json!([{ "role": "user", "content": "q" }]);
        for (record, expected) in [
            (json!({ "prompt": "q", "chosen": "a" }), "`rejected` is missing; the keys are"),
            (json!({ "prompt": "q", "completion": "a" }), "`chosen` is missing"),
            (json!({ "chosen": "a", "rejected": "b" }), "there is no `prompt`"),
            (json!({ "prompt": 1, "chosen": "a", "rejected": "b" }), "`prompt` is a number"),
            (
                json!({ "prompt": "q", "chosen": "a", "rejected": user }),
                "`rejected`: the conversation has no message of the assistant",
            ),
            (
                json!({ "prompt": "q", "chosen": [1], "rejected": "b" }),
                "`chosen`: message 2 is a number",
            ),
            (
                json!({ "prompt": [{ "role": "assistant", "content": "a" }], "chosen": user,
                "rejected": "b" }),
                "`chosen` has no message of the assistant behind the prompt",
            ),
            (json!({ "chosen": [], "rejected": [] }), "no message of the assistant"),
        ] {
            let error = format!("{:#}", parsed(record.clone()).unwrap_err());
            assert!(error.contains(expected), "{record}: {error}");
        }
    }
}
