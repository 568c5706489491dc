//! The tokens that begin, end and pad a text, from the files beside a `tokenizer.json` in a folder
//! of Hugging Face.
//!
//! The order of precedence is that of llama.cpp's converter (`SpecialVocab` of gguf-py):
//! `tokenizer_config.json`, then the ids in the model's own settings. Only the `tokenizer.json`
//! defines whether a token is added before a text: transformers 5 does not read `add_bos_token`
//! beside it. Further tokens that end a text are read where transformers' `generate` reads them:
//! from `generation_config.json`, or else from `config.json`.

use std::path::Path;

use serde_json::Value;

use super::document::Document;
use super::{END_OF_TEXT, PreTokenizer, VocabularyKind, chat_template, refuse};
use crate::limits::{SMALL_JSON_BYTES, read_text};
use crate::{CONFIG_FILE, CheckpointError, GENERATION_FILE, TOKENIZER_CONFIG_FILE};

/// `tokenizer_config.json` may list all added tokens; the largest real files have 1 MB.
pub(super) const TOKENIZER_CONFIG_BYTES: u64 = 16 * SMALL_JSON_BYTES;

/// The special tokens, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text or an answer; it is `eos_token` in a chat template.
    pub eos: Option<u32>,
    /// Further tokens that end a text or an answer, as the files state them; see
    /// [`Vocabulary::ends`](super::Vocabulary::ends).
    pub more_eos: Vec<u32>,
    /// Represents text that has no token.
    pub unknown: Option<u32>,
    /// Fills up a batch.
    pub padding: Option<u32>,
    /// Whether the tokenizer adds `bos` before a text. Adding `eos` after it (`add_eos_token`) is
    /// only useful for training and is ignored, because a text here is continued.
    pub add_bos: bool,
}

/// The usual names of these tokens, for a tokenizer that does not define them.
const BOS_NAMES: [&str; 3] = [END_OF_TEXT, "<s>", "<|begin_of_text|>"];
const EOS_NAMES: [&str; 3] = [END_OF_TEXT, "</s>", "<|end_of_text|>"];

impl SpecialTokens {
    /// From a `tokenizer.json` alone: by the usual names.
    pub(super) fn guess(document: &Document, tokens: &[String]) -> Self {
        let find = |name: &str| id_of(tokens, name);
        let (first, last) = first_and_last(document);
        let bos = first.and_then(find).or_else(|| BOS_NAMES.into_iter().find_map(find));
        let eos = last.and_then(find).or_else(|| EOS_NAMES.into_iter().find_map(find));
        SpecialTokens {
            bos,
            eos,
            more_eos: Vec::new(),
            unknown: document.unknown().and_then(find),
            padding: None,
            add_bos: first.is_some(),
        }
    }
}

/// The files beside a `tokenizer.json`; a missing one counts as empty.
pub(super) struct Beside {
    config: Value,
    template: Option<String>,
    model: Value,
    generation: Value,
}

impl Beside {
    pub fn read(dir: &Path) -> Result<Self, CheckpointError> {
        let config = read_json(&dir.join(TOKENIZER_CONFIG_FILE), TOKENIZER_CONFIG_BYTES)?;
        Ok(Beside {
            template: chat_template::of_folder(dir, &config)?,
            config,
            model: read_json(&dir.join(CONFIG_FILE), SMALL_JSON_BYTES)?,
            generation: read_json(&dir.join(GENERATION_FILE), SMALL_JSON_BYTES)?,
        })
    }

    /// Overrides the guesses by the values in the files.
    pub fn special(
        &self,
        guess: SpecialTokens,
        document: &Document,
        tokens: &[String],
    ) -> Result<SpecialTokens, CheckpointError> {
        let token = |name: &str| -> Result<Option<u32>, CheckpointError> {
            let by_name = self.named(name, tokens)?;
            Ok(by_name.or_else(|| self.numbered(name, tokens.len())))
        };
        let bos = token("bos")?.or(guess.bos);
        let ends = self.ends(tokens.len());
        let eos = self.named("eos", tokens)?.or(ends.first().copied()).or(guess.eos);
        let (first, _) = first_and_last(document);
        let text = bos.map(|id| tokens[id as usize].as_str());
        Ok(SpecialTokens {
            bos,
            eos,
            more_eos: ends.into_iter().filter(|id| Some(*id) != eos).collect(),
            unknown: token("unk")?.or(guess.unknown),
            padding: token("pad")?,
            add_bos: first.is_some() && first == text,
        })
    }

    /// The template for conversations, see [`chat_template`].
    pub fn chat_template(&self) -> Option<String> {
        self.template.clone()
    }

    /// `"eos_token": "</s>"`, or an object with its `content`.
    fn named(&self, name: &str, tokens: &[String]) -> Result<Option<u32>, CheckpointError> {
        let entry = &self.config[format!("{name}_token")];
        let Some(text) = entry.as_str().or_else(|| entry["content"].as_str()) else {
            return Ok(None);
        };
        let id = id_of(tokens, text);
        // A missing token for padding or for unknown text is never used; these two are.
        if id.is_some() || !matches!(name, "bos" | "eos") {
            return Ok(id);
        }
        Err(refuse(format!(
            "{TOKENIZER_CONFIG_FILE} says {name}_token = {text:?}, which is not in the vocabulary"
        )))
    }

    /// `"bos_token_id": 2`, or the first of a list.
    fn numbered(&self, name: &str, count: usize) -> Option<u32> {
        let key = format!("{name}_token_id");
        let stated = [&self.model, &self.generation].into_iter();
        stated.map(|file| ids(&file[&key], count)).find_map(|ids| ids.first().copied())
    }

    /// All of `eos_token_id`, from the file that transformers' `generate` uses.
    fn ends(&self, count: usize) -> Vec<u32> {
        let stated = [&self.generation, &self.model].into_iter();
        let lists = stated.map(|file| ids(&file["eos_token_id"], count));
        lists.into_iter().find(|ids| !ids.is_empty()).unwrap_or_default()
    }
}

/// `2` or `[2, 7]`, without ids outside the vocabulary.
fn ids(entry: &Value, count: usize) -> Vec<u32> {
    let list = entry.as_array().map_or(std::slice::from_ref(entry), Vec::as_slice);
    let ids = list.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok());
    ids.filter(|&id| (id as usize) < count).collect()
}

/// An empty object if the file does not exist.
pub(super) fn read_json(path: &Path, limit: u64) -> Result<Value, CheckpointError> {
    if !path.exists() {
        return Ok(Value::Null);
    }
    let text = read_text(path, limit)?;
    serde_json::from_str(&text)
        .map_err(|source| CheckpointError::Json { path: path.to_owned(), source })
}

/// The first token that transformers adds before a text and the last that it adds after it.
fn first_and_last(document: &Document) -> (Option<&str>, Option<&str>) {
    let (before, behind) = document.around();
    (before.first().copied(), behind.last().copied())
}

fn id_of(tokens: &[String], name: &str) -> Option<u32> {
    let place = tokens.iter().position(|token| token == name)?;
    u32::try_from(place).ok()
}

/// llama.cpp's defaults for a GGUF without these keys: for SentencePiece the ids of LLaMA.
pub(super) fn gguf_defaults(kind: &VocabularyKind, count: usize) -> SpecialTokens {
    let present = |id: u32| Some(id).filter(|&id| (id as usize) < count);
    match kind {
        VocabularyKind::SentencePiece { .. } => SpecialTokens {
            bos: present(1),
            eos: present(2),
            more_eos: Vec::new(),
            unknown: present(0),
            padding: None,
            add_bos: true,
        },
        VocabularyKind::Bpe { pre: PreTokenizer { add_bos, .. }, .. } => {
            SpecialTokens { add_bos: *add_bos, ..SpecialTokens::default() }
        }
        VocabularyKind::HuggingFace => SpecialTokens::default(),
    }
}
