//! Every kind of `tokenizer.json` compared with Hugging Face's crate on random text: read from the
//! file and from the GGUF made of it, the ids are equal. Text that the crate silently drops is
//! reported by ours.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use checkpoint::{GgufForm, Vocabulary};
use data::{BUILTIN_STORY, Corpus, Tokenizer, train_tokenizer};
use gguf::Metadata;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

/// Words, rare scripts, spaces in all positions, and parts of the special tokens of [`kinds`].
fn text() -> impl Strategy<Value = String> {
    let atoms = prop::sample::select(vec![
        "Once upon a time",
        " the",
        "The",
        "hello",
        "wor",
        "ld",
        "'s",
        "'LL",
        "n't",
        " ",
        "  ",
        "   ",
        "\n",
        "\r\n",
        "\t",
        "\u{A0}",
        "\u{3000}",
        "1234",
        "\u{BD}",
        "\u{663}",
        ".",
        " --",
        "\u{2581}",
        "\u{2581}\u{2581}",
        "caf\u{E9}",
        "e\u{301}",
        "\u{41}\u{30A}",
        "\u{FB01}",
        "\u{C9}COLE",
        "HTTPServer",
        "\u{1C5}",
        "\u{4E2D}\u{6587}",
        "\u{1F600}\u{200D}",
        "\u{928}\u{92E}\u{938}\u{94D}\u{924}\u{947}",
        "\u{4}",
        "\u{13}",
        "\0",
        "<|endoftext|>",
        "<|user|>",
        "<|user|",
        "<s>",
        "</s>",
        "<unk>",
        "<0x41>",
        "<tool>",
        "x<tool>y",
        "[PAD300]",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ]);
    prop_oneof![
        1 => any::<String>(),
        1 => "[a-zA-Z ]{0,60}",
        4 => prop::collection::vec(atoms, 0..16).prop_map(|atoms| atoms.concat()),
    ]
}

fn base() -> Value {
    let trained = train_tokenizer(&Corpus::open("builtin".as_ref()).unwrap(), 600).unwrap();
    serde_json::from_str(&trained.tokenizer_json().unwrap()).unwrap()
}

fn pieces() -> Value {
    serde_json::from_str(include_str!("golden/sentencepiece.json")).unwrap()
}

fn with(mut file: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        file.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    file
}

fn added(id: u32, content: &str, special: bool, flags: &[&str]) -> Value {
    let mut token = json!({ "id": id, "content": content, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": special });
    for flag in flags {
        token[flag] = true.into();
    }
    token
}

/// Without the tokens for which `lacks` is true and those merged from them.
fn without(mut file: Value, lacks: impl Fn(&str) -> bool) -> Value {
    let vocab = file["model"]["vocab"].as_object().unwrap();
    let mut kept: Vec<(u64, String)> = vocab
        .iter()
        .filter(|(text, _)| !lacks(text))
        .map(|(text, id)| (id.as_u64().unwrap(), text.clone()))
        .collect();
    kept.sort_unstable();
    let ids: serde_json::Map<String, Value> =
        kept.into_iter().zip(0_u32..).map(|((_, text), id)| (text, id.into())).collect();
    let merges: Vec<Value> = file["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|merge| {
            let merge = merge.as_str().unwrap();
            let (left, right) = merge.split_once(' ').unwrap();
            [left, right, &format!("{left}{right}")].iter().all(|part| ids.contains_key(*part))
        })
        .cloned()
        .collect();
    file["model"]["vocab"] = ids.into();
    file["model"]["merges"] = merges.into();
    file
}

fn metaspace(scheme: &str, split: bool) -> Value {
    json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split })
}

fn split(pattern: &str) -> Value {
    let cut = json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated",
        "invert": false });
    json!({ "type": "Sequence", "pretokenizers": [cut, { "type": "ByteLevel",
        "add_prefix_space": false, "trim_offsets": true, "use_regex": false }] })
}

/// A name, a file, and what a GGUF can hold of it.
fn kinds() -> Vec<(&'static str, Value, char)> {
    let nfc = ("/normalizer", json!({ "type": "NFC" }));
    let special = |tokens: Vec<Value>| {
        let mut all = base()["added_tokens"].as_array().unwrap().clone();
        all.extend(tokens);
        ("/added_tokens", Value::from(all))
    };
    let golden: Value = serde_json::from_str(include_str!("golden/pre_tokenizers.json")).unwrap();
    let mut kinds = vec![
        ("gpt2", base(), 'E'),
        ("gpt2 with NFC", with(base(), &[nfc]), 'A'),
        ("prefix space", with(base(), &[("/pre_tokenizer/add_prefix_space", true.into())]), 'J'),
        ("bytes missing", without(base(), |text| "ēþÁûĆĖýĝöñò".contains(text)), 'E'),
        ("one letter", without(base(), |text| text == "e"), 'E'),
        (
            "bytes missing, unknown",
            with(
                without(base(), |text| "ēþÁûĆĖýĝöñò".contains(text)),
                &[("/model/unk_token", "a".into())],
            ),
            'A',
        ),
        (
            "strips",
            with(
                base(),
                &[special(vec![
                    added(600, "<|user|>", true, &["rstrip"]),
                    added(601, "<tool>", false, &["lstrip"]),
                    added(602, "hello", false, &["single_word"]),
                ])],
            ),
            'A',
        ),
        (
            "user-defined",
            with(
                base(),
                &[special(vec![
                    added(600, "<tool>", false, &[]),
                    added(601, "<|user|>", true, &[]),
                    added(602, "   ", false, &["normalized"]),
                ])],
            ),
            'E',
        ),
        (
            "normalized",
            with(
                base(),
                &[
                    ("/normalizer", json!({ "type": "Lowercase" })),
                    special(vec![
                        added(600, "<TOOL>", false, &["normalized"]),
                        added(601, "<|user|>", true, &[]),
                    ]),
                ],
            ),
            'J',
        ),
        ("whitespace", with(base(), &[("/pre_tokenizer", json!({ "type": "Whitespace" }))]), 'J'),
        (
            "another pattern",
            with(base(), &[("/pre_tokenizer", split(r"\p{L}+|\p{N}{1,2}|.|\n"))]),
            'J',
        ),
        (
            "truncated and padded",
            with(
                base(),
                &[(
                    "/truncation",
                    json!({ "direction": "Right", "max_length": 4, "strategy": "LongestFirst",
                        "stride": 0 }),
                )],
            ),
            'E',
        ),
        ("pieces", pieces(), 'E'),
        ("pieces without some bytes", without_byte_tokens(pieces()), 'A'),
        (
            "gemma's",
            with(
                pieces(),
                &[
                    ("/normalizer", pieces()["normalizer"]["normalizers"][1].clone()),
                    (
                        "/pre_tokenizer",
                        json!({ "type": "Split", "pattern": { "String": " " },
                            "behavior": "MergedWithPrevious", "invert": false }),
                    ),
                ],
            ),
            'E',
        ),
    ];
    for scheme in ["always", "first", "never"] {
        let changes = [("/normalizer", Value::Null), ("/pre_tokenizer", metaspace(scheme, false))];
        let form = if scheme == "never" { 'E' } else { 'A' };
        kinds.push((scheme, with(pieces(), &changes), form));
        let words = [("/normalizer", Value::Null), ("/pre_tokenizer", metaspace(scheme, true))];
        kinds.push((scheme, with(pieces(), &words), 'J'));
    }
    let mut hole = base();
    let ids = hole["model"]["vocab"].as_object_mut().unwrap();
    for id in ids.values_mut().filter(|id| id.as_u64() > Some(300)) {
        *id = (id.as_u64().unwrap() + 7).into();
    }
    kinds.push(("id hole", hole, 'E'));
    for (name, case) in golden["cases"].as_object().unwrap() {
        let changes = [
            ("/pre_tokenizer", case["pre_tokenizer"].clone()),
            ("/normalizer", case["normalizer"].clone()),
            ("/model/ignore_merges", case["ignore_merges"].clone()),
        ];
        let exact = case["normalizer"].is_null() && !["tekken", "gpt-4o"].contains(&name.as_str());
        let name: &'static str = Box::leak(name.clone().into_boxed_str());
        kinds.push((
            name,
            with(golden["tokenizer"].clone(), &changes),
            if exact { 'E' } else { 'A' },
        ));
    }
    kinds.extend(other_models());
    kinds
}

fn without_byte_tokens(mut file: Value) -> Value {
    let vocab = file["model"]["vocab"].as_object_mut().unwrap();
    for byte in [0x04, 0x99, 0xE4] {
        let id = vocab.remove(&format!("<0x{byte:02X}>")).unwrap();
        vocab.insert(format!("gone{byte}"), id);
    }
    file
}

/// Models that llama.cpp does not have, with and without an unknown token.
fn other_models() -> Vec<(&'static str, Value, char)> {
    let words = BUILTIN_STORY.split_whitespace().take(200).chain(["hello", "[UNK]", "a", "b"]);
    let mut vocab = serde_json::Map::new();
    for word in words {
        let id = vocab.len();
        vocab.entry(word.to_owned()).or_insert(id.into());
        let id = vocab.len();
        vocab.entry(format!("##{word}")).or_insert(id.into());
    }
    let unigram: Vec<Value> = [("<unk>", 0.0), ("▁", -2.0)]
        .into_iter()
        .chain("abcdefghijklmnopqrstuvwxyz".split("").filter(|t| !t.is_empty()).map(|t| (t, -6.0)))
        .chain([("▁the", -3.0), ("hello", -4.0), ("▁wor", -4.5), ("ld", -5.0)])
        .map(|(piece, score)| json!([piece, score]))
        .collect();
    let file = |model: Value, pre_tokenizer: Value| {
        json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": pre_tokenizer, "post_processor": null,
            "decoder": null, "model": model })
    };
    let whitespace = || json!({ "type": "Whitespace" });
    let word_level = |unknown: &str| {
        file(json!({ "type": "WordLevel", "unk_token": unknown, "vocab": vocab }), whitespace())
    };
    let word_piece = |unknown: &str| {
        let model = json!({ "type": "WordPiece", "unk_token": unknown,
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab });
        file(model, json!({ "type": "BertPreTokenizer" }))
    };
    let unigram = |unknown: Value| {
        let model = json!({ "type": "Unigram", "unk_id": unknown, "vocab": unigram });
        file(model, metaspace("always", true))
    };
    vec![
        ("words", word_level("[UNK]"), 'J'),
        ("words without an unknown one", word_level("<none>"), 'J'),
        ("WordPiece", word_piece("[UNK]"), 'J'),
        ("WordPiece without an unknown token", word_piece("<none>"), 'J'),
        ("Unigram", unigram(0.into()), 'J'),
        ("Unigram without an unknown token", unigram(Value::Null), 'J'),
    ]
}

/// The output of the crate without the truncation that a file may ask for, as transformers uses it.
fn peer(json: &str, takes_specials_for_text: bool) -> tokenizers::Tokenizer {
    let mut peer: tokenizers::Tokenizer = json.parse().unwrap();
    peer.with_truncation(None).unwrap();
    peer.with_padding(None);
    peer.set_encode_special_tokens(takes_specials_for_text);
    peer
}

#[test]
fn every_kind_makes_the_ids_of_hugging_face() {
    for (name, file, form) in kinds() {
        let json = file.to_string();
        let vocabulary = Vocabulary::parse(&json).unwrap();
        let found = match &vocabulary.form {
            GgufForm::Exact => 'E',
            GgufForm::Approximate(_) => 'A',
            GgufForm::JsonOnly(_) => 'J',
        };
        assert_eq!(found, form, "{name}: {}", vocabulary.form);
        let mut keys = Metadata::new();
        let rows = vocabulary.tokens.len() + 3;
        let names = vocabulary.tokens.clone();
        vocabulary.describe(config::Architecture::Llama, rows, &mut keys);
        let ours =
            [Tokenizer::from_tokenizer_json(&json).unwrap(), Tokenizer::from_gguf(&keys).unwrap()];
        let plain = peer(&json, true);
        let specials = peer(&json, false);
        for (text, id) in specials.get_vocab(true) {
            assert_eq!(names[id as usize], text, "{name}");
        }
        // A failing case is printed, and not saved to a file.
        let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new(config);
        let checked = runner.run(&text(), |text| {
            for tokenizer in &ours {
                check(tokenizer.encode(&text), &plain, &text)?;
                check(tokenizer.encode_parallel(&text), &plain, &text)?;
                check(tokenizer.encode_with_specials(&text), &specials, &text)?;
            }
            Ok(())
        });
        checked.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

fn check(
    ours: Result<Vec<u32>, data::MissingToken>,
    peer: &tokenizers::Tokenizer,
    text: &str,
) -> Result<(), TestCaseError> {
    let theirs = peer.encode_fast(text, false);
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs.get_ids()),
        (Ok(_), Err(error)) => prop_assert!(false, "they refuse it: {}", error),
        (Err(_), Err(_)) => {}
        (Err(missing), Ok(_)) => {
            // The crate dropped it; ours reports the text and its position.
            let place = missing.offset as usize;
            prop_assert!(text.is_char_boundary(place), "{}", missing);
            let letter = text[place..].chars().next();
            prop_assert!(letter.is_some(), "{}", missing);
            let name = missing.what;
            let shown = letter.map(|letter| format!("{letter:?}")).unwrap_or_default();
            let inside = shown.trim_matches('\'');
            prop_assert!(name.contains(inside) || name.contains("0x"), "{} is not {}", name, shown);
        }
    }
    Ok(())
}

/// The ids were written by `golden/make_pre_tokenizers.py`, with Hugging Face's Python package.
#[test]
fn pre_tokenizers_cut_as_theirs_do() {
    let golden: Value = serde_json::from_str(include_str!("golden/pre_tokenizers.json")).unwrap();
    let texts: Vec<&str> =
        golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    for (name, case) in golden["cases"].as_object().unwrap() {
        let mut file = golden["tokenizer"].clone();
        file["pre_tokenizer"] = case["pre_tokenizer"].clone();
        file["normalizer"] = case["normalizer"].clone();
        file["model"]["ignore_merges"] = case["ignore_merges"].clone();
        let json = file.to_string();
        let vocabulary = Vocabulary::parse(&json).unwrap();
        let mut keys = Metadata::new();
        let rows = vocabulary.tokens.len();
        vocabulary.describe(config::Architecture::Llama, rows, &mut keys);
        assert_eq!(keys.string("tokenizer.ggml.pre").unwrap(), name);
        let from_json = Tokenizer::from_tokenizer_json(&json).unwrap();
        let from_gguf = Tokenizer::from_gguf(&keys).unwrap();
        for (text, expected) in texts.iter().zip(case["ids"].as_array().unwrap()) {
            let expected: Vec<u32> = serde_json::from_value(expected.clone()).unwrap();
            assert_eq!(from_json.encode(text).unwrap(), expected, "{name}: {text:?}");
            assert_eq!(from_gguf.encode(text).unwrap(), expected, "{name} in a GGUF: {text:?}");
        }
    }
}

#[test]
fn what_a_vocabulary_lacks_is_named_with_its_place() {
    let missing = |file: Value, text: &str| {
        let tokenizer = Tokenizer::from_tokenizer_json(&file.to_string()).unwrap();
        tokenizer.encode_parallel(text).unwrap_err().to_string()
    };
    // 0xA9 is the second byte of an e with an acute.
    let bytes = without(base(), |text| text == "©");
    let error = missing(bytes.clone(), "the caf\u{E9}");
    assert!(error.contains("no token for the byte 0xA9 of 'é' (U+00E9), at byte 7"), "{error}");
    let llama3 = with(bytes, &[("/pre_tokenizer", split(r"\p{L}+|\P{L}"))]);
    let error = missing(llama3, "the caf\u{E9}");
    assert!(error.contains("\"é\", at byte 7") || error.contains("of \"é\", at byte 7"), "{error}");
    let (_, words, _) = other_models().swap_remove(1);
    let error = missing(words, "hello hello quixotry");
    assert!(error.contains("\"quixotry\"") && error.contains("at byte 12"), "{error}");
    let pieces = with(without_byte_tokens(pieces()), &[("/model/unk_token", Value::Null)]);
    let error = missing(pieces, "a\u{4}b");
    assert!(error.contains("at byte 1"), "{error}");
}

/// A Chinese text, which has no spaces, is cut at its marks; each pre-tokenizer gives the same tokens for
/// the parts as for the whole, which is encoded on one thread.
#[test]
fn texts_without_spaces_are_encoded_in_parts() {
    let golden: Value = serde_json::from_str(include_str!("golden/pre_tokenizers.json")).unwrap();
    let marks =
        ["\u{3002}", "\u{FF0C}", "\u{3001}", "\u{FF01}\n", "\u{FF1F}\u{201D}", "\u{FF1A}12", "'s"];
    let sentence = |at: usize| {
        let letters = (0..at % 17 + 1).map(|place| {
            char::from_u32(0x4E00 + ((at * 7919 + place * 31) % 4000) as u32).unwrap()
        });
        letters.collect::<String>() + marks[at % marks.len()]
    };
    let text: String = (0..15_000).map(sentence).collect();
    assert!(text.len() > 3 * (128 << 10) && !text.contains(' '));
    for (name, case) in golden["cases"].as_object().unwrap() {
        let mut file = golden["tokenizer"].clone();
        file["pre_tokenizer"] = case["pre_tokenizer"].clone();
        file["normalizer"] = case["normalizer"].clone();
        file["model"]["ignore_merges"] = case["ignore_merges"].clone();
        let tokenizer = Tokenizer::from_tokenizer_json(&file.to_string()).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let parts = pool.install(|| tokenizer.encode_parallel(&text).unwrap());
        assert!(parts == tokenizer.encode(&text).unwrap(), "{name}");
    }
}
