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
/// perhaps `prompt`. Without it, both are whole conversations, and the prompt is the beginning that
/// they have in common (TRL's implicit prompt); the last message of each is never part of it.
///
/// # Errors
/// When a key is missing or of another kind, a message lacks what one must have, or a side has no
/// answer behind the prompt; with what was found.
pub fn preference_pair(record: &Map<String, Value>) -> Result<PreferencePair> {
    for key in ["chosen", "rejected"] {
        ensure!(
            record.get(key).is_some_and(|value| !value.is_null()),
            "not a pair: `{key}` is missing; the keys are {}; expected `chosen` and `rejected`, \
             and perhaps `prompt`",
            keys(record)
        );
    }
    let (chosen, rejected, prompt) = match record.get("prompt") {
        None | Some(Value::Null) => {
            let (chosen, rejected) =
                (conversation(record, "chosen")?, conversation(record, "rejected")?);
            let common = common_beginning(&chosen, &rejected);
            (chosen, rejected, common)
        }
        Some(_) => {
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

/// A list of messages, or a text as the one message of `role`.
fn side(record: &Map<String, Value>, key: &str, role: &str) -> Result<Vec<Value>> {
    Ok(match record.get(key) {
        Some(Value::Array(messages)) => messages.clone(),
        _ => vec![message(role, text(record, key)?)],
    })
}

/// A whole conversation.
fn conversation(record: &Map<String, Value>, key: &str) -> Result<Vec<Value>> {
    match record.get(key) {
        Some(Value::Array(messages)) => Ok(messages.clone()),
        _ => anyhow::bail!(
            "`{key}` is not a list of messages and there is no `prompt`; add the question as \
             `prompt`"
        ),
    }
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

    /// The first case without `prompt` is the example of TRL's `extract_prompt`.
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
