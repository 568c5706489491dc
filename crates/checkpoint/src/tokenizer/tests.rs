//! From `tokenizer.json` to the keys of a GGUF and back.

use super::*;

const BPE: &str = r#"{
    "added_tokens": [{"id": 3, "content": "<|endoftext|>", "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "model": {"type": "BPE", "unk_token": null,
        "vocab": {"a": 0, "ab": 2, "<|endoftext|>": 3, "b": 1}, "merges": [["a", "b"]]}}"#;

const WORDS: &str = r#"{
    "added_tokens": [{"id": 2, "content": "<|unk|>", "special": true},
                     {"id": 1, "content": "<|endoftext|>", "special": true}],
    "model": {"type": "WordLevel", "unk_token": "<|unk|>",
        "vocab": {"a": 0, "<|endoftext|>": 1, "<|unk|>": 2}}}"#;

fn describe(text: &str, rows: usize) -> Result<Metadata, String> {
    let mut metadata = Metadata::new();
    Vocabulary::parse(text)
        .and_then(|v| v.describe(Architecture::Gpt2, rows, &mut metadata))
        .map_err(|error| error.to_string())?;
    Ok(metadata)
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn bpe_becomes_the_keys_that_llama_cpp_reads() {
    let metadata = describe(BPE, 4).unwrap();
    let expected = [
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String("gpt-2".into())),
        (
            "tokenizer.ggml.tokens",
            Value::Array(Array::String(strings(&["a", "b", "ab", "<|endoftext|>"]))),
        ),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1, 1, 1, 3]))),
        ("tokenizer.ggml.merges", Value::Array(Array::String(strings(&["a b"])))),
        ("tokenizer.ggml.bos_token_id", Value::U32(3)),
        ("tokenizer.ggml.eos_token_id", Value::U32(3)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
    ];
    let found: Vec<(&str, Value)> = metadata.iter().map(|(k, v)| (k, v.clone())).collect();
    assert_eq!(found, expected);
}

#[test]
fn both_forms_of_a_merge_are_the_same() {
    let old = BPE.replace(r#"["a", "b"]"#, r#""a b""#);
    assert_eq!(describe(&old, 4), describe(BPE, 4));
}

#[test]
fn words_are_no_vocabulary_to_llama_cpp() {
    let metadata = describe(WORDS, 3).unwrap();
    assert_eq!(metadata.string("tokenizer.ggml.model").unwrap(), "no_vocab");
    assert_eq!(metadata.unsigned("gpt2.vocab_size").unwrap(), 3);
    assert_eq!(metadata.get("tokenizer.ggml.merges"), None);
    assert_eq!(
        metadata.get("tokenizer.ggml.token_type"),
        Some(&Value::Array(Array::I32(vec![1, 3, 2])))
    );
}

#[test]
fn a_byte_level_bpe_that_is_not_gpt2s_is_refused() {
    let pre = "\"add_prefix_space\": false";
    let unknown = "\"unk_token\": null";
    for (place, instead, expected) in [
        (pre, "\"add_prefix_space\": true".to_owned(), "add_prefix_space"),
        (pre, "\"trim_offsets\": true".to_owned(), "add_prefix_space"),
        (pre, format!("{pre}, \"use_regex\": false"), "use_regex = false"),
        (unknown, "\"continuing_subword_prefix\": \"##\"".to_owned(), "continuing_subword"),
        (unknown, "\"end_of_word_suffix\": \"</w>\"".to_owned(), "end_of_word_suffix"),
        (unknown, "\"byte_fallback\": true".to_owned(), "byte_fallback"),
        (unknown, "\"ignore_merges\": true".to_owned(), "ignore_merges"),
        ("{", "{\"normalizer\": {\"type\": \"NFC\"},".to_owned(), "a normalizer"),
    ] {
        let text = BPE.replacen(place, &instead, 1);
        assert_ne!(text, BPE);
        let error = describe(&text, 4).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    // What they are when they are written out.
    let explicit = format!(
        "{unknown}, \"continuing_subword_prefix\": \"\", \"end_of_word_suffix\": null, \
         \"byte_fallback\": false, \"ignore_merges\": false"
    );
    let explicit = BPE.replace(unknown, &explicit).replacen('{', "{\"normalizer\": null,", 1);
    assert_eq!(describe(&explicit, 4), describe(BPE, 4));
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let refusals = [
        (BPE.to_owned(), 5, "4 tokens, but the model's embedding has 5 rows"),
        (BPE.replace("\"b\": 1", "\"b\": 7"), 4, "id 1 has no token"),
        (BPE.replace("\"b\": 1", "\"b\": 0"), 4, "id 0 has two tokens"),
        (BPE.replace("\"a\", \"b\"", "\"a\", \"b c\""), 4, "expected two tokens"),
        (BPE.replace("[\"a\", \"b\"]", "\"ab\""), 4, "expected two tokens"),
        (BPE.replace("ByteLevel", "Metaspace"), 4, "pre-tokenizer \"Metaspace\""),
        (BPE.replace("\"BPE\"", "\"Unigram\""), 4, "model type Unigram"),
        (BPE.replace("\"id\": 3", "\"id\": 4"), 4, "is token 3 in the vocabulary and 4"),
        (WORDS.replace("\"id\": 2", "\"id\": 4000000000"), 3, "4000000000 among the added"),
        ("{".to_owned(), 4, "EOF"),
    ];
    for (text, rows, expected) in refusals {
        let error = describe(&text, rows).unwrap_err();
        assert!(error.starts_with("tokenizer.json: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}
