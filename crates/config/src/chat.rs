//! What of `[data]` concerns conversations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the files of `data.path` hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DataFormat {
    /// Texts, of which every token trains.
    #[default]
    Text,
    /// Conversations, of which the answers train.
    Chat,
}

/// How a record holds a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChatFormat {
    /// `messages`: a list of `role` and `content` (OpenAI, TRL); perhaps `tools`.
    Messages,
    /// `conversations`: a list of `from` and `value`; perhaps `system`.
    Sharegpt,
    /// `prompt` and `completion`: a text each, or a list of messages each.
    PromptCompletion,
    /// `instruction`, perhaps `input`, and `output`; perhaps `system`.
    Alpaca,
    /// `chosen` and `rejected`, perhaps `prompt`: a text each, or a list of messages each (TRL). For
    /// `train.objective = "dpo"`.
    Preference,
}

impl ChatFormat {
    /// The name in a run file.
    pub fn name(self) -> &'static str {
        match self {
            ChatFormat::Messages => "messages",
            ChatFormat::Sharegpt => "sharegpt",
            ChatFormat::PromptCompletion => "prompt-completion",
            ChatFormat::Alpaca => "alpaca",
            ChatFormat::Preference => "preference",
        }
    }
}

/// Which tokens of a conversation train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrainOn {
    /// Those of all answers, with the token that ends each.
    #[default]
    Answers,
    /// Those of the last answer.
    Last,
    /// All.
    All,
}

/// What happens to a conversation that does not fit in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TooLong {
    /// Its oldest turns are left out, as in a chat; of a single turn the first tokens.
    #[default]
    Cut,
    /// It is left out.
    Drop,
}

/// What a token sees of the other documents of its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DocumentMask {
    /// All that stands before it, as if the window were one text.
    Packed,
    /// Nothing: each document is read as if it stood alone.
    Separate,
}
