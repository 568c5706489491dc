//! A conversation and the file that keeps it.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use chat_template::{Message, Speaker};
use checkpoint::atomic;
use serde::{Deserialize, Serialize};

const FORMAT: &str = "pocketgpt-conversation";
const VERSION: u32 = 1;
/// Largest file that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// Everything said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversation {
    /// In order: a system prompt or none, then person and model by turns.
    pub messages: Vec<Message>,
}

/// The file, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    version: u32,
    messages: Vec<Message>,
}

impl Conversation {
    /// An empty one, perhaps with a system prompt.
    pub fn new(system: Option<&str>) -> Self {
        Conversation { messages: system.map(Message::system).into_iter().collect() }
    }

    /// Reads a file that [`Conversation::save`] wrote.
    ///
    /// # Errors
    /// When it cannot be read, is something else, or its turns are not in order.
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.display();
        let size = std::fs::metadata(path).map(|found| found.len());
        let size = size.with_context(|| format!("cannot read the conversation {name}"))?;
        ensure!(size <= LARGEST, "{name}: {size} bytes, expected at most {LARGEST}");
        let text =
            plain_file::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let document: Document = serde_json::from_str(&text)
            .with_context(|| format!("{name}: expected a conversation saved by `generate chat`"))?;
        ensure!(
            document.format == FORMAT && document.version == VERSION,
            "{name}: {} version {}, expected {FORMAT} version {VERSION}",
            document.format,
            document.version
        );
        let conversation = Conversation { messages: document.messages };
        conversation.check_order().with_context(|| name.to_string())?;
        Ok(conversation)
    }

    /// Writes the whole conversation beside `path` and renames it there.
    ///
    /// # Errors
    /// When the file cannot be written; the one of the last turn is still there then.
    pub fn save(&self, path: &Path) -> Result<()> {
        let document = Document {
            format: FORMAT.to_owned(),
            version: VERSION,
            messages: self.messages.clone(),
        };
        let mut text = serde_json::to_string_pretty(&document)?;
        text.push('\n');
        atomic::write_file::<_, anyhow::Error>(path, true, |out| {
            out.write_all(text.as_bytes())?;
            Ok(())
        })
    }

    /// How the model should behave, where that was said.
    pub fn system_prompt(&self) -> Option<&str> {
        let first = self.messages.first().filter(|message| message.role == Speaker::System);
        first.map(|message| message.content.as_str())
    }

    /// The messages without the oldest `turns` of person and model; the system prompt stays.
    pub fn without_oldest(&self, turns: usize) -> Vec<Message> {
        let system = usize::from(self.system_prompt().is_some());
        let (system, said) = self.messages.split_at(system);
        let rest = said.get(2 * turns..).unwrap_or_default();
        [system, rest].concat()
    }

    /// Person and model by turns, behind at most one system prompt; the model spoke last.
    fn check_order(&self) -> Result<()> {
        let said = &self.messages[usize::from(self.system_prompt().is_some())..];
        for (place, message) in said.iter().enumerate() {
            let expected = if place % 2 == 0 { Speaker::User } else { Speaker::Assistant };
            ensure!(
                message.role == expected,
                "turn {}: the role is {:?}, expected {expected:?}",
                place + 1,
                message.role
            );
        }
        ensure!(
            said.len().is_multiple_of(2),
            "the last turn has no answer; expected user and assistant by turns"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Conversation {
        let mut conversation = Conversation::new(Some("be kind"));
        for (question, answer) in [("a", "b"), ("c", "d")] {
            conversation.messages.push(Message::user(question));
            conversation.messages.push(Message::assistant(answer));
        }
        conversation
    }

    #[test]
    fn what_is_saved_is_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.json");
        sample().save(&path).unwrap();
        assert_eq!(Conversation::load(&path).unwrap(), sample());
        Conversation::default().save(&path).unwrap();
        assert_eq!(Conversation::load(&path).unwrap(), Conversation::default());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.json");
        sample().save(&path).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        for (place, instead, expected) in [
            ("pocketgpt-conversation", "other", "other version 1"),
            ("\"version\": 1", "\"version\": 2", "version 2"),
            ("\"role\": \"user\"", "\"role\": \"assistant\"", "turn 1: the role is Assistant"),
            ("\"role\": \"user\"", "\"role\": \"tool\"", "unknown variant"),
            ("\"messages\"", "\"massages\"", "unknown field"),
            ("{", "", "expected a conversation"),
        ] {
            let text = good.replacen(place, instead, 1);
            assert_ne!(text, good);
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", Conversation::load(&path).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
        let mut unanswered = sample();
        unanswered.messages.pop();
        unanswered.save(&path).unwrap();
        let error = format!("{:#}", Conversation::load(&path).unwrap_err());
        assert!(error.contains("has no answer"), "{error}");
        assert!(Conversation::load(&folder.path().join("none.json")).is_err());
    }

    #[test]
    fn the_oldest_turns_go_and_the_system_prompt_stays() {
        let said = |messages: Vec<Message>| -> String {
            messages.into_iter().map(|message| message.content).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(said(sample().without_oldest(0)), "be kind a b c d");
        assert_eq!(said(sample().without_oldest(1)), "be kind c d");
        assert_eq!(said(sample().without_oldest(9)), "be kind");
    }
}
