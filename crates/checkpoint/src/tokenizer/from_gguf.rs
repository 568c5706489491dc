//! The vocabulary in the metadata of a GGUF.

use gguf::{Array, Metadata, Value};

use super::{
    GgufForm, PreTokenizer, SpacePrefix, SpecialTokens, TOKENIZER_JSON_KEY, TokenType,
    UNUSED_SCORE, Vocabulary, VocabularyKind, ends, special,
};
use crate::CheckpointError;

impl Vocabulary {
    /// Reads the `tokenizer.*` keys, with llama.cpp's defaults for missing ones.
    ///
    /// # Errors
    /// A tokenizer or pre-tokenizer that is not supported, by name; lists of different lengths.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, CheckpointError> {
        let model = metadata.string("tokenizer.ggml.model")?;
        if let Some(Value::String(text)) = metadata.get(TOKENIZER_JSON_KEY) {
            return from_json(metadata, text);
        }
        if matches!(model, "no_vocab" | "none") {
            return Err(refuse(
                "tokenizer.ggml.model",
                model,
                "a tokenizer inside of the GGUF; give the tokenizer.json of the model that it was \
                 made from",
            ));
        }
        let tokens = metadata.strings("tokenizer.ggml.tokens")?.to_vec();
        let types = types(metadata, tokens.len())?;
        let kind = match model {
            "gpt2" => byte_level(metadata)?,
            "llama" => VocabularyKind::SentencePiece {
                scores: scores(metadata, tokens.len())?,
                merges: Vec::new(),
                prefix: match switch(metadata, "add_space_prefix", true)? {
                    true => SpacePrefix::Always,
                    false => SpacePrefix::Never,
                },
            },
            _ => {
                return Err(refuse(
                    "tokenizer.ggml.model",
                    model,
                    "gpt2 (byte-level BPE) or llama (SentencePiece); llama.cpp can run this file \
                     with its own tokenizer",
                ));
            }
        };
        let special = special_tokens(metadata, &kind, tokens.len())?;
        Ok(Vocabulary {
            kind,
            tokens,
            types,
            special,
            chat_template: chat_template(metadata),
            form: GgufForm::Exact,
            is_complete: true,
            json: None,
        })
    }
}

/// The `tokenizer.json` in the GGUF, if the keys are not complete. The tokens that begin and end a
/// text are nevertheless read from the keys, and so are tokens that only fill rows.
fn from_json(metadata: &Metadata, text: &str) -> Result<Vocabulary, CheckpointError> {
    let mut vocabulary = Vocabulary::parse(text)?;
    if let Ok(rows) = metadata.strings("tokenizer.ggml.tokens") {
        let fill = rows.get(vocabulary.tokens.len()..).unwrap_or_default();
        vocabulary.tokens.extend_from_slice(fill);
        vocabulary.types.resize(vocabulary.tokens.len(), TokenType::Unused);
        if let VocabularyKind::SentencePiece { scores, .. } = &mut vocabulary.kind {
            scores.resize(vocabulary.tokens.len(), UNUSED_SCORE);
        }
    }
    vocabulary.special = special_tokens(metadata, &vocabulary.kind, vocabulary.tokens.len())?;
    vocabulary.chat_template = chat_template(metadata);
    Ok(vocabulary)
}

fn chat_template(metadata: &Metadata) -> Option<String> {
    match metadata.get("tokenizer.chat_template") {
        Some(Value::String(template)) => Some(template.clone()),
        _ => None,
    }
}

fn byte_level(metadata: &Metadata) -> Result<VocabularyKind, CheckpointError> {
    let name = match metadata.get("tokenizer.ggml.pre") {
        Some(Value::String(name)) => name.as_str(),
        _ => "",
    };
    let pre = PreTokenizer::by_name(name).ok_or_else(|| {
        refuse(
            "tokenizer.ggml.pre",
            name,
            &format!(
                "one of {}; llama.cpp can run this file with its own tokenizer",
                PreTokenizer::names()
            ),
        )
    })?;
    let merges = metadata.strings("tokenizer.ggml.merges")?.to_vec();
    Ok(VocabularyKind::Bpe { pre, merges })
}

/// The type of each token; without the list all are text.
fn types(metadata: &Metadata, count: usize) -> Result<Vec<TokenType>, CheckpointError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let numbers = match metadata.get(KEY) {
        None => return Ok(vec![TokenType::Normal; count]),
        Some(Value::Array(Array::I32(numbers))) => numbers,
        Some(_) => return Err(refuse(KEY, "no list of 32-bit integers", "one for each token")),
    };
    check_length(KEY, numbers.len(), count)?;
    Ok(numbers.iter().map(|&number| TokenType::from_number(number)).collect())
}

fn scores(metadata: &Metadata, count: usize) -> Result<Vec<f32>, CheckpointError> {
    const KEY: &str = "tokenizer.ggml.scores";
    let scores = match metadata.get(KEY) {
        Some(Value::Array(Array::F32(scores))) => scores.clone(),
        Some(Value::Array(Array::I32(scores))) => scores.iter().map(|&x| x as f32).collect(),
        _ => return Err(refuse(KEY, "(nothing)", "a list of floats, one for each token")),
    };
    check_length(KEY, scores.len(), count)?;
    match scores.iter().find(|score| score.is_nan()) {
        Some(_) => Err(refuse(KEY, "NaN", "numbers")),
        None => Ok(scores),
    }
}

fn check_length(key: &str, found: usize, expected: usize) -> Result<(), CheckpointError> {
    match found == expected {
        true => Ok(()),
        false => Err(refuse(key, &format!("a list of {found}"), &format!("one of {expected}"))),
    }
}

fn special_tokens(
    metadata: &Metadata,
    kind: &VocabularyKind,
    count: usize,
) -> Result<SpecialTokens, CheckpointError> {
    let default = special::gguf_defaults(kind, count);
    // An id outside the vocabulary counts as missing, as in llama.cpp.
    let id = |key: &str, default: Option<u32>| {
        let stated = metadata.unsigned(&format!("tokenizer.ggml.{key}_token_id")).ok();
        let stated = stated.and_then(|id| u32::try_from(id).ok());
        stated.filter(|&id| (id as usize) < count).or(default)
    };
    let bos = id("bos", default.bos);
    let eos = id("eos", default.eos);
    Ok(SpecialTokens {
        bos,
        eos,
        more_eos: ends::read(|key| id(key, None)),
        unknown: id("unknown", default.unknown),
        padding: id("padding", default.padding),
        add_bos: bos.is_some() && switch(metadata, "add_bos_token", default.add_bos)?,
    })
}

fn switch(metadata: &Metadata, key: &str, default: bool) -> Result<bool, CheckpointError> {
    let key = format!("tokenizer.ggml.{key}");
    match metadata.get(&key) {
        None => Ok(default),
        Some(&Value::Bool(value)) => Ok(value),
        Some(_) => Err(refuse(&key, "something else", "true or false")),
    }
}

impl TokenType {
    /// An unknown number counts as text, as in older files.
    fn from_number(number: i32) -> Self {
        match number {
            2 => TokenType::Unknown,
            3 => TokenType::Control,
            4 => TokenType::UserDefined,
            5 => TokenType::Unused,
            6 => TokenType::Byte,
            _ => TokenType::Normal,
        }
    }
}

fn refuse(key: &str, value: &str, expected: &str) -> CheckpointError {
    CheckpointError::Setting {
        place: "GGUF metadata".into(),
        key: key.to_owned(),
        value: format!("{value:?}"),
        expected: expected.to_owned(),
    }
}
