//! `[data]`: what is read, and how it becomes windows of tokens.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ChatFormat, DataFormat, DataSource, DocumentMask, OnError, Paths, TooLong, TrainOn};

/// How text becomes token ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// GPT-2's byte-level BPE, 50,257 tokens.
    #[default]
    Gpt2,
    /// Words and punctuation of the corpus (Raschka, 2024, ch. 2).
    Simple,
    /// A `tokenizer.json` of Hugging Face: `data.tokenizer_path`.
    #[serde(rename = "huggingface")]
    HuggingFace,
    /// Byte-level BPE of `data.vocab_size` tokens, trained on the corpus before it is encoded.
    Trained,
}

/// `[data]`: the text and the windows cut from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// Texts (`.txt`, `.md`) or records (`.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet`), also with `.gz`
    /// or `.zst`: a file, a folder, a pattern such as `shards/*.jsonl`, or a list of them; the name of a
    /// known corpus; or `builtin` for the story that is compiled in. One text is one document; several
    /// texts, and records, are each followed by the tokenizer's end-of-text token. Also a token file, or
    /// a folder of them, that `data encode` wrote with the same tokenizer, which is read where it is.
    pub path: Paths,
    /// The field of a record that holds its text.
    pub text_field: String,
    /// What becomes of a record that cannot be read or has no text.
    pub on_error: OnError,
    /// How text becomes token ids.
    pub tokenizer: TokenizerKind,
    /// The `tokenizer.json`, or the folder that holds it, of `tokenizer = "huggingface"`.
    pub tokenizer_path: Option<PathBuf>,
    /// Tokens of `tokenizer = "trained"`.
    pub vocab_size: usize,
    /// Tokens in a training window.
    pub context: usize,
    /// Tokens from the start of one window to the start of the next; `context` if not given.
    pub stride: Option<usize>,
    /// Share of the tokens, from the front, that trains; the rest validates. Of conversations:
    /// share of the conversations, drawn at random.
    pub train_fraction: f64,
    /// `text` or `chat`.
    pub format: DataFormat,
    /// What a token sees of the other documents of its window; if not given, `packed` for texts
    /// and `separate` for conversations.
    pub documents: Option<DocumentMask>,
    /// How a record holds a conversation; recognised by its keys if not given.
    pub chat_format: Option<ChatFormat>,
    /// A file with the chat template, or `chatml`; the model's own if not given.
    pub chat_template: Option<PathBuf>,
    /// Which tokens of a conversation train.
    pub train_on: TrainOn,
    /// What happens to a conversation that does not fit in a window.
    pub too_long: TooLong,
    /// `[[data.source]]`: several sources in place of `path`, read one after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<DataSource>,
}

impl Data {
    /// Tokens from the start of one window to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride.unwrap_or(self.context)
    }

    /// What a token sees of the other documents of its window.
    pub fn document_mask(&self) -> DocumentMask {
        self.documents.unwrap_or(match self.format {
            DataFormat::Text => DocumentMask::Packed,
            DataFormat::Chat => DocumentMask::Separate,
        })
    }
}

impl Default for Data {
    fn default() -> Self {
        Data {
            path: Paths::from("builtin"),
            text_field: "text".to_owned(),
            on_error: OnError::Stop,
            tokenizer: TokenizerKind::Gpt2,
            tokenizer_path: None,
            vocab_size: 8192,
            context: 256,
            stride: None,
            train_fraction: 0.9,
            format: DataFormat::Text,
            documents: None,
            chat_format: None,
            chat_template: None,
            train_on: TrainOn::Answers,
            too_long: TooLong::Cut,
            source: Vec::new(),
        }
    }
}
