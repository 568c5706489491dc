//! The input of a template, prepared as transformers does before it renders.

use anyhow::{Result, ensure};
use minijinja::value::{Value, ValueKind};
use serde::Deserialize;

/// The input of `apply_chat_template`: a conversation whose messages may have any fields.
#[derive(Debug, Clone, Deserialize)]
pub struct TemplateInput {
    /// A list of messages.
    pub messages: Value,
    /// A list of JSON schemas, or nothing.
    #[serde(default = "nothing")]
    pub tools: Value,
    /// Whether the text ends with the beginning of an answer.
    #[serde(default)]
    pub add_generation_prompt: bool,
}

/// Names that templates use for the reasoning text of a model.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

impl TemplateInput {
    /// The variables of a template, with their values.
    ///
    /// # Errors
    /// When there are no messages, or one is not an object.
    pub(super) fn variables(&self) -> Result<Vec<(&'static str, Value)>> {
        let is_list = self.messages.kind() == ValueKind::Seq;
        ensure!(is_list, "messages: expected a list, found {}", self.messages.kind());
        let messages: Vec<Value> =
            self.messages.try_iter()?.map(|message| plain(&message)).collect::<Result<_>>()?;
        ensure!(!messages.is_empty(), "the conversation is empty; expected at least one message");
        Ok(vec![
            ("messages", Value::from(messages)),
            ("tools", self.tools.clone()),
            ("documents", nothing()),
            ("add_generation_prompt", Value::from(self.add_generation_prompt)),
        ])
    }
}

/// A message without its null fields, and with its reasoning text under each name that templates
/// use (`_normalize_chat_messages` and `_alias_reasoning_fields` in transformers).
fn plain(message: &Value) -> Result<Value> {
    let is_object = message.kind() == ValueKind::Map;
    ensure!(is_object, "a message is {}; expected an object", message.kind());
    let mut fields = Vec::new();
    for key in message.try_iter()? {
        let value = message.get_item(&key)?;
        if !value.is_none() {
            fields.push((key, value));
        }
    }
    let thoughts = REASONING.iter().find_map(|name| {
        let field = fields.iter().find(|(key, _)| key.as_str() == Some(name));
        field.map(|(_, value)| value.clone())
    });
    if let Some(thoughts) = thoughts {
        fields.insert(0, (Value::from("thinking"), thoughts.clone()));
        fields.push((Value::from("reasoning_content"), thoughts));
    }
    Ok(Value::from_pairs(fields))
}

pub(super) fn nothing() -> Value {
    Value::from(())
}
