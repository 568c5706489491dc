//! What a client may ask. What would be ignored is refused by name, so that nobody takes an answer for
//! another one than it is.

use generate::chat::{Message, Speaker};
use generate::sampling::Sampling;
use serde::Deserialize;
use serde_json::Value;

/// Most bytes of a request.
pub const MAX_BYTES: usize = 16 << 20;
/// Most texts that end an answer; OpenAI takes four.
const MAX_STOPS: usize = 16;
/// Tokens of an answer where the client does not say.
const MAX_TOKENS: usize = 1024;

/// A request in the terms of this program.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub prompt: Prompt,
    pub sampling: Sampling,
    /// `None` draws one.
    pub seed: Option<u64>,
    pub max_tokens: usize,
    /// Texts that end the answer, none of them empty.
    pub stops: Vec<String>,
    /// Send the answer in parts.
    pub stream: bool,
    /// With parts: the counts of tokens at the end, too.
    pub include_usage: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// `/v1/chat/completions`
    Messages(Vec<Message>),
    /// `/v1/completions`
    Text(String),
}

/// A request that is refused: its key, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub param: Option<&'static str>,
    pub message: String,
}

fn refuse<T>(param: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { param: Some(param), message: message.into() })
}

/// The body of both requests. Keys that change nothing about the text (`user`, `metadata` and so on) are
/// not listed.
#[derive(Debug, Deserialize)]
struct Body {
    messages: Option<Vec<WireMessage>>,
    prompt: Option<OneOrMore>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<usize>,
    repetition_penalty: Option<f32>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    seed: Option<i64>,
    stop: Option<OneOrMore>,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    n: Option<u64>,
    best_of: Option<u64>,
    echo: Option<bool>,
    suffix: Option<String>,
    logprobs: Option<Value>,
    top_logprobs: Option<Value>,
    logit_bias: Option<Value>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    tools: Option<Vec<Value>>,
    functions: Option<Vec<Value>>,
    response_format: Option<ResponseFormat>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Debug, Deserialize)]
struct ResponseFormat {
    r#type: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn list(self) -> Vec<String> {
        match self {
            OneOrMore::One(text) => vec![text],
            OneOrMore::More(texts) => texts,
        }
    }
}

#[derive(Debug, Deserialize)]
struct WireMessage {
    role: String,
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
}

/// Reads the body of a request for an answer to messages.
///
/// # Errors
/// When it is not such a request, or asks for what this server does not do.
pub fn chat(bytes: &[u8]) -> Result<Asked, Refusal> {
    let mut body = parse(bytes)?;
    let Some(messages) = body.messages.take() else {
        return refuse("messages", "messages: expected a list of messages");
    };
    if messages.is_empty() {
        return refuse("messages", "messages: expected at least one message");
    }
    let messages = messages.into_iter().map(message).collect::<Result<_, _>>()?;
    body.asked(Prompt::Messages(messages))
}

/// Reads the body of a request for the continuation of a text.
///
/// # Errors
/// As [`chat`].
pub fn completion(bytes: &[u8]) -> Result<Asked, Refusal> {
    let mut body = parse(bytes)?;
    let Some(mut texts) = body.prompt.take().map(OneOrMore::list) else {
        return refuse("prompt", "prompt: expected a text");
    };
    match (texts.pop(), texts.len()) {
        (Some(text), 0) if !text.is_empty() => body.asked(Prompt::Text(text)),
        (Some(_), 0) => refuse("prompt", "prompt: it is empty; give at least one character"),
        _ => refuse("prompt", "prompt: expected one text; send each in a request of its own"),
    }
}

fn parse(bytes: &[u8]) -> Result<Body, Refusal> {
    serde_json::from_slice(bytes)
        .map_err(|error| Refusal { param: None, message: format!("the body: {error}") })
}

fn message(WireMessage { role, content }: WireMessage) -> Result<Message, Refusal> {
    let role = match role.as_str() {
        // "developer" is the newer name.
        "system" | "developer" => Speaker::System,
        "user" => Speaker::User,
        "assistant" => Speaker::Assistant,
        _ => {
            return refuse(
                "messages",
                format!("role {role:?}: expected system, user or assistant"),
            );
        }
    };
    let content = match content {
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => {
            let mut text = String::new();
            for part in parts {
                match (part.r#type.as_str(), part.text) {
                    ("text", Some(piece)) => text.push_str(&piece),
                    (kind, _) => {
                        return refuse(
                            "messages",
                            format!("a part of type {kind:?}: expected text"),
                        );
                    }
                }
            }
            text
        }
        None => return refuse("messages", "a message without content"),
    };
    Ok(Message { role, content })
}

impl Body {
    fn asked(self, prompt: Prompt) -> Result<Asked, Refusal> {
        self.refuse_what_is_not_done()?;
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(0),
            top_p: self.top_p.unwrap_or(1.0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
        };
        if let Err(error) = sampling.validate() {
            return Err(Refusal { param: None, message: error.to_string() });
        }
        let stops = self.stop.map(OneOrMore::list).unwrap_or_default();
        if stops.len() > MAX_STOPS || stops.iter().any(String::is_empty) {
            return refuse("stop", format!("stop: expected at most {MAX_STOPS} texts, none empty"));
        }
        let max_tokens = self.max_completion_tokens.or(self.max_tokens).unwrap_or(MAX_TOKENS);
        let include_usage = self.stream_options.is_some_and(|options| options.include_usage);
        Ok(Asked {
            prompt,
            sampling,
            seed: self.seed.map(i64::cast_unsigned),
            max_tokens,
            stops,
            stream: self.stream,
            include_usage,
        })
    }

    fn refuse_what_is_not_done(&self) -> Result<(), Refusal> {
        let is_set = |value: &Option<Value>| {
            value.as_ref().is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)))
        };
        let is_list =
            |list: &Option<Vec<Value>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let format = self.response_format.as_ref();
        for (param, asked, way_out) in [
            ("n", self.n.is_some_and(|n| n != 1), "send as many requests"),
            ("best_of", self.best_of.is_some_and(|n| n != 1), "send as many requests"),
            ("echo", self.echo == Some(true), "put the prompt before the answer"),
            ("suffix", self.suffix.is_some(), "leave it out"),
            ("logprobs", is_set(&self.logprobs), "leave it out"),
            ("top_logprobs", is_set(&self.top_logprobs), "leave it out"),
            ("logit_bias", is_set(&self.logit_bias), "leave it out"),
            (
                "frequency_penalty",
                self.frequency_penalty.is_some_and(|x| x != 0.0),
                "use repetition_penalty",
            ),
            (
                "presence_penalty",
                self.presence_penalty.is_some_and(|x| x != 0.0),
                "use repetition_penalty",
            ),
            ("tools", is_list(&self.tools), "leave it out"),
            ("functions", is_list(&self.functions), "leave it out"),
            (
                "response_format",
                format.is_some_and(|format| format.r#type != "text"),
                "leave it out",
            ),
        ] {
            if asked {
                return refuse(param, format!("{param}: this server does not do that; {way_out}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails says where")]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(body: &Value) -> Result<Asked, Refusal> {
        chat(body.to_string().as_bytes())
    }

    fn with(key: &str, value: Value) -> Value {
        let mut body = json!({"messages": [{"role": "user", "content": "Hi"}]});
        body[key] = value;
        body
    }

    #[test]
    fn defaults_are_those_of_the_interface() {
        let plain = asked(&with("model", json!("any"))).unwrap();
        assert_eq!(plain.prompt, Prompt::Messages(vec![Message::user("Hi")]));
        assert_eq!(plain.sampling, Sampling::PLAIN);
        assert_eq!((plain.max_tokens, plain.seed, plain.stream), (1024, None, false));
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let body = json!({"messages": [{"role": "developer", "content": parts}], "max_completion_tokens": 3,
            "max_tokens": 9, "stop": "x", "stream": true, "stream_options": {"include_usage": true},
            "n": 1, "logprobs": false, "tools": [], "response_format": {"type": "text"}, "seed": -1});
        let full = asked(&body).unwrap();
        assert_eq!(full.prompt, Prompt::Messages(vec![Message::system("ab")]));
        assert_eq!((full.max_tokens, full.stops.len(), full.include_usage), (3, 1, true));
        assert_eq!(
            completion(br#"{"prompt": ["once"]}"#).unwrap().prompt,
            Prompt::Text("once".into())
        );
    }

    #[test]
    fn what_would_be_ignored_is_refused_by_name() {
        for (key, value) in [
            ("n", json!(2)),
            ("logprobs", json!(true)),
            ("logit_bias", json!({"5": 1})),
            ("presence_penalty", json!(0.5)),
            ("tools", json!([{}])),
            ("response_format", json!({"type": "json_object"})),
            ("stop", json!(["a", ""])),
            ("messages", json!([])),
            ("messages", json!([{"role": "tool", "content": "x"}])),
            ("messages", json!([{"role": "user", "content": [{"type": "image_url"}]}])),
            ("messages", json!([{"role": "assistant"}])),
        ] {
            let refusal = asked(&with(key, value.clone())).unwrap_err();
            assert_eq!(refusal.param, Some(key), "{key} = {value}");
        }
        for body in ["", "[]", "{", r#"{"messages": 7}"#, r#"{"messages": [], "temperature": -1}"#]
        {
            assert!(chat(body.as_bytes()).is_err(), "{body}");
        }
        assert!(
            asked(&with("temperature", json!(-1))).unwrap_err().message.contains("temperature")
        );
        for body in [r#"{"prompt": ""}"#, r#"{"prompt": ["a", "b"]}"#, r#"{"prompt": []}"#, "{}"] {
            assert_eq!(completion(body.as_bytes()).unwrap_err().param, Some("prompt"), "{body}");
        }
    }
}
