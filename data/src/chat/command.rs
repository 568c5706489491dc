//! The arguments of `data` that concern conversations.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use config::{ChatFormat, TooLong, TrainOn};
use serde::de::DeserializeOwned;

use super::{ChatInspection, ChatSettings, TrainingTemplate, inspect_chat};
use crate::{Corpus, Tokenizer};

/// Conversations in place of texts.
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// Read the records as conversations, as data.format = "chat" does [default: as texts]
    #[arg(long)]
    pub chat: bool,
    /// Layout of the records: messages, sharegpt, prompt-completion or alpaca
    /// [default: recognised by the keys]
    #[arg(long, value_name = "LAYOUT", requires = "chat", value_parser = named::<ChatFormat>)]
    chat_format: Option<ChatFormat>,
    /// File with a chat template, or chatml [default: the tokenizer's own]
    #[arg(long, value_name = "FILE|NAME", requires = "chat")]
    chat_template: Option<PathBuf>,
    /// Tokens that train: of all answers, of the last one, or all
    #[arg(
        long, value_name = "answers|last|all", requires = "chat", default_value = "answers",
        value_parser = named::<TrainOn>
    )]
    train_on: TrainOn,
    /// Cut or drop a conversation that is longer than a window
    #[arg(
        long, value_name = "cut|drop", requires = "chat", default_value = "cut",
        value_parser = named::<TooLong>
    )]
    too_long: TooLong,
    /// Positions of a window of conversations
    #[arg(
        long, value_name = "N", requires = "chat", default_value_t = 1024,
        value_parser = clap::value_parser!(u32).range(1..=1 << 20)
    )]
    context: u32,
}

/// A value by the name that it has in the run file.
fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(name.into()).map_err(|error| error.to_string())
}

impl ChatArgs {
    /// Encodes the conversations as a run would and shows the first `show`; `folder` is the path
    /// that the tokenizer was opened from.
    pub fn inspect(
        &self,
        corpus: &Corpus,
        tokenizer: Tokenizer,
        folder: &Path,
        show: usize,
    ) -> Result<ChatInspection> {
        let folder = folder.is_dir().then_some(folder);
        let installed = self
            .chat_template
            .as_ref()
            .map(|choice| TrainingTemplate::install(&tokenizer, folder, choice))
            .transpose()?;
        let tokenizer = installed.as_ref().map_or(&tokenizer, |(tokenizer, _)| tokenizer);
        let template = TrainingTemplate::source(tokenizer, None)?;
        let settings = ChatSettings {
            template: &TrainingTemplate::new(tokenizer, template)?,
            format: self.chat_format,
            train_on: self.train_on,
            too_long: self.too_long,
            context: self.context as usize,
        };
        inspect_chat(corpus, tokenizer, &settings, show)
    }
}
