//! The files of a tokenizer with another chat template, and with the special tokens that this
//! template writes.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Vocabulary;
use super::special::{TOKENIZER_CONFIG_BYTES, read_json};
use crate::{
    CHAT_TEMPLATE_FILE, CheckpointError, GENERATION_FILE, SPECIAL_TOKENS_FILE,
    TOKENIZER_CONFIG_FILE, TOKENIZER_FILE,
};

/// A chat template that a tokenizer is to have.
#[derive(Debug, Clone, Copy)]
pub struct NewTemplate<'a> {
    /// Its text.
    pub text: &'a str,
    /// Special tokens that it writes; those that the vocabulary lacks are added behind the others.
    pub tokens: &'a [&'a str],
    /// The one of them that ends an answer, if it is another than so far.
    pub end: Option<&'a str>,
}

/// Writes the files of a tokenizer into the empty folder `dir`: those of `from`, the folder of
/// `tokenizer_json` if it has one, with the template, its tokens and its end in place of theirs.
///
/// # Errors
/// When a file is malformed, cannot be read or cannot be written.
pub fn write_with_template(
    dir: &Path,
    tokenizer_json: &str,
    from: Option<&Path>,
    template: NewTemplate<'_>,
) -> Result<(), CheckpointError> {
    let before = match from {
        Some(folder) => Vocabulary::of_folder(folder, tokenizer_json)?,
        None => Vocabulary::parse(tokenizer_json)?,
    };
    let text = with_tokens(tokenizer_json, template.tokens)?;
    let after = Vocabulary::parse(&text)?;
    let id = |token: &str| after.tokens.iter().position(|text| text == token);
    let beside = |name: &str| match from {
        Some(folder) => read_json(&folder.join(name), TOKENIZER_CONFIG_BYTES),
        None => Ok(Value::Null),
    };

    let spelling = |id: Option<u32>| id.and_then(|id| before.tokens.get(id as usize)).cloned();
    let end = template.end.map(str::to_owned).or_else(|| spelling(before.special.eos));
    let mut config = object(beside(TOKENIZER_CONFIG_FILE)?);
    config.remove("chat_template");
    config.entry("tokenizer_class").or_insert("PreTrainedTokenizerFast".into());
    for (key, token) in [("bos_token", spelling(before.special.bos)), ("eos_token", end.clone())] {
        if let Some(token) = token {
            config.insert(key.to_owned(), token.into());
        }
    }
    if let Some(Value::Object(added)) = config.get_mut("added_tokens_decoder") {
        let missing = template.tokens.iter().filter_map(|token| Some((id(token)?, token)));
        for (id, token) in missing {
            added.entry(id.to_string()).or_insert_with(|| entry(token));
        }
    }
    let mut ends: Vec<Value> = end.as_deref().and_then(id).map(Value::from).into_iter().collect();
    let others = before.special.eos.into_iter().chain(before.special.more_eos.iter().copied());
    ends.extend(others.map(Value::from));
    ends.dedup();
    let mut generation = object(beside(GENERATION_FILE)?);
    generation.insert("eos_token_id".to_owned(), ends.into());
    if let Some(bos) = before.special.bos {
        generation.insert("bos_token_id".to_owned(), bos.into());
    }
    let mut special = object(beside(SPECIAL_TOKENS_FILE)?);
    if let (Some(end), false) = (&end, special.is_empty()) {
        special.insert("eos_token".to_owned(), end.as_str().into());
    }

    write(dir, TOKENIZER_FILE, &text)?;
    write(dir, CHAT_TEMPLATE_FILE, template.text)?;
    for (name, value) in [
        (TOKENIZER_CONFIG_FILE, config),
        (GENERATION_FILE, generation),
        (SPECIAL_TOKENS_FILE, special),
    ] {
        if !value.is_empty() {
            write(dir, name, &format!("{:#}\n", Value::Object(value)))?;
        }
    }
    Ok(())
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// A `tokenizer.json` that has all of `tokens` as special tokens; the text itself if it has them.
fn with_tokens(tokenizer_json: &str, tokens: &[&str]) -> Result<String, CheckpointError> {
    let vocabulary = Vocabulary::parse(tokenizer_json)?;
    let missing: Vec<&&str> = tokens
        .iter()
        .filter(|token| !vocabulary.tokens.iter().any(|text| text == **token))
        .collect();
    if missing.is_empty() {
        return Ok(tokenizer_json.to_owned());
    }
    let malformed = |source| CheckpointError::Json { path: TOKENIZER_FILE.into(), source };
    let mut file: Value = serde_json::from_str(tokenizer_json).map_err(malformed)?;
    if !file["added_tokens"].is_array() {
        file["added_tokens"] = json!([]);
    }
    if let Some(added) = file["added_tokens"].as_array_mut() {
        for (id, token) in (vocabulary.tokens.len()..).zip(missing) {
            let mut entry = entry(token);
            entry["id"] = id.into();
            added.push(entry);
        }
    }
    Ok(format!("{file:#}\n"))
}

/// A special token as both files spell one out.
fn entry(token: &str) -> Value {
    json!({
        "content": token, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    })
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), CheckpointError> {
    let path = dir.join(name);
    fs::write(&path, text).map_err(CheckpointError::io(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: NewTemplate<'static> = NewTemplate {
        text: "{{ 1 }}",
        tokens: &["<|im_start|>", "<|im_end|>"],
        end: Some("<|im_end|>"),
    };

    fn tokenizer(added: Value) -> String {
        json!({
            "added_tokens": added, "normalizer": null,
            "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false },
            "decoder": { "type": "ByteLevel" },
            "model": { "type": "BPE", "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": ["a b"] },
        })
        .to_string()
    }

    fn added(id: u32, token: &str) -> Value {
        let mut entry = entry(token);
        entry["id"] = id.into();
        entry
    }

    #[test]
    fn tokens_are_added_behind_the_others_once() {
        let from = tempfile::tempdir().unwrap();
        let text = tokenizer(json!([added(3, "<|endoftext|>")]));
        fs::write(
            from.path().join(TOKENIZER_CONFIG_FILE),
            r#"{"eos_token": "<|endoftext|>", "chat_template": "old", "model_max_length": 7}"#,
        )
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        write_with_template(dir.path(), &text, Some(from.path()), TEMPLATE).unwrap();
        let text = fs::read_to_string(dir.path().join(TOKENIZER_FILE)).unwrap();
        let found = Vocabulary::of_folder(dir.path(), &text).unwrap();
        assert_eq!(found.tokens[3..], ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]);
        assert_eq!((found.special.eos, found.ends()), (Some(5), vec![3, 5]));
        assert_eq!(found.chat_template.as_deref(), Some("{{ 1 }}"));
        let config = fs::read_to_string(dir.path().join(TOKENIZER_CONFIG_FILE)).unwrap();
        assert!(config.contains("\"model_max_length\": 7") && !config.contains("old"), "{config}");

        let again = tempfile::tempdir().unwrap();
        write_with_template(again.path(), &text, Some(dir.path()), TEMPLATE).unwrap();
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            let same = again.path().join(path.file_name().unwrap());
            assert_eq!(fs::read(&path).unwrap(), fs::read(same).unwrap(), "{}", path.display());
        }
    }

    #[test]
    fn a_tokenizer_without_a_folder_gets_one() {
        let dir = tempfile::tempdir().unwrap();
        let text = tokenizer(json!([added(3, "<|endoftext|>")]));
        write_with_template(dir.path(), &text, None, TEMPLATE).unwrap();
        let text = fs::read_to_string(dir.path().join(TOKENIZER_FILE)).unwrap();
        let found = Vocabulary::of_folder(dir.path(), &text).unwrap();
        assert_eq!((found.tokens.len(), found.special.eos), (6, Some(5)));
    }
}
