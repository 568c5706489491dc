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
    let vocabulary = Vocabulary::parse(text).map_err(|error| error.to_string())?;
    vocabulary.describe(Architecture::Gpt2, rows, &mut metadata);
    Ok(metadata)
}

fn form(text: &str) -> GgufForm {
    Vocabulary::parse(text).unwrap().form
}

/// Why llama.cpp has no such tokenizer.
fn json_only(text: &str) -> String {
    match form(text) {
        GgufForm::JsonOnly(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn approximate(text: &str) -> String {
    match form(text) {
        GgufForm::Approximate(differs) => differs,
        other => panic!("{other:?}"),
    }
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
    assert_eq!(form(BPE), GgufForm::Exact);
}

#[test]
fn both_forms_of_a_merge_are_the_same() {
    let old = BPE.replace(r#"["a", "b"]"#, r#""a b""#);
    assert_eq!(describe(&old, 4), describe(BPE, 4));
}

#[test]
fn words_are_no_vocabulary_to_llama_cpp_and_the_file_goes_along() {
    let metadata = describe(WORDS, 3).unwrap();
    assert_eq!(metadata.string("tokenizer.ggml.model").unwrap(), "no_vocab");
    assert_eq!(metadata.unsigned("gpt2.vocab_size").unwrap(), 3);
    assert_eq!(metadata.get("tokenizer.ggml.merges"), None);
    assert_eq!(
        metadata.get("tokenizer.ggml.token_type"),
        Some(&Value::Array(Array::I32(vec![1, 3, 2])))
    );
    assert_eq!(metadata.string(TOKENIZER_JSON_KEY).unwrap(), WORDS);
    let read = Vocabulary::from_gguf(&metadata).unwrap();
    assert_eq!(read, Vocabulary::parse(WORDS).unwrap());
    // More rows than words.
    let metadata = describe(WORDS, 5).unwrap();
    assert_eq!(metadata.unsigned("gpt2.vocab_size").unwrap(), 5);
    assert_eq!(Vocabulary::from_gguf(&metadata).unwrap().tokens[3..], ["[PAD3]", "[PAD4]"]);
}

#[test]
fn what_llama_cpp_cannot_say_goes_along_as_the_file() {
    let pre = "\"add_prefix_space\": false";
    let unknown = "\"unk_token\": null";
    for (place, instead, expected) in [
        (pre, "\"add_prefix_space\": true".to_owned(), "add_prefix_space"),
        (pre, "\"trim_offsets\": true".to_owned(), "add_prefix_space"),
        (pre, format!("{pre}, \"use_regex\": false"), "none of those that are known"),
        ("ByteLevel", "Metaspace".to_owned(), "pre-tokenizer \"Metaspace\""),
        (unknown, "\"continuing_subword_prefix\": \"##\"".to_owned(), "continuing_subword"),
        (unknown, "\"end_of_word_suffix\": \"</w>\"".to_owned(), "end_of_word_suffix"),
        (unknown, "\"dropout\": 0.1".to_owned(), "dropout"),
        (unknown, "\"byte_fallback\": true".to_owned(), "beside byte_fallback"),
        (unknown, "\"ignore_merges\": true".to_owned(), "with ignore_merges"),
        ("{", "{\"normalizer\": {\"type\": \"NFKC\"},".to_owned(), "a normalizer (NFKC)"),
        (r#"["a", "b"]"#, r#"["a", " b"]"#.to_owned(), "a token with a space"),
        ("\"BPE\"", "\"WordPiece\"".to_owned(), "its model is WordPiece, not BPE"),
    ] {
        let text = BPE.replacen(place, &instead, 1);
        assert_ne!(text, BPE);
        let reason = json_only(&text);
        assert!(reason.contains(expected), "{reason}");
        let keys = describe(&text, 4).unwrap();
        assert_eq!(keys.string("tokenizer.ggml.model").unwrap(), "no_vocab");
        assert_eq!(keys.string(TOKENIZER_JSON_KEY).unwrap(), text);
    }
    for (place, instead, expected) in [
        ("\"special\": true", "\"special\": false, \"lstrip\": true", "has lstrip"),
        ("\"special\": true", "\"special\": true, \"rstrip\": true", "has rstrip"),
        ("\"special\": true", "\"single_word\": true", "has single_word"),
        ("{", "{\"normalizer\": {\"type\": \"NFC\"},", "normal form C"),
        (unknown, "\"unk_token\": \"a\"", "become the unknown one"),
        (
            "\"added_tokens\": [",
            r#""added_tokens": [{"id": 9, "content": "xab"}, {"id": 9, "content": "abcd"},
                {"id": 9, "content": "  "}, {"id": 9, "content": "   "},"#,
            r#""xab" and "abcd" overlap"#,
        ),
        ("\"b\": 1", "\"b\": 0", "\"a\" and \"b\" are both token 0"),
    ] {
        let text = BPE.replacen(place, instead, 1);
        assert_ne!(text, BPE);
        let reason = approximate(&text);
        assert!(reason.contains(expected), "{reason}");
        let keys = describe(&text, 4).unwrap();
        assert_eq!(keys.string("tokenizer.ggml.model").unwrap(), "gpt2");
        assert_eq!(keys.string(TOKENIZER_JSON_KEY).unwrap(), text);
    }
    // The defaults, written out.
    let explicit = format!(
        "{unknown}, \"continuing_subword_prefix\": \"\", \"end_of_word_suffix\": null, \
         \"byte_fallback\": false, \"ignore_merges\": false"
    );
    let explicit = BPE.replace(unknown, &explicit).replacen('{', "{\"normalizer\": null,", 1);
    assert_eq!(describe(&explicit, 4), describe(BPE, 4));
}

#[test]
fn two_tokens_before_a_text_are_more_than_a_gguf_says() {
    let around = r#""post_processor": {"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "a", "type_id": 0}}, {"SpecialToken": {"id": "b", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}}]}, "model""#;
    let text = BPE.replace("\"model\"", around);
    assert!(approximate(&text).contains(r#"["a", "b"] go before a text"#));
    assert!(Vocabulary::parse(&text).unwrap().is_complete);
}

/// The definitions from the models' own files.
#[test]
fn pre_tokenizers_have_llama_cpps_names() {
    let llama3 = r#"{"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex":
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
        "behavior": "Isolated", "invert": false}, {"type": "ByteLevel", "add_prefix_space": false,
        "trim_offsets": true, "use_regex": false}]}"#;
    let qwen2 = llama3.replace("\\\\p{N}{1,3}", "\\\\p{N}");
    let smollm = r#"{"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]}"#;
    let gpt2 = r#"{"type": "ByteLevel", "add_prefix_space": false}"#;
    // As in converted vocabularies of tiktoken.
    let removed =
        llama3.replace("\"Isolated\", \"invert\": false", "\"Removed\", \"invert\": true");
    assert_ne!(removed, llama3);
    for (definition, normalizer, ignore_merges, expected) in [
        (gpt2, "null", false, Ok("gpt-2")),
        (gpt2, r#"{"type": "NFC"}"#, false, Ok("gpt-2")),
        (smollm, "null", false, Ok("smollm")),
        (llama3, "null", true, Ok("llama-bpe")),
        (llama3, "null", false, Ok("dbrx")),
        (&removed, "null", false, Ok("dbrx")),
        (&qwen2, r#"{"type": "NFC"}"#, false, Ok("qwen2")),
        (&qwen2, "null", false, Ok("qwen2")),
        (&qwen2, "null", true, Err("none of those that are known")),
        (llama3, r#"{"type": "NFC"}"#, true, Ok("llama-bpe")),
        (&llama3.replace("Isolated", "Removed"), "null", true, Err("a pattern that is not known")),
        (&llama3.replace("{1,3}", "{1,4}"), "null", true, Err("a pattern that is not known")),
    ] {
        let text = BPE
            .replace(r#"{"type": "ByteLevel", "add_prefix_space": false}"#, definition)
            .replace("\"unk_token\": null", &format!("\"ignore_merges\": {ignore_merges}"))
            .replacen('{', &format!("{{\"normalizer\": {normalizer},"), 1);
        match expected {
            Ok(name) => {
                let keys = describe(&text, 4).unwrap();
                assert_eq!(keys.string("tokenizer.ggml.pre").unwrap(), name);
            }
            Err(part) => assert!(json_only(&text).contains(part), "{}", json_only(&text)),
        }
    }
}

/// `▁ab` can be made of `▁a b` and of `▁ ab`, so a SentencePiece model lists both.
const PIECES: &str = r#"{
    "added_tokens": [{"id": 0, "content": "<unk>", "special": true},
                     {"id": 1, "content": "<s>", "special": true},
                     {"id": 2, "content": "</s>", "special": true}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "pre_tokenizer": null,
    "post_processor": {"type": "TemplateProcessing", "single":
        [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]},
    "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true,
        "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": 3, "a": 4, "b": 5, "▁": 6,
                  "ab": 7, "▁ab": 8, "▁a": 9},
        "merges": ["a b", "▁a b", "▁ ab", "▁ a"]}}"#;

#[test]
fn sentencepiece_becomes_scores() {
    let keys = describe(PIECES, 11).unwrap();
    assert_eq!(keys.string("tokenizer.ggml.model").unwrap(), "llama");
    let array = |key: &str| keys.get(&format!("tokenizer.ggml.{key}")).unwrap().clone();
    let scores = vec![0.0, 0.0, 0.0, 0.0, -4.0, -4.0, -4.0, 0.0, -1.0, -3.0, UNUSED_SCORE];
    assert_eq!(array("scores"), Value::Array(Array::F32(scores)));
    let types = vec![2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 5];
    assert_eq!(array("token_type"), Value::Array(Array::I32(types)));
    let Value::Array(Array::String(tokens)) = array("tokens") else { panic!() };
    assert_eq!(tokens[10], "[PAD10]");
    for (key, id) in [("bos", 1), ("eos", 2), ("unknown", 0)] {
        assert_eq!(array(&format!("{key}_token_id")), Value::U32(id));
    }
    assert_eq!(array("add_bos_token"), Value::Bool(true));
    assert_eq!(array("add_space_prefix"), Value::Bool(true));
    // It lacks byte tokens, so the file is stored as well, and read back.
    assert!(approximate(PIECES).contains("256 byte tokens"));
    let read = Vocabulary::from_gguf(&keys).unwrap();
    assert_eq!(read.tokens.len(), 11);
    let mut again = Metadata::new();
    read.describe(Architecture::Gpt2, 11, &mut again);
    assert_eq!(again, keys);
}

#[test]
fn gemmas_cut_at_spaces_of_which_none_are_left_is_none() {
    let cut = r#""pre_tokenizer": {"type": "Split", "pattern": {"String": " "},
        "behavior": "MergedWithPrevious", "invert": false}"#;
    let text = PIECES.replace("\"pre_tokenizer\": null", cut);
    assert!(approximate(&text).contains("256 byte tokens"));
}

#[test]
fn sentencepiece_that_is_not_made_from_scores_is_no_kind_of_llama_cpps() {
    for (place, instead, expected) in [
        (r#""▁a b", "#, "", "not every pair of tokens that spells \"▁ab\""),
        (r#""▁ ab", "▁ a""#, r#""▁ a", "▁ ab""#, "do not stand together"),
        (r#""a b""#, r#""a x""#, "which is not in the vocabulary"),
        (r#""Prepend""#, r#""NFKC""#, "its normalizer \"Sequence\""),
        (r#""pre_tokenizer": null"#, r#""pre_tokenizer": {"type": "Digits"}"#, "\"Digits\""),
    ] {
        let text = PIECES.replacen(place, instead, 1);
        assert_ne!(text, PIECES);
        let reason = match Vocabulary::parse(&text) {
            Ok(vocabulary) => vocabulary.form.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn spaces_go_before_a_text_as_the_file_says() {
    let normalizer = PIECES.split("\"normalizer\": ").nth(1).unwrap();
    let normalizer = &normalizer[..normalizer.find(",\n    \"pre_tokenizer\"").unwrap()];
    let metaspace = |scheme: &str| {
        let step = format!(
            r#"{{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "{scheme}", "split": false}}"#
        );
        PIECES
            .replace(normalizer, "null")
            .replace("\"pre_tokenizer\": null", &format!("\"pre_tokenizer\": {step}"))
    };
    for (text, expected) in [
        (PIECES.to_owned(), SpacePrefix::Always),
        (metaspace("always"), SpacePrefix::Missing),
        (metaspace("first"), SpacePrefix::MissingFirst),
        (metaspace("never"), SpacePrefix::Never),
    ] {
        let vocabulary = Vocabulary::parse(&text).unwrap();
        let VocabularyKind::SentencePiece { prefix, .. } = vocabulary.kind else { panic!() };
        assert_eq!(prefix, expected);
    }
    let split = metaspace("first").replace("\"split\": false", "\"split\": true");
    assert!(json_only(&split).contains("Metaspace"));
}

#[test]
fn the_files_beside_name_special_tokens_and_the_template() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let read = || Vocabulary::of_folder(folder.path(), PIECES);
    assert_eq!(read().unwrap().special.bos, Some(1));

    write("config.json", r#"{"bos_token_id": 4, "eos_token_id": [5, 6], "pad_token_id": 99}"#);
    let special = read().unwrap().special;
    assert_eq!((special.bos, special.eos, special.padding), (Some(4), Some(5), None));
    assert_eq!(special.more_eos, [6]);
    // The file that transformers' `generate` uses comes first.
    write("generation_config.json", r#"{"eos_token_id": [6, 99, 7]}"#);
    let special = read().unwrap().special;
    assert_eq!((special.eos, special.more_eos), (Some(6), vec![7]));
    assert!(!special.add_bos, "the template puts another token there");

    write(
        "tokenizer_config.json",
        r#"{"bos_token": "<s>", "eos_token": {"content": "ab"}, "pad_token": "<unk>",
            "add_bos_token": false, "add_eos_token": true, "chat_template": "one"}"#,
    );
    let vocabulary = read().unwrap();
    assert_eq!(vocabulary.chat_template.as_deref(), Some("one"));
    let expected = SpecialTokens {
        bos: Some(1),
        eos: Some(7),
        more_eos: vec![6],
        unknown: Some(0),
        padding: Some(0),
        add_bos: true,
    };
    assert_eq!(vocabulary.special, expected);

    write("tokenizer_config.json", r#"{"eos_token": "<|none|>"}"#);
    assert!(read().unwrap_err().to_string().contains("\"<|none|>\", which is not in"));
    write("tokenizer_config.json", r#"{"pad_token": "<|none|>"}"#);
    assert_eq!(read().unwrap().special.padding, None);
    write("tokenizer_config.json", "{");
    assert!(read().unwrap_err().to_string().contains("tokenizer_config.json"));
}

/// The template that transformers itself uses, from `golden/make_templates.py`.
#[test]
fn the_chat_template_is_the_one_that_transformers_takes() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/golden/templates.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 10);
    for case in cases {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in case["files"].as_object().unwrap() {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text.as_str().unwrap()).unwrap();
        }
        let template = Vocabulary::of_folder(folder.path(), PIECES).unwrap().chat_template;
        assert_eq!(template.as_deref(), case["template"].as_str(), "{case}");
    }
}

/// `AutoTokenizer` does not read `chat_template.json`, older processors do.
#[test]
fn the_template_of_an_older_processor_is_the_last_choice() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let template = || Vocabulary::of_folder(folder.path(), PIECES).map(|v| v.chat_template);
    write("chat_template.json", r#"{"chat_template": "legacy"}"#);
    assert_eq!(template().unwrap().as_deref(), Some("legacy"));
    write("tokenizer_config.json", r#"{"chat_template": "stated"}"#);
    assert_eq!(template().unwrap().as_deref(), Some("stated"));
    write("tokenizer_config.json", "{}");
    write("chat_template.json", "{");
    assert!(template().unwrap_err().to_string().contains("chat_template.json"));
    write("chat_template.jinja", &"x".repeat((1 << 20) + 1));
    assert!(template().unwrap_err().to_string().contains("expected at most"));
}

/// The ids that llama.cpp treats as ends were taken from its own tokenizer:
/// `generate/tests/tokenizers.rs`.
#[test]
fn all_that_ends_a_text_is_known_to_a_gguf() {
    let text = PIECES.replace("\"<0x0A>\": 3", "\"<|im_end|>\": 3");
    let mut vocabulary = Vocabulary::parse(&text).unwrap();
    assert_eq!(vocabulary.ends(), [2, 3], "</s> and a name");
    vocabulary.special.more_eos = vec![3, 7, 5];
    assert_eq!(vocabulary.ends(), [2, 3, 5, 7]);
    let mut keys = Metadata::new();
    vocabulary.describe(Architecture::Llama, 10, &mut keys);
    let key = |name: &str| keys.unsigned(&format!("tokenizer.ggml.{name}_token_id")).ok();
    assert_eq!((key("eos"), key("eot"), key("eom")), (Some(2), Some(7), Some(5)));
    let read = Vocabulary::from_gguf(&keys).unwrap();
    assert_eq!(read.special.more_eos, [7, 5]);
    assert_eq!(read.ends(), [2, 3, 5, 7]);
}

#[test]
fn an_id_without_a_token_and_a_row_without_one_are_filled() {
    let hole = BPE.replace("\"b\": 1", "\"b\": 4").replace("\"ab\"", "\"[PAD1]\"");
    let hole = hole.replace(r#"[["a", "b"]]"#, "[]");
    let keys = describe(&hole, 7).unwrap();
    let Some(Value::Array(Array::String(tokens))) = keys.get("tokenizer.ggml.tokens") else {
        panic!()
    };
    // llama.cpp aborts on two tokens with the same name.
    assert_eq!(*tokens, ["a", "[PAD1_]", "[PAD1]", "<|endoftext|>", "b", "[PAD5]", "[PAD6]"]);
    let types = Value::Array(Array::I32(vec![1, 5, 1, 3, 1, 5, 5]));
    assert_eq!(keys.get("tokenizer.ggml.token_type"), Some(&types));
    assert_eq!(form(&hole), GgufForm::Exact);
}

/// The tokenizers crate ignores the id in the file and counts on from the model's own ids.
#[test]
fn added_tokens_have_the_ids_that_the_crate_gives_them() {
    let text = BPE.replace(
        "\"added_tokens\": [",
        r#""added_tokens": [{"id": 9, "content": "x"}, {"id": 8, "content": "y"},
            {"id": 1, "content": "ab"},"#,
    );
    let vocabulary = Vocabulary::parse(&text).unwrap();
    assert_eq!(vocabulary.tokens, ["a", "b", "ab", "<|endoftext|>", "x", "y"]);
    let types = [TokenType::UserDefined, TokenType::Control, TokenType::UserDefined];
    assert_eq!(vocabulary.types[2..5], types);
}

#[test]
fn merges_are_kept_where_every_token_has_a_row() {
    let mut vocabulary = Vocabulary::parse(BPE).unwrap();
    // A merge into a token that the vocabulary lacks: llama.cpp has no use for it, and keeps it.
    let VocabularyKind::Bpe { merges, .. } = &mut vocabulary.kind else { panic!() };
    merges.push("b a".to_owned());
    let mut keys = Metadata::new();
    vocabulary.describe(Architecture::Gpt2, 4, &mut keys);
    let merges = Value::Array(Array::String(strings(&["a b", "b a"])));
    assert_eq!(keys.get("tokenizer.ggml.merges"), Some(&merges));
}

#[test]
fn tokens_without_a_row_stay_in_the_file_only() {
    let vocabulary = Vocabulary::parse(BPE).unwrap();
    let GgufForm::Approximate(differs) = vocabulary.gguf_form(2) else { panic!() };
    assert!(differs.contains("the 2 tokens beyond the 2 rows") && differs.contains("\"ab\""));
    assert_eq!(vocabulary.gguf_form(4), GgufForm::Exact);
    let keys = describe(BPE, 2).unwrap();
    let array = |key: &str| keys.get(&format!("tokenizer.ggml.{key}")).unwrap().clone();
    assert_eq!(array("tokens"), Value::Array(Array::String(strings(&["a", "b"]))));
    assert_eq!(array("merges"), Value::Array(Array::String(vec![])));
    assert_eq!(keys.get("tokenizer.ggml.eos_token_id"), None);
    assert_eq!(keys.string(TOKENIZER_JSON_KEY).unwrap(), BPE);
    assert_eq!(Vocabulary::from_gguf(&keys).unwrap().tokens.len(), 4);
}

#[test]
fn broken_files_are_refused_with_the_reason() {
    let refusals = [
        (BPE.replace("[\"a\", \"b\"]", "\"a b c\""), "expected two tokens and a space"),
        (BPE.replace("[\"a\", \"b\"]", "\"ab\""), "expected two tokens and a space"),
        (WORDS.replace("\"a\": 0", "\"a\": 4000000000"), "4000000000: expected less than"),
        (BPE.replace("\"a\": 0", "\"a\": -1"), "expected u32"),
        ("{".to_owned(), "EOF"),
    ];
    for (text, expected) in refusals {
        let error = describe(&text, 4).unwrap_err();
        assert!(error.starts_with("tokenizer.json: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn end_of_text_behind_every_text_is_nothing_that_llama_cpp_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer_config.json");
    std::fs::write(path, r#"{"eos_token": "<|endoftext|>", "add_eos_token": true}"#).unwrap();
    let vocabulary = Vocabulary::of_folder(folder.path(), BPE).unwrap();
    let mut keys = Metadata::new();
    vocabulary.describe(Architecture::Gpt2, 4, &mut keys);
    assert_eq!(keys.get("tokenizer.ggml.add_eos_token"), None);
    assert_eq!(keys.unsigned("tokenizer.ggml.eos_token_id").unwrap(), 3);
}

#[test]
fn damaged_keys_of_a_gguf_are_refused() {
    let mut keys = Metadata::new();
    for (key, value) in describe(PIECES, 10).unwrap().iter() {
        if key != TOKENIZER_JSON_KEY {
            keys.set(key, value.clone());
        }
    }
    let refused = |key: &str, value: Value| {
        let mut keys = keys.clone();
        keys.set(format!("tokenizer.ggml.{key}"), value);
        Vocabulary::from_gguf(&keys).unwrap_err().to_string()
    };
    let text = |text: &str| Value::String(text.into());
    assert!(refused("model", text("t5")).contains("\"t5\", expected gpt2"));
    assert!(refused("model", text("gpt2")).contains("pre = \"default\", expected one of gpt-2"));
    let short = Value::Array(Array::F32(vec![0.0; 9]));
    assert!(refused("scores", short).contains("a list of 9"));
    assert!(refused("scores", text("x")).contains("a list of floats"));
    let nan = Value::Array(Array::F32(vec![f32::NAN; 10]));
    assert!(refused("scores", nan).contains("NaN"));
    let long = Value::Array(Array::I32(vec![1; 11]));
    assert!(refused("token_type", long).contains("a list of 11"));
    assert!(refused("add_bos_token", Value::U32(1)).contains("true or false"));
    // An id outside the vocabulary counts as missing.
    let mut keys = keys.clone();
    keys.set("tokenizer.ggml.eos_token_id", Value::U32(10));
    assert_eq!(Vocabulary::from_gguf(&keys).unwrap().special.eos, Some(2));
}
