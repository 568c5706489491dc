//! llama.cpp's own tokenizer, with the vocabulary that we write into a GGUF, compared with ours on
//! the same inputs: devices must tokenize as in training.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::tiny::alphabet;
use std::ffi::CString;
use std::path::{Path, PathBuf};

use checkpoint::{GgufForm, Vocabulary};
use config::Architecture;
use data::Tokenizer;
use gguf::{Metadata, Value, Writer};
use llama_cpp_sys_2 as sys;

/// The path of `name` in the shared test data, or `None` after printing what is skipped.
fn shared(test: &str, name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("POCKETGPT_TEST_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        PathBuf::from,
    );
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("{test}: skipped: {} not found", path.display());
    None
}

/// A GGUF with a vocabulary and without tensors.
fn write_vocabulary(vocabulary: Vocabulary, rows: usize, path: &Path) {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::String("llama".into()));
    for (key, size) in [
        ("llama.context_length", 64),
        ("llama.embedding_length", 64),
        ("llama.block_count", 1),
        ("llama.feed_forward_length", 64),
        ("llama.attention.head_count", 1),
    ] {
        metadata.set(key, Value::U32(size));
    }
    metadata.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    vocabulary.describe(Architecture::Llama, rows, &mut metadata);
    let file = std::fs::File::create(path).unwrap();
    Writer::new(file, &metadata, &[]).unwrap().finish().unwrap();
}

/// Byte-level BPE without merges, and these special tokens from id 256 on.
fn with_specials(specials: &[&str]) -> Vocabulary {
    let letters: Vec<String> = alphabet::alphabet().into_iter().map(String::from).collect();
    let all = letters.iter().map(String::as_str).chain(specials.iter().copied());
    let vocab: serde_json::Map<String, serde_json::Value> =
        all.zip(0..).map(|(text, id)| (text.to_owned(), id.into())).collect();
    let added: Vec<serde_json::Value> = specials
        .iter()
        .zip(256..)
        .map(|(text, id)| serde_json::json!({"id": id, "content": text, "special": true}))
        .collect();
    let json = serde_json::json!({
        "added_tokens": added,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    Vocabulary::parse(&json.to_string()).unwrap()
}

#[test]
fn a_text_ends_where_llama_cpp_ends_it() {
    for (specials, stated) in [
        (&["<|endoftext|>", "<s>", "</s>", "<|assistant_end|>"][..], &[258, 259][..]),
        (&["<|endoftext|>", "<s>", "<|im_end|>", "<x>"], &[258, 256]),
        (&["a1", "a2", "a3", "a4", "a5", "a6"], &[256, 258, 260, 261]),
        (&["<|end|>", "<|return|>", "<|call|>", "<|start|>"], &[257]),
        (&["<|end|>", "<|return|>", "<|user|>"], &[258]),
        (&["<|tool_response>", "</s>", "<eos>", "<turn|>"], &[258]),
        (&["<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|fim_prefix|>", "<eos>"], &[260]),
        (&["<start_of_turn>", "<end_of_turn>", "<eos>", "<bos>", "<pad>"], &[258, 257]),
    ] {
        let mut vocabulary = with_specials(specials);
        vocabulary.special.eos = stated.first().copied();
        vocabulary.special.more_eos = stated[1..].to_vec();
        let ours = vocabulary.ends();
        let theirs = load(vocabulary);
        let all = 0..256 + specials.len() as i32;
        let theirs: Vec<u32> = all.filter(|&id| theirs.is_eog(id)).map(|id| id as u32).collect();
        assert_eq!(ours, theirs, "{specials:?}");
        assert!(stated.iter().all(|id| ours.contains(id)), "{specials:?}");
    }
}

#[test]
fn llama_cpp_makes_the_same_tokens() {
    let test = "llama_cpp_makes_the_same_tokens";
    let Some(path) = shared(test, "tokenizer/ggml-vocab-gpt-2.gguf.inp") else { return };
    let Some(stories) = shared(test, "stories260K/tok512.bin") else { return };
    let inputs = std::fs::read_to_string(path).unwrap();
    let mut inputs: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
    assert_eq!(inputs.len(), 47);
    inputs.push("a<|endoftext|> b</s> c");

    let gpt2 = Tokenizer::gpt2().unwrap().tokenizer_json().unwrap();
    let trained =
        data::train_tokenizer(&data::Corpus::open("builtin".as_ref()).unwrap(), 900).unwrap();
    let trained = trained.tokenizer_json().unwrap();
    let pieces = include_str!("../../data/tests/golden/sentencepiece.json");
    let mut cases = vec![
        ("gpt2", Vocabulary::parse(&gpt2).unwrap()),
        ("trained", Vocabulary::parse(&trained).unwrap()),
        ("sentencepiece", Vocabulary::parse(pieces).unwrap()),
        ("llama2.c", Vocabulary::from_llama2c(&stories, 512).unwrap()),
    ];
    for pre in ["llama-bpe", "dbrx", "smaug-bpe", "qwen2", "qwen35", "smollm", "olmo", "phi-2"] {
        let mut keys = Metadata::new();
        let vocabulary = Vocabulary::parse(&gpt2).unwrap();
        vocabulary.describe(Architecture::Llama, 50_257, &mut keys);
        keys.set("tokenizer.ggml.pre", Value::String(pre.into()));
        cases.push((pre, Vocabulary::from_gguf(&keys).unwrap()));
    }

    for (name, vocabulary) in cases {
        let ours = Tokenizer::from_vocabulary(&vocabulary).unwrap();
        let theirs = load(vocabulary);
        for input in &inputs {
            let expected = tokenize(&theirs, input);
            assert_eq!(ours.encode_with_specials(input).unwrap(), expected, "{name}: {input:?}");
        }
    }
}

/// The files of `data`'s golden pre-tokenizers, and the output of Hugging Face's package for the
/// texts. If a GGUF can express the tokenizer completely, llama.cpp gives the same output;
/// otherwise some text shows the difference.
#[test]
fn llama_cpp_makes_the_ids_of_hugging_face_where_the_form_says_so() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../data/tests/golden/pre_tokenizers.json")).unwrap();
    let texts: Vec<String> = serde_json::from_value(golden["texts"].clone()).unwrap();
    for (name, case) in golden["cases"].as_object().unwrap() {
        let mut file = golden["tokenizer"].clone();
        file["pre_tokenizer"] = case["pre_tokenizer"].clone();
        file["normalizer"] = case["normalizer"].clone();
        file["model"]["ignore_merges"] = case["ignore_merges"].clone();
        let vocabulary = Vocabulary::parse(&file.to_string()).unwrap();
        let is_exact = vocabulary.form == GgufForm::Exact;
        let theirs = load(vocabulary);
        let differ = texts.iter().zip(case["ids"].as_array().unwrap()).filter(|(text, ids)| {
            let expected: Vec<u32> = serde_json::from_value((*ids).clone()).unwrap();
            tokenize(&theirs, text) != expected
        });
        let differ: Vec<&String> = differ.map(|(text, _)| text).collect();
        assert_eq!(differ.is_empty(), is_exact, "{name}: {differ:?}");
    }
}

/// llama.cpp loads vocabularies that it cannot tokenize with: an id without a token, fewer rows
/// than tokens, a vocabulary of words.
#[test]
fn llama_cpp_loads_every_vocabulary() {
    let words =
        r#"{"model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"C": 0, "N": 7}}}"#;
    let mut hole: serde_json::Value = serde_json::from_str(
        &data::train_tokenizer(&data::Corpus::open("builtin".as_ref()).unwrap(), 300)
            .unwrap()
            .tokenizer_json()
            .unwrap(),
    )
    .unwrap();
    let ids = hole["model"]["vocab"].as_object_mut().unwrap();
    ids.values_mut().filter(|id| id.as_u64() > Some(280)).for_each(|id| {
        *id = (id.as_u64().unwrap() + 5).into();
    });
    let loaded = load(Vocabulary::parse(words).unwrap());
    assert_eq!(loaded.n_vocab(), 8 + 3);
    let vocabulary = Vocabulary::parse(&hole.to_string()).unwrap();
    let rows = vocabulary.tokens.len();
    let ours = Tokenizer::from_vocabulary(&vocabulary).unwrap();
    let loaded = load(vocabulary.clone());
    assert_eq!(loaded.n_vocab() as usize, rows + 3);
    let text = data::BUILTIN_STORY;
    assert_eq!(ours.encode(text).unwrap(), tokenize(&loaded, text));
    // Tokens without a row do not exist for it: only bytes are used.
    let loaded = load_rows(vocabulary, 256);
    let letters: Vec<u32> =
        ["T", "h", "e"].iter().flat_map(|letter| ours.encode(letter).unwrap()).collect();
    assert_eq!(tokenize(&loaded, "The"), letters);
}

/// A vocabulary in llama.cpp.
struct Theirs(*mut sys::llama_model);

impl Theirs {
    fn vocabulary(&self) -> *const sys::llama_vocab {
        // SAFETY: the model is valid until this value is dropped.
        unsafe { sys::llama_model_get_vocab(self.0) }
    }

    fn n_vocab(&self) -> i32 {
        // SAFETY: the vocabulary is valid.
        unsafe { sys::llama_vocab_n_tokens(self.vocabulary()) }
    }

    /// Whether a text ends with the token.
    fn is_eog(&self, id: i32) -> bool {
        // SAFETY: the vocabulary is valid; llama.cpp checks the id.
        unsafe { sys::llama_vocab_is_eog(self.vocabulary(), id) }
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        // SAFETY: the model is `load_rows`'s.
        unsafe { sys::llama_model_free(self.0) }
    }
}

/// The vocabulary in llama.cpp, loaded from a GGUF with some more rows than tokens.
fn load(vocabulary: Vocabulary) -> Theirs {
    let rows = vocabulary.tokens.len() + 3; // as in a padded embedding
    load_rows(vocabulary, rows)
}

fn load_rows(vocabulary: Vocabulary, rows: usize) -> Theirs {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocabulary.gguf");
    write_vocabulary(vocabulary, rows, &path);
    let path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the path ends in NUL, the settings are llama.cpp's own.
    let model = unsafe {
        let mut params = sys::llama_model_default_params();
        params.vocab_only = true;
        sys::llama_model_load_from_file(path.as_ptr(), params)
    };
    assert!(!model.is_null(), "llama.cpp refuses the vocabulary");
    Theirs(model)
}

fn tokenize(theirs: &Theirs, text: &str) -> Vec<u32> {
    // No token is shorter than a byte, but a normalizer may add some.
    let mut ids = vec![0_i32; 2 * text.len() + 16];
    // SAFETY: llama.cpp reads `text.len()` bytes and writes at most `ids.len()` ids.
    let count = unsafe {
        sys::llama_tokenize(
            theirs.vocabulary(),
            text.as_ptr().cast(),
            text.len() as i32,
            ids.as_mut_ptr(),
            ids.len() as i32,
            false,
            true,
        )
    };
    let count = usize::try_from(count).unwrap();
    ids[..count].iter().map(|&id| id as u32).collect()
}
