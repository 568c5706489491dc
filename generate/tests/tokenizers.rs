//! llama.cpp's own tokenizer on the vocabulary that we write into a GGUF, against ours on the same
//! inputs: what a device tokenizes is what the model was trained on.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use checkpoint::Vocabulary;
use config::Architecture;
use data::Tokenizer;
use gguf::{Metadata, Value, Writer};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;

/// The path of `name` in the shared test data, or `None` with a line that says what is skipped.
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

/// A GGUF that has a vocabulary and no tensor.
fn write_vocabulary(vocabulary: Vocabulary, path: &Path) {
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
    let rows = vocabulary.tokens.len() + 3; // as a padded embedding would have
    vocabulary.describe(Architecture::Llama, rows, &mut metadata).unwrap();
    let file = std::fs::File::create(path).unwrap();
    Writer::new(file, &metadata, &[]).unwrap().finish().unwrap();
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
    let trained = data::train_tokenizer("builtin".as_ref(), 900).unwrap();
    let trained = trained.tokenizer_json().unwrap();
    let pieces = include_str!("../../data/tests/golden/sentencepiece.json");
    let mut cases = vec![
        ("gpt2", Vocabulary::parse(&gpt2).unwrap()),
        ("trained", Vocabulary::parse(&trained).unwrap()),
        ("sentencepiece", Vocabulary::parse(pieces).unwrap()),
        ("llama2.c", Vocabulary::from_llama2c(&stories, 512).unwrap()),
    ];
    for pre in ["llama-bpe", "smaug-bpe", "qwen2", "smollm", "olmo"] {
        let mut keys = Metadata::new();
        let vocabulary = Vocabulary::parse(&gpt2).unwrap();
        vocabulary.describe(Architecture::Llama, 50_257, &mut keys).unwrap();
        keys.set("tokenizer.ggml.pre", Value::String(pre.into()));
        cases.push((pre, Vocabulary::from_gguf(&keys).unwrap()));
    }

    let folder = tempfile::tempdir().unwrap();
    // To tracing, where no one listens.
    llama_cpp_2::send_logs_to_tracing(llama_cpp_2::LogOptions::default());
    let backend = LlamaBackend::init().unwrap();
    for (name, vocabulary) in cases {
        let path = folder.path().join("vocabulary.gguf");
        let ours = Tokenizer::from_vocabulary(&vocabulary).unwrap();
        write_vocabulary(vocabulary, &path);
        let params = LlamaModelParams::default().with_vocab_only(true);
        let theirs = LlamaModel::load_from_file(&backend, &path, &params).unwrap();
        for input in &inputs {
            let tokens = theirs.vocab().tokenize(input.as_bytes(), false, true);
            let tokens: Vec<u32> = tokens.iter().map(|token| token.0 as u32).collect();
            assert_eq!(ours.encode_with_specials(input), tokens, "{name}: {input:?}");
        }
    }
}
