//! The layouts in which people keep conversations, as the messages that a chat template reads.

use anyhow::{Result, bail, ensure};
use config::ChatFormat;
use serde_json::{Map, Value, json};

/// A conversation that trains.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Objects with `role` and `content`, and whatever else the template reads.
    pub messages: Vec<Value>,
    /// The tools that the model may call, or null.
    pub tools: Value,
    /// The first message whose answer trains.
    pub first: usize,
}

/// The conversation of a record: in the layout `format`, or in the one that its keys show.
///
/// # Errors
/// When the record has another layout, or a message lacks what one must have; with what was found.
pub fn example(record: &Map<String, Value>, format: Option<ChatFormat>) -> Result<Example> {
    let example = match format.map_or_else(|| recognised(record), Ok)? {
        ChatFormat::Messages => Example {
            messages: list(record, "messages")?.to_vec(),
            tools: record.get("tools").cloned().unwrap_or_default(),
            first: 0,
        },
        ChatFormat::Sharegpt => sharegpt(record)?,
        ChatFormat::PromptCompletion => prompt_completion(record)?,
        ChatFormat::Alpaca => alpaca(record)?,
        ChatFormat::Preference => bail!(
            "a pair of answers (`chosen`, `rejected`) among conversations; train.objective = \"dpo\" \
             learns from pairs, and to learn one of the answers alone it is kept as `messages`"
        ),
    };
    check(&example.messages)?;
    Ok(example)
}

/// The layout that the keys of a record show.
///
/// # Errors
/// With the keys, if they show none.
pub(super) fn recognised(record: &Map<String, Value>) -> Result<ChatFormat> {
    let has = |key: &str| record.get(key).is_some_and(|value| !value.is_null());
    Ok(match () {
        () if has("messages") => ChatFormat::Messages,
        () if has("conversations") => ChatFormat::Sharegpt,
        () if has("prompt") && has("completion") => ChatFormat::PromptCompletion,
        () if has("instruction") && has("output") => ChatFormat::Alpaca,
        () if has("chosen") && has("rejected") => ChatFormat::Preference,
        () => bail!(
            "not a conversation: the keys are {}; expected `messages` (role, content), \
             `conversations` (from, value), `prompt` and `completion`, `instruction` and `output`, or a \
             pair of answers: `chosen` and `rejected`",
            keys(record)
        ),
    })
}

/// At most ten keys, for an error.
pub(super) fn keys(record: &Map<String, Value>) -> String {
    let mut keys: Vec<String> = record.keys().take(10).map(|key| format!("`{key}`")).collect();
    if record.len() > keys.len() {
        keys.push("...".to_owned());
    }
    if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
}

fn list<'r>(record: &'r Map<String, Value>, key: &str) -> Result<&'r [Value]> {
    match record.get(key) {
        Some(Value::Array(list)) => Ok(list),
        Some(other) => bail!("`{key}` is {}; expected a list", kind(other)),
        None => bail!("`{key}` is missing; the keys are {}", keys(record)),
    }
}

pub(super) fn text<'r>(record: &'r Map<String, Value>, key: &str) -> Result<&'r str> {
    match record.get(key) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => bail!("`{key}` is {}; expected a text", kind(other)),
        None => bail!("`{key}` is missing; the keys are {}", keys(record)),
    }
}

/// A text that may be left out, empty or null.
fn optional_text<'r>(record: &'r Map<String, Value>, key: &str) -> Result<Option<&'r str>> {
    match record.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => text(record, key).map(|text| Some(text).filter(|text| !text.is_empty())),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

pub(super) fn message(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

fn sharegpt(record: &Map<String, Value>) -> Result<Example> {
    let mut messages = Vec::new();
    for (at, turn) in list(record, "conversations")?.iter().enumerate() {
        let Value::Object(turn) = turn else {
            bail!("turn {} of `conversations` is {}; expected an object", at + 1, kind(turn));
        };
        // Some files have the keys of the other layout in this list.
        if turn.contains_key("role") {
            messages.push(Value::Object(turn.clone()));
            continue;
        }
        let role = match text(turn, "from")? {
            "human" | "user" => "user",
            "gpt" | "assistant" | "chatgpt" | "model" | "bard" | "bing" => "assistant",
            "system" => "system",
            "tool" | "function_response" | "observation" => "tool",
            other => {
                bail!("turn {} is from {other:?}; expected human, gpt, system or tool", at + 1)
            }
        };
        messages.push(message(role, text(turn, "value")?));
    }
    with_system(record, &mut messages)?;
    Ok(Example { messages, tools: record.get("tools").cloned().unwrap_or_default(), first: 0 })
}

/// The system prompt that some layouts keep beside the turns.
fn with_system(record: &Map<String, Value>, messages: &mut Vec<Value>) -> Result<()> {
    let has_one = messages.first().is_some_and(|first| first["role"] == "system");
    if let (Some(system), false) = (optional_text(record, "system")?, has_one) {
        messages.insert(0, message("system", system));
    }
    Ok(())
}

fn prompt_completion(record: &Map<String, Value>) -> Result<Example> {
    let side = |key: &str, role: &str| -> Result<Vec<Value>> {
        Ok(match record.get(key) {
            Some(Value::Array(messages)) => messages.clone(),
            _ => vec![message(role, text(record, key)?)],
        })
    };
    let mut messages = side("prompt", "user")?;
    let first = messages.len();
    messages.extend(side("completion", "assistant")?);
    Ok(Example { messages, tools: record.get("tools").cloned().unwrap_or_default(), first })
}

fn alpaca(record: &Map<String, Value>) -> Result<Example> {
    let mut question = text(record, "instruction")?.to_owned();
    if let Some(input) = optional_text(record, "input")? {
        question.push_str("\n\n");
        question.push_str(input);
    }
    let mut messages =
        vec![message("user", &question), message("assistant", text(record, "output")?)];
    with_system(record, &mut messages)?;
    Ok(Example { messages, tools: Value::Null, first: 0 })
}

/// What every layout must give: roles, contents and an answer.
pub(super) fn check(messages: &[Value]) -> Result<()> {
    for (at, message) in messages.iter().enumerate() {
        let number = at + 1;
        let Value::Object(fields) = message else {
            bail!("message {number} is {}; expected an object", kind(message));
        };
        match fields.get("role") {
            Some(Value::String(_)) => {}
            Some(other) => {
                bail!("the role of message {number} is {}; expected a text", kind(other))
            }
            None => bail!("message {number} has no `role`; its keys are {}", keys(fields)),
        }
        let calls_tool = fields.get("tool_calls").is_some_and(|calls| !calls.is_null());
        match fields.get("content") {
            Some(Value::String(_) | Value::Array(_)) => {}
            None | Some(Value::Null) if calls_tool => {}
            Some(other) => {
                bail!("the content of message {number} is {}; expected a text", kind(other))
            }
            None => bail!("message {number} has no `content`; its keys are {}", keys(fields)),
        }
    }
    let answers = messages.iter().any(|message| message["role"] == "assistant");
    ensure!(
        answers,
        "the conversation has no message of the assistant, so there is nothing to learn"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(record: Value) -> Result<Example> {
        let Value::Object(record) = record else { panic!("an object") };
        example(&record, None)
    }

    fn roles(example: &Example) -> String {
        let role = |message: &Value| {
            format!(
                "{}:{}",
                message["role"].as_str().unwrap(),
                message["content"].as_str().unwrap()
            )
        };
        example.messages.iter().map(role).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_layout_is_recognised() {
        let turns =
            json!([{ "role": "user", "content": "q" }, { "role": "assistant", "content": "a" }]);
        for (record, expected, first) in [
            (json!({ "messages": turns, "id": 7 }), "user:q assistant:a", 0),
            (
                json!({ "conversations": [{ "from": "human", "value": "q" }, { "from": "gpt", "value": "a" }], "system": "s" }),
                "system:s user:q assistant:a",
                0,
            ),
            (json!({ "conversations": turns }), "user:q assistant:a", 0),
            (json!({ "prompt": "q", "completion": "a" }), "user:q assistant:a", 1),
            (
                json!({ "prompt": turns, "completion": [{ "role": "assistant", "content": "b" }] }),
                "user:q assistant:a assistant:b",
                2,
            ),
            (
                json!({ "instruction": "do", "input": "this", "output": "a" }),
                "user:do\n\nthis assistant:a",
                0,
            ),
            (json!({ "instruction": "do", "input": "", "output": "a" }), "user:do assistant:a", 0),
        ] {
            let found = parsed(record.clone()).unwrap();
            assert_eq!((roles(&found).as_str(), found.first), (expected, first), "{record}");
        }
    }

    #[test]
    fn other_records_are_refused_with_what_was_found() {
        for (record, expected) in [
            (json!({ "text": "a" }), "the keys are `text`; expected `messages`"),
            (json!({}), "the keys are none"),
            (json!({ "messages": "a" }), "`messages` is a text; expected a list"),
            (json!({ "messages": [1] }), "message 1 is a number"),
            (json!({ "messages": [{ "role": 1 }] }), "the role of message 1 is a number"),
            (
                json!({ "messages": [{ "content": "a" }] }),
                "message 1 has no `role`; its keys are `content`",
            ),
            (json!({ "messages": [{ "role": "user" }] }), "message 1 has no `content`"),
            (json!({ "messages": [] }), "no message of the assistant"),
            (
                json!({ "messages": [{ "role": "user", "content": "a" }] }),
                "no message of the assistant",
            ),
            (
                json!({ "conversations": [{ "from": "owl", "value": "a" }] }),
                "turn 1 is from \"owl\"",
            ),
            (json!({ "conversations": [{ "from": "gpt" }] }), "`value` is missing"),
            (json!({ "prompt": 1, "completion": "a" }), "`prompt` is a number"),
            (json!({ "instruction": "a", "output": null }), "not a conversation"),
        ] {
            let error = parsed(record.clone()).unwrap_err().to_string();
            assert!(error.contains(expected), "{record}: {error}");
        }
        let record = Map::from_iter([("messages".to_owned(), json!([]))]);
        let error = example(&record, Some(ChatFormat::Alpaca)).unwrap_err().to_string();
        assert!(error.contains("`instruction` is missing; the keys are `messages`"), "{error}");
    }

    #[test]
    fn a_message_may_call_tools_and_have_parts() {
        let record = json!({ "messages": [
            { "role": "user", "content": [{ "type": "text", "text": "q" }] },
            { "role": "assistant", "tool_calls": [{ "name": "f" }] },
        ], "tools": [{ "name": "f" }] });
        let found = parsed(record).unwrap();
        assert_eq!((found.messages.len(), &found.tools), (2, &json!([{ "name": "f" }])));
    }
}
