//! The tokenizers compared with others: OpenAI's files, llama.cpp's test cases, tiktoken-rs.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::sync::LazyLock;

use crate::common::shared;
use checkpoint::{TokenType, Vocabulary};
use data::{BUILTIN_STORY, END_OF_TEXT, Tokenizer};
use gguf::{Array, Metadata, Value};
use proptest::prelude::*;

static GPT2: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::gpt2().unwrap());
static RELOADED: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::from_tokenizer_json(&GPT2.tokenizer_json().unwrap()).unwrap());
static TIKTOKEN: LazyLock<tiktoken_rs::CoreBPE> =
    LazyLock::new(|| tiktoken_rs::r50k_base().unwrap());

fn json(tokenizer: &Tokenizer) -> serde_json::Value {
    serde_json::from_str(&tokenizer.tokenizer_json().unwrap()).unwrap()
}

/// Words, rare scripts, runs of one character and everything that the pattern treats specially.
fn text() -> impl Strategy<Value = String> {
    let atoms = prop::sample::select(vec![
        "the",
        " of",
        "'s",
        "'ve",
        "n't",
        " ",
        "   ",
        "\n",
        "\t",
        "\u{A0}",
        "1234",
        ".",
        " --",
        "\u{E4}\u{F6}",
        "\u{4E2D}\u{6587}",
        "\u{1F600}\u{200D}",
        "\u{17E7}\u{17D1}",
        "xqzj",
        "ing",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "<|endoftext|>",
        "\0",
        "ization",
        "----------------------------------------------------------------",
    ]);
    prop_oneof![
        any::<String>(),
        "[a-z ]{0,200}",
        prop::collection::vec(atoms, 0..40).prop_map(|atoms| atoms.concat()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn gpt2_is_tiktoken_and_loses_nothing(text in text()) {
        let ids = GPT2.encode(&text).unwrap();
        prop_assert_eq!(&ids, &TIKTOKEN.encode_ordinary(&text));
        prop_assert_eq!(GPT2.decode(&ids), text);
    }

    #[test]
    fn the_merges_alone_give_the_same_tokens(text in text()) {
        prop_assert_eq!(RELOADED.encode(&text).unwrap(), GPT2.encode(&text).unwrap());
    }

    #[test]
    fn specials_are_tokens_only_when_asked_for(text in text()) {
        let with = GPT2.encode_with_specials(&text).unwrap();
        prop_assert_eq!(&with, &TIKTOKEN.encode_with_special_tokens(&text));
        prop_assert!(!GPT2.encode(&text).unwrap().contains(&50_256));
    }

    #[test]
    fn any_bytes_decode(ids in prop::collection::vec(0_u32..60_000, 0..50)) {
        let bytes = GPT2.decode_bytes(&ids);
        prop_assert_eq!(GPT2.decode(&ids), String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn long_runs_and_large_texts_on_all_threads() {
    let large = [BUILTIN_STORY, "caf\u{E9} \u{4E2D}\u{6587}\u{3002}\u{4E2D} don't\n\n  7%"]
        .concat()
        .repeat(20);
    for text in [large, "a".repeat(300_000), " ".repeat(300_000), "\u{4E2D}".repeat(99_999)] {
        let expected = TIKTOKEN.encode_ordinary(&text);
        assert!(GPT2.encode(&text).unwrap() == expected, "one thread");
        assert!(GPT2.encode_parallel(&text).unwrap() == expected, "all threads");
    }
    let words = Tokenizer::simple(BUILTIN_STORY);
    let text = BUILTIN_STORY.repeat(20);
    assert!(words.encode_parallel(&text).unwrap() == words.encode(&text).unwrap(), "words");
}

#[test]
fn real_texts_have_the_published_number_of_tokens() {
    for (name, tokens) in
        [("the-verdict.txt", 5_145), ("tinyshakespeare.txt", 338_025), ("wiki.test.raw", 286_221)]
    {
        let Some(path) = shared("real_texts", &format!("texts/{name}")) else { return };
        let text = std::fs::read_to_string(path).unwrap();
        let ids = GPT2.encode_parallel(&text).unwrap();
        assert_eq!(ids.len(), tokens, "{name}");
        assert!(ids == TIKTOKEN.encode_ordinary(&text), "{name}");
        assert!(GPT2.decode(&ids) == text, "{name}");
    }
}

#[test]
fn llama_cpp_test_cases() {
    let file = |name: &str| shared("llama_cpp_test_cases", &format!("tokenizer/{name}"));
    let Some(inputs) = file("ggml-vocab-gpt-2.gguf.inp") else { return };
    let Some(outputs) = file("ggml-vocab-gpt-2.gguf.out") else { return };
    let inputs = std::fs::read_to_string(inputs).unwrap();
    let outputs = std::fs::read_to_string(outputs).unwrap();
    let inputs: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
    let expected: Vec<Vec<u32>> = outputs
        .lines()
        .map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect())
        .collect();
    // The last input is empty, and the file of expected ids ends before its line.
    assert_eq!((inputs.len(), inputs.last().copied(), expected.len()), (47, Some(""), 46));
    for (case, expected) in expected.iter().chain([&Vec::new()]).enumerate() {
        assert_eq!(
            &GPT2.encode(inputs[case]).unwrap(),
            expected,
            "case {case}: {:?}",
            inputs[case]
        );
        assert_eq!(&RELOADED.encode(inputs[case]).unwrap(), expected, "case {case} from JSON");
    }
}

#[test]
fn merges_that_follow_from_the_ranks_are_openais() {
    let Some(path) = shared("merges", "tokenizer/vocab.bpe") else { return };
    let expected = std::fs::read_to_string(path).unwrap();
    let expected: Vec<&str> = expected.lines().skip(1).filter(|line| !line.is_empty()).collect();
    let file = json(&GPT2);
    let merges: Vec<&str> =
        file["model"]["merges"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    assert_eq!(merges.len(), 50_000);
    assert!(
        merges == expected,
        "first difference: {:?}",
        merges.iter().zip(&expected).find(|(a, b)| a != b)
    );
}

#[test]
fn the_vocabulary_is_openais() {
    let Some(path) = shared("vocabulary", "tokenizer/encoder.json") else { return };
    let expected: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(json(&GPT2)["model"]["vocab"] == expected);
}

#[test]
fn the_json_form_gives_the_same_tokenizer_back() {
    assert_eq!(GPT2.vocab_size(), 50_257);
    assert_eq!(GPT2.end_of_text(), Some(50_256));
    assert_eq!(GPT2.token_bytes(50_256), Some(END_OF_TEXT.as_bytes()));
    assert_eq!(GPT2.token_bytes(50_257), None);
    assert_eq!(RELOADED.hash(), GPT2.hash());
    assert_eq!(RELOADED.tokenizer_json().unwrap(), GPT2.tokenizer_json().unwrap());
    assert_eq!(RELOADED.end_of_text(), Some(50_256));

    let words = Tokenizer::simple(BUILTIN_STORY);
    let reloaded = Tokenizer::from_tokenizer_json(&words.tokenizer_json().unwrap()).unwrap();
    assert_eq!(reloaded.hash(), words.hash());
    assert_ne!(words.hash(), GPT2.hash());
    assert_eq!(reloaded.encode(BUILTIN_STORY).unwrap(), words.encode(BUILTIN_STORY).unwrap());
}

/// GPT-2's keys of a GGUF, changed by the caller.
fn metadata(change: impl Fn(&mut Vocabulary)) -> Metadata {
    let mut vocabulary = Vocabulary::parse(&GPT2.tokenizer_json().unwrap()).unwrap();
    change(&mut vocabulary);
    let mut metadata = Metadata::new();
    let rows = vocabulary.tokens.len();
    vocabulary.describe(config::Architecture::Gpt2, rows, &mut metadata);
    metadata
}

#[test]
fn a_gguf_vocabulary_gives_the_same_tokenizer() {
    let tokenizer = Tokenizer::from_gguf(&metadata(|_| ())).unwrap();
    assert_eq!(tokenizer.hash(), GPT2.hash());
    assert_eq!(tokenizer.tokenizer_json().unwrap(), GPT2.tokenizer_json().unwrap());

    let refused = |key: &str, value: &str| {
        let mut metadata = metadata(|_| ());
        metadata.set(format!("tokenizer.ggml.{key}"), Value::String(value.to_owned()));
        format!("{:#}", Tokenizer::from_gguf(&metadata).unwrap_err())
    };
    assert!(refused("model", "bert").contains("\"bert\", expected gpt2"));
    assert!(refused("model", "no_vocab").contains("give the tokenizer.json"));
    assert!(refused("pre", "viking").contains("\"viking\", expected one of gpt-2, "));
}

#[test]
fn broken_vocabularies_are_refused_by_name() {
    let from = |tokens: &[String], lines: &[&str]| {
        let mut metadata = metadata(|vocabulary| {
            vocabulary.tokens = tokens.to_vec();
            vocabulary.types = vec![TokenType::Normal; tokens.len()];
        });
        // As in the files of other programs; ours do not hold such merges.
        let lines = lines.iter().map(|&line| line.to_owned()).collect();
        metadata.set("tokenizer.ggml.merges", Value::Array(Array::String(lines)));
        let metadata = metadata.without(checkpoint::TOKENIZER_JSON_KEY);
        format!("{:#}", Tokenizer::from_gguf(&metadata).unwrap_err())
    };
    let vocabulary = Vocabulary::parse(&GPT2.tokenizer_json().unwrap()).unwrap();
    let bytes = &vocabulary.tokens[..256];
    assert!(from(&[bytes, &bytes[..1]].concat(), &[]).contains("are both \"!\""));
    assert!(from(bytes, &["a b"]).contains("\"ab\" is not in the vocabulary"));
    assert!(from(bytes, &["ab"]).contains("expected two tokens"));
    assert!(from(bytes, &["a "]).contains("expected two tokens"));
}

#[test]
fn files_that_no_one_could_read_are_refused() {
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut file = json(&GPT2);
        change(&mut file);
        let error = Tokenizer::from_tokenizer_json(&file.to_string()).unwrap_err();
        format!("{error:#}")
    };
    let error = refused(&|f| f["model"]["type"] = "Neural".into());
    assert!(error.contains("Neural"), "{error}");
    assert!(refused(&|f| f["pre_tokenizer"]["type"] = "Unheard".into()).contains("Unheard"));
    assert!(refused(&|f| f["model"]["vocab"]["the"] = (-1).into()).contains("tokenizer.json"));
    assert!(Tokenizer::from_tokenizer_json("{}").is_err());
    assert!(Tokenizer::from_tokenizer_json("").is_err());
}

/// The vocabulary size and the sentence of Raschka, 2024, section 2.4, with the ids printed there.
#[test]
fn simple_is_the_tokenizer_of_the_book() {
    let Some(path) = shared("simple", "texts/the-verdict.txt") else { return };
    let tokenizer = Tokenizer::simple(&std::fs::read_to_string(path).unwrap());
    assert_eq!(tokenizer.vocab_size(), 1_132);
    assert_eq!(tokenizer.end_of_text(), Some(1_130));
    let text = "Hello, do you like tea? <|endoftext|> In the sunlit terraces of the palace.";
    let ids = tokenizer.encode_with_specials(text).unwrap();
    assert_eq!(ids, [1131, 5, 355, 1126, 628, 975, 10, 1130, 55, 988, 956, 984, 722, 988, 1131, 7]);
    assert_eq!(
        tokenizer.decode(&ids),
        "<|unk|>, do you like tea? <|endoftext|> In the sunlit terraces of the <|unk|>."
    );
    let quote = "\"It's the last he painted, you know,\" Mrs. Gisburn said with pardonable pride.";
    assert_eq!(
        tokenizer.encode(quote).unwrap(),
        [1, 56, 2, 850, 988, 602, 533, 746, 5, 1126, 596, 5, 1, 67, 7, 38, 851, 1108, 754, 793, 7]
    );
}
