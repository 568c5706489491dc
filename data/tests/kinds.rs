//! Kinds of tokenizer besides GPT-2's own: trained on a text, SentencePiece's, and those that run
//! in Hugging Face's crate, with which the first two are compared.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::sync::LazyLock;

use crate::common::{conformance_inputs, shared};
use checkpoint::Vocabulary;
use data::{BUILTIN_STORY, Corpus, END_OF_TEXT, Tokenizer, train_tokenizer};
use gguf::Metadata;
use proptest::prelude::*;

static TRAINED: LazyLock<Tokenizer> =
    LazyLock::new(|| train_tokenizer(&Corpus::open("builtin".as_ref()).unwrap(), 700).unwrap());

/// The output of Hugging Face's crate for our file.
fn hugging_face(tokenizer: &Tokenizer) -> tokenizers::Tokenizer {
    tokenizer.tokenizer_json().unwrap().parse().unwrap()
}

fn ids(peer: &tokenizers::Tokenizer, text: &str) -> Vec<u32> {
    peer.encode_fast(text, false).unwrap().get_ids().to_vec()
}

/// The keys that a GGUF would have for a `tokenizer.json`.
fn gguf_keys(json: &str) -> Metadata {
    let vocabulary = Vocabulary::parse(json).unwrap();
    let mut metadata = Metadata::new();
    let rows = vocabulary.tokens.len();
    vocabulary.describe(config::Architecture::Llama, rows, &mut metadata);
    metadata
}

/// The tokenizer of a trained 260K model, if the shared data is present.
fn stories(test: &str) -> Option<Tokenizer> {
    let path = shared(test, "stories260K/tok512.bin")?;
    Some(Tokenizer::from_vocabulary(&Vocabulary::from_llama2c(&path, 512).unwrap()).unwrap())
}

fn text() -> impl Strategy<Value = String> {
    let atoms = prop::sample::select(vec![
        "Once upon a time",
        " there was",
        "a little girl",
        " ",
        "  ",
        "\n",
        ".",
        "\u{2581}",
        "\u{E9}",
        "\u{4E2D}\u{6587}",
        "\u{1F600}",
        "'s",
        "123",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "the the",
    ]);
    prop_oneof![
        any::<String>(),
        "[a-z ]{0,100}",
        prop::collection::vec(atoms, 0..30).prop_map(|atoms| atoms.concat()),
    ]
}

#[test]
fn a_trained_tokenizer_is_gpt2s_with_other_merges() {
    assert_eq!(TRAINED.vocab_size(), 700);
    assert_eq!(TRAINED.end_of_text(), Some(699));
    assert_eq!(TRAINED.kind(), "byte-level BPE");
    assert_eq!(TRAINED.encode_with_specials("a<|endoftext|>").unwrap()[1..], [699]);
    let gpt2 = Tokenizer::gpt2().unwrap();
    // The bytes have GPT-2's ids, so that only the trained tokens differ.
    for id in 0..256 {
        assert_eq!(TRAINED.token_bytes(id), gpt2.token_bytes(id));
    }
    assert!(TRAINED.encode(BUILTIN_STORY).unwrap().len() * 2 < BUILTIN_STORY.len());
}

#[test]
fn equal_texts_give_equal_files() {
    let again = train_tokenizer(&Corpus::open("builtin".as_ref()).unwrap(), 700).unwrap();
    assert_eq!(again.tokenizer_json().unwrap(), TRAINED.tokenizer_json().unwrap());
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let alone = one_thread
        .install(|| train_tokenizer(&Corpus::open("builtin".as_ref()).unwrap(), 700).unwrap());
    assert_eq!(alone.tokenizer_json().unwrap(), TRAINED.tokenizer_json().unwrap());
}

#[test]
fn a_text_gives_no_more_tokens_than_it_has_patterns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    std::fs::write(&path, "ab ab ab cd").unwrap();
    let tokenizer = train_tokenizer(&Corpus::open(&path).unwrap(), 1000).unwrap();
    // "ab" and " ab"; "cd" occurs once.
    assert_eq!(tokenizer.vocab_size(), 259);
    assert_eq!(tokenizer.encode("ab ab cd").unwrap().len(), 5);
    let error = train_tokenizer(&Corpus::open(&path).unwrap(), 256).unwrap_err().to_string();
    assert!(error.contains("expected 257"), "{error}");
    let error = Corpus::open("no such text".as_ref()).unwrap_err();
    assert!(format!("{error:#}").contains("no such text"), "{error:#}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn trained_ids_are_hugging_faces(text in text()) {
        static PEER: LazyLock<tokenizers::Tokenizer> = LazyLock::new(|| hugging_face(&TRAINED));
        prop_assume!(!text.contains(END_OF_TEXT));
        let ours = TRAINED.encode(&text).unwrap();
        prop_assert_eq!(&ours, &ids(&PEER, &text));
        prop_assert_eq!(TRAINED.decode(&ours), text);
    }
}

#[test]
fn sentencepiece_from_scores_from_merges_and_by_hugging_face() {
    let Some(ours) = stories("sentencepiece") else { return };
    assert_eq!((ours.kind(), ours.vocab_size()), ("SentencePiece", 512));
    assert_eq!((ours.begin_of_text(), ours.end_of_text()), (Some(1), Some(2)));
    let json = ours.tokenizer_json().unwrap();
    let from_merges = Tokenizer::from_tokenizer_json(&json).unwrap();
    let from_gguf = Tokenizer::from_gguf(&gguf_keys(&json)).unwrap();
    let peer = hugging_face(&ours);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    runner
        .run(&text(), |text| {
            let expected = ours.encode(&text).unwrap();
            prop_assert_eq!(&from_merges.encode(&text).unwrap(), &expected);
            prop_assert_eq!(&from_gguf.encode(&text).unwrap(), &expected);
            prop_assert_eq!(&ids(&peer, &text), &expected);
            // A mark in the text is decoded as the space that it represents.
            prop_assert_eq!(ours.decode(&expected), text.replace('\u{2581}', " "));
            Ok(())
        })
        .unwrap();
}

#[test]
fn sentencepiece_in_parts_is_the_whole() {
    let Some(ours) = stories("sentencepiece_in_parts") else { return };
    let Some(path) = shared("sentencepiece_in_parts", "texts/tinystories.txt") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let whole = ours.encode(&text).unwrap();
    assert!(ours.encode_parallel(&text).unwrap() == whole);
    assert!(ours.decode(&whole) == text);
    // A known beginning: the ids of llama2.c's own encoder for "Once upon a time".
    assert_eq!(ours.encode("Once upon a time").unwrap(), [403, 407, 261, 378]);
}

/// Small files of the kinds that only the crate supports.
fn other_kinds() -> [(&'static str, String); 3] {
    let unigram = r#"{"version": "1.0", "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
        "post_processor": null, "decoder": {"type": "Metaspace", "replacement": "▁",
        "prepend_scheme": "always"}, "model": {"type": "Unigram", "unk_id": 0,
        "vocab": [["<unk>", 0.0], ["▁", -2.0], ["▁hello", -3.0], ["▁wor", -4.0], ["ld", -5.0]]}}"#;
    let word_piece = r###"{"version": "1.0", "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {"[UNK]": 0, "hello": 1, "wor": 2, "##ld": 3}}}"###;
    let words = r#"{"version": "1.0", "added_tokens": [], "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "unk_token": "?",
        "vocab": {"?": 0, "hello": 1, "world": 2}}}"#;
    [
        ("Unigram", unigram.to_owned()),
        ("WordPiece", word_piece.to_owned()),
        ("WordLevel", words.to_owned()),
    ]
}

#[test]
fn any_other_file_runs_through_the_crate() {
    for (kind, json) in other_kinds() {
        let tokenizer = Tokenizer::from_tokenizer_json(&json).unwrap();
        assert_eq!(tokenizer.kind(), "Hugging Face", "{kind}");
        let peer: tokenizers::Tokenizer = json.parse().unwrap();
        let expected = ids(&peer, "hello world");
        assert_eq!(tokenizer.encode("hello world").unwrap(), expected, "{kind}");
        assert_eq!(tokenizer.encode_parallel("hello world").unwrap(), expected, "{kind}");
        assert_eq!(tokenizer.decode(&expected), "hello world", "{kind}");
        assert_eq!(tokenizer.tokenizer_json().unwrap(), json, "{kind}");
    }
}

#[test]
fn an_id_beyond_every_vocabulary_is_refused_before_there_is_a_table_for_it() {
    for (kind, json) in other_kinds().into_iter().filter(|(kind, _)| *kind != "Unigram") {
        let json = json.replace("\"hello\": 1,", "\"hello\": 4294967295,");
        let error = Tokenizer::from_tokenizer_json(&json).unwrap_err();
        assert!(format!("{error:#}").contains("has the id 4294967295"), "{kind}: {error:#}");
    }
}

/// GPT-2's merges after the pre-tokenizers of other models, which only the crate has.
#[test]
fn byte_level_bpe_of_other_models_is_the_same_from_json_and_from_gguf() {
    let base: serde_json::Value = serde_json::from_str(&TRAINED.tokenizer_json().unwrap()).unwrap();
    for (name, ignore_merges) in
        [("llama-bpe", true), ("dbrx", false), ("qwen2", false), ("smollm", false)]
    {
        let mut keys = gguf_keys(&base.to_string());
        keys.set("tokenizer.ggml.pre", gguf::Value::String(name.to_owned()));
        let from_gguf = Tokenizer::from_gguf(&keys).unwrap();
        let json = from_gguf.tokenizer_json().unwrap();
        let file: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(file["model"]["ignore_merges"], ignore_merges, "{name}");
        // And back: the file defines what the GGUF named.
        assert_eq!(gguf_keys(&json).string("tokenizer.ggml.pre").unwrap(), name);
        let from_json = Tokenizer::from_tokenizer_json(&json).unwrap();
        let text = BUILTIN_STORY.repeat(8) + " 1234 don't\n\n \u{4E2D}\u{6587}<|endoftext|>";
        let expected = from_json.encode(&text).unwrap();
        assert_eq!(from_gguf.encode(&text).unwrap(), expected, "{name}");
        assert!(from_json.encode_parallel(&text).unwrap() == expected, "{name}");
        assert_eq!(from_json.decode(&expected), text, "{name}");
        let end = from_json.end_of_text().unwrap();
        assert_eq!(from_json.encode_with_specials(&text).unwrap().last(), Some(&end), "{name}");
        assert_ne!(expected.last(), Some(&end), "{name}: a text must not end a document");
    }
}

#[test]
fn user_defined_tokens_are_found_everywhere_and_special_ones_when_asked_for() {
    let mut file: serde_json::Value =
        serde_json::from_str(&TRAINED.tokenizer_json().unwrap()).unwrap();
    let added = file["added_tokens"].as_array_mut().unwrap();
    for (id, content, special) in [(700, "<tool>", false), (701, "<|im_end|>", true)] {
        let mut token = added[0].clone();
        token["id"] = id.into();
        token["content"] = content.into();
        token["special"] = special.into();
        added.push(token);
    }
    let json = file.to_string();
    let tokenizer = Tokenizer::from_tokenizer_json(&json).unwrap();
    assert_eq!((tokenizer.kind(), tokenizer.vocab_size()), ("byte-level BPE", 702));
    assert_eq!(tokenizer.decode(&[700, 701]), "<tool><|im_end|>");
    let peer: tokenizers::Tokenizer = json.parse().unwrap();
    let text = "a <tool> call<|im_end|>";
    assert_eq!(tokenizer.encode_with_specials(text).unwrap(), ids(&peer, text));
    let plain = tokenizer.encode(text).unwrap();
    assert!(plain.contains(&700) && !plain.contains(&701), "{plain:?}");
    let long = text.repeat(30_000);
    assert!(tokenizer.encode_parallel(&long).unwrap() == tokenizer.encode(&long).unwrap());
    let from_gguf = Tokenizer::from_gguf(&gguf_keys(&json)).unwrap();
    assert_eq!(from_gguf.encode_with_specials(text).unwrap(), ids(&peer, text));
}

#[test]
fn the_test_inputs_of_llama_cpp() {
    let Some(inputs) = conformance_inputs("the_test_inputs") else { return };
    let gpt2 = Tokenizer::gpt2().unwrap();
    let stories = stories("the_test_inputs").unwrap();
    for tokenizer in [&gpt2, &TRAINED, &stories] {
        let peer = hugging_face(tokenizer);
        for input in &inputs {
            assert_eq!(tokenizer.encode(input).unwrap(), ids(&peer, input), "{input:?}");
        }
    }
}

/// A model that SentencePiece trained, and the ids that SentencePiece itself gives for llama.cpp's
/// test inputs (`golden/make_sentencepiece.py`).
#[test]
fn sentencepiece_is_sentencepiece() {
    let Some(inputs) = conformance_inputs("sentencepiece_is_sentencepiece") else { return };
    let json = include_str!("golden/sentencepiece.json");
    let expected: Vec<Vec<u32>> =
        serde_json::from_str(include_str!("golden/sentencepiece.ids.json")).unwrap();
    assert_eq!(expected.len(), inputs.len());
    let from_json = Tokenizer::from_tokenizer_json(json).unwrap();
    let from_gguf = Tokenizer::from_gguf(&gguf_keys(json)).unwrap();
    for (input, expected) in inputs.iter().zip(&expected) {
        assert_eq!(&from_json.encode(input).unwrap(), expected, "{input:?} from merges");
        assert_eq!(&from_gguf.encode(input).unwrap(), expected, "{input:?} from scores");
        assert_eq!(&from_json.decode(expected), input);
    }
}
