//! The JSON of answers, as OpenAI's interface has it.

use axum::http::StatusCode;
use serde_json::{Value, json};

/// What both kinds of answers have in common.
#[derive(Debug, Clone)]
pub struct Head {
    /// Unique in this process.
    pub id: u64,
    /// Seconds since 1970.
    pub created: u64,
    /// Name of the model.
    pub model: String,
    /// Of messages, or of a text.
    pub is_chat: bool,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a text that ends it came.
    Stop,
    /// As many tokens as asked for, or the context is full.
    Length,
}

/// Counts of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt: usize,
    /// Of the prompt, those that had been read for an earlier answer.
    pub cached: usize,
    pub answer: usize,
}

impl Finish {
    fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
        }
    }
}

impl Usage {
    fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.answer,
            "total_tokens": self.prompt + self.answer,
            "prompt_tokens_details": { "cached_tokens": self.cached },
        })
    }
}

impl Head {
    /// The answer in one piece.
    pub fn whole(&self, text: &str, finish: Finish, usage: Usage) -> Value {
        let mut choice = json!({ "index": 0, "finish_reason": finish.name(), "logprobs": null });
        match self.is_chat {
            true => choice["message"] = json!({ "role": "assistant", "content": text }),
            false => choice["text"] = json!(text),
        }
        let mut body = self.body(vec![choice], false);
        body["usage"] = usage.json();
        body
    }

    /// The part before any text, which only chats have.
    pub fn begin(&self) -> Option<Value> {
        let delta = json!({ "role": "assistant", "content": "" });
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": null });
        self.is_chat.then(|| self.body(vec![choice], true))
    }

    /// A part of the text.
    pub fn part(&self, text: &str) -> Value {
        let mut choice = json!({ "index": 0, "finish_reason": null });
        match self.is_chat {
            true => choice["delta"] = json!({ "content": text }),
            false => choice["text"] = json!(text),
        }
        self.body(vec![choice], true)
    }

    /// The part after the text.
    pub fn end(&self, finish: Finish) -> Value {
        let mut choice = json!({ "index": 0, "finish_reason": finish.name() });
        match self.is_chat {
            true => choice["delta"] = json!({}),
            false => choice["text"] = json!(""),
        }
        self.body(vec![choice], true)
    }

    /// The part with the counts, for clients that ask for it.
    pub fn usage(&self, usage: Usage) -> Value {
        let mut body = self.body(Vec::new(), true);
        body["usage"] = usage.json();
        body
    }

    fn body(&self, choices: Vec<Value>, in_parts: bool) -> Value {
        let (prefix, object) = match (self.is_chat, in_parts) {
            (true, false) => ("chatcmpl", "chat.completion"),
            (true, true) => ("chatcmpl", "chat.completion.chunk"),
            (false, _) => ("cmpl", "text_completion"),
        };
        json!({
            "id": format!("{prefix}-{}", self.id),
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }
}

/// A request that got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub status: StatusCode,
    pub param: Option<&'static str>,
    pub code: Option<&'static str>,
    pub message: String,
}

impl Failure {
    /// One without a key and a code.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Failure { status, param: None, code: None, message: message.into() }
    }

    /// As the interface has it.
    pub fn json(&self) -> Value {
        let kind = match self.status.as_u16() {
            400..500 => "invalid_request_error",
            _ => "server_error",
        };
        let Failure { param, code, message, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }
}
