//! Tokenizers from files: a `tokenizer.json`, its folder, the metadata of a GGUF.

use std::path::Path;

use anyhow::{Context, Result};
use checkpoint::{CheckpointError, TokenType, Vocabulary, VocabularyKind};
use gguf::Metadata;

use super::bpe::Bpe;
use super::foreign::Foreign;
use super::json::is_simple;
use super::named::Named;
use super::sentencepiece::SentencePiece;
use super::words::Words;
use super::{Kind, Tokenizer};

/// Longest `tokenizer.json` that is read, in bytes; the largest in use have 30 MB.
const JSON_BYTES: u64 = 256 << 20;

impl Tokenizer {
    /// From the text of a `tokenizer.json` of any kind. The tokens that begin and end a text are
    /// recognised by their usual names only; [`Tokenizer::from_folder`] reads them from the other
    /// files of the folder.
    ///
    /// # Errors
    /// Malformed JSON; a vocabulary with missing or duplicate ids; a kind that Hugging Face's own
    /// crate does not load.
    pub fn from_tokenizer_json(text: &str) -> Result<Self> {
        from_vocabulary(&Vocabulary::parse(text)?)
    }

    /// From a folder of Hugging Face or of this project: its `tokenizer.json` (or the older files
    /// that replace it), and the special tokens that the other files name.
    ///
    /// # Errors
    /// As for [`Tokenizer::from_tokenizer_json`]; and when there is no such file.
    pub fn from_folder(dir: &Path) -> Result<Self> {
        let text = checkpoint::tokenizer_json(dir)?;
        let text = text.ok_or_else(|| CheckpointError::NoTokenizer { path: dir.to_owned() })?;
        let vocabulary = Vocabulary::of_folder(dir, &text)?;
        from_vocabulary(&vocabulary).with_context(|| dir.display().to_string())
    }

    /// From the path of a `tokenizer.json` or of its folder.
    ///
    /// # Errors
    /// As for [`Tokenizer::from_folder`].
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::from_folder(path);
        }
        Self::from_tokenizer_json(&read(path)?).with_context(|| path.display().to_string())
    }

    /// From the `tokenizer.*` keys of a GGUF.
    ///
    /// # Errors
    /// A model or pre-tokenizer that is not supported, by name; tokens that occur twice, a missing
    /// byte, a merge of tokens that the vocabulary does not have.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self> {
        let vocabulary = Vocabulary::from_gguf(metadata)?;
        from_vocabulary(&vocabulary).context("the tokenizer in the GGUF metadata")
    }

    /// From a vocabulary that was already read, such as llama2.c's.
    ///
    /// # Errors
    /// As for [`Tokenizer::from_gguf`].
    pub fn from_vocabulary(vocabulary: &Vocabulary) -> Result<Self> {
        from_vocabulary(vocabulary)
    }
}

fn read(path: &Path) -> Result<String> {
    let name = path.display();
    checkpoint::read_text(path, JSON_BYTES).with_context(|| {
        format!(
            "cannot read the tokenizer {name}; expected gpt2, simple, a tokenizer.json or a \
             folder that holds one"
        )
    })
}

/// With our own code if it does the same, otherwise with the `tokenizers` crate.
fn from_vocabulary(vocabulary: &Vocabulary) -> Result<Tokenizer> {
    let is_plain = |id: usize| vocabulary.types[id] != TokenType::Normal;
    let kind = match (&vocabulary.kind, vocabulary.json.as_deref()) {
        (VocabularyKind::Bpe { pre, merges }, _)
            if vocabulary.is_complete
                && let Some(digits) = Bpe::digits_of(pre) =>
        {
            Kind::Bpe(Box::new(Bpe::from_merges(digits, &vocabulary.tokens, merges, is_plain)?))
        }
        (VocabularyKind::SentencePiece { .. }, _) if vocabulary.is_complete => {
            Kind::SentencePiece(Box::new(SentencePiece::new(vocabulary)?))
        }
        (VocabularyKind::HuggingFace, Some(text)) if is_simple(text, vocabulary) => {
            Kind::Words(Words::from_list(vocabulary.tokens.clone())?)
        }
        (_, Some(text)) => foreign(Foreign::new(text.to_owned(), vocabulary)?),
        (_, None) => foreign(Foreign::from_vocabulary(vocabulary)?),
    };
    let special = &vocabulary.special;
    Ok(Tokenizer {
        kind,
        user_defined: Named::of(vocabulary, |kind| kind == TokenType::UserDefined),
        controls: Named::of(vocabulary, |kind| {
            matches!(kind, TokenType::Control | TokenType::Unknown)
        }),
        bos: special.bos,
        adds_bos: special.add_bos,
        chat_template: vocabulary.chat_template.as_deref().map(Into::into),
        end_of_text: special.eos,
        ends: vocabulary.ends(),
        source: vocabulary.json.clone(),
    })
}

fn foreign(foreign: Foreign) -> Kind {
    Kind::Foreign(Box::new(foreign))
}
