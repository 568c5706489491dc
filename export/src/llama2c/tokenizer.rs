//! Converts SentencePiece's pieces and scores into a `tokenizer.json` that splits text in the same
//! way.
//!
//! The file holds merges instead of scores: every pair of tokens that forms a token, best score
//! first. Source: `generate_merges` and `LlamaConverter` in `convert_slow_tokenizer.py` of
//! transformers.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, bail, ensure};
use checkpoint::{TokenType, Vocabulary, VocabularyKind};
use serde_json::{Map, Value, json};

/// The text of the file. `vocabulary` is one that llama2.c reads.
pub(super) fn to_json(vocabulary: &Vocabulary) -> Result<String> {
    let VocabularyKind::SentencePiece { scores, .. } = &vocabulary.kind else {
        bail!("it holds no SentencePiece scores");
    };
    let tokens = &vocabulary.tokens;
    let mut vocab = Map::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        let twice = vocab.insert(token.clone(), json!(id));
        ensure!(twice.is_none(), "token {id}, {token:?}, is there twice");
    }
    let unknown = vocabulary.special.unknown.and_then(|id| tokens.get(id as usize));
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(vocabulary),
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null,
        "post_processor": post_processor(vocabulary),
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": merges(vocabulary, scores)?,
        },
    });
    Ok(serde_json::to_string_pretty(&file)?)
}

fn added_tokens(vocabulary: &Vocabulary) -> Value {
    let special = |id: usize| {
        matches!(vocabulary.types[id], TokenType::Control | TokenType::Unknown).then(|| {
            json!({"id": id, "content": vocabulary.tokens[id], "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        })
    };
    (0..vocabulary.tokens.len()).filter_map(special).collect()
}

/// Adds the token that begins a text before it.
fn post_processor(vocabulary: &Vocabulary) -> Value {
    let Some(id) = vocabulary.special.bos.filter(|_| vocabulary.special.add_bos) else {
        return Value::Null;
    };
    let bos = &vocabulary.tokens[id as usize];
    let begin = |kind: u32| json!({"SpecialToken": {"id": bos, "type_id": kind}});
    let text = |name: &str, kind: u32| json!({"Sequence": {"id": name, "type_id": kind}});
    json!({
        "type": "TemplateProcessing",
        "single": [begin(0), text("A", 0)],
        "pair": [begin(0), text("A", 0), begin(1), text("B", 1)],
        "special_tokens": {bos: {"id": bos, "ids": [id], "tokens": [bos]}},
    })
}

/// All pairs of tokens that form a token, those with the best score first.
fn merges(vocabulary: &Vocabulary, scores: &[f32]) -> Result<Vec<[String; 2]>> {
    let tokens = &vocabulary.tokens;
    let ids: HashMap<&str, usize> = tokens.iter().map(String::as_str).zip(0..).collect();
    let normal = |id: usize| vocabulary.types[id] == TokenType::Normal;
    let splits = |text: &str| -> Vec<[String; 2]> {
        let halves = text.char_indices().skip(1).map(|(middle, _)| text.split_at(middle));
        let known = halves.filter(|(a, b)| [a, b].iter().all(|half| ids.contains_key(**half)));
        known.map(|(a, b)| [a.to_owned(), b.to_owned()]).collect()
    };
    let mut made: Vec<(usize, Vec<[String; 2]>)> = (0..tokens.len())
        .filter(|&id| normal(id))
        .map(|id| (id, splits(&tokens[id])))
        .filter(|(_, splits)| !splits.is_empty())
        .collect();
    made.sort_by(|(a, _), (b, _)| scores[*b].total_cmp(&scores[*a]));

    let mut seen = HashSet::new();
    if let Some((id, _)) = made.iter().find(|(id, _)| !seen.insert(scores[*id].to_bits())) {
        bail!(
            "token {id}, {:?}, has the score {} of another token: which of the two merges first \
             is not said",
            tokens[*id],
            scores[*id]
        );
    }
    Ok(made.into_iter().flat_map(|(_, splits)| splits).collect())
}
