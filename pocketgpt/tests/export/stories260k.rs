//! A trained model of llama2.c, whose 200 most likely tokens are known: from its own file to a GGUF
//! and to a Hugging Face folder.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::path::{Path, PathBuf};

use super::common::test_data;
use super::{export, refusal};
use checkpoint::{Checkpoint, GgufView, TokenType, Vocabulary, open_source};
use gguf::{GgufFile, Metadata, TensorSource, TensorType};
use llama_cpp::{Arithmetic, Llama, Settings};

/// Bytes of the model file.
const SIZE: usize = 1_056_540;

/// The model, its tokenizer and the text that it generates.
fn files(test: &str) -> Option<[PathBuf; 3]> {
    let names = ["stories260K.bin", "tok512.bin", "expected-greedy-200.txt"];
    let [model, tokenizer, text] =
        names.map(|name| test_data(test, &format!("stories260K/{name}")));
    Some([model?, tokenizer?, text?])
}

fn arguments<'a>(model: &'a Path, tokenizer: &'a Path, rest: &[&'a str]) -> Vec<&'a str> {
    let [model, tokenizer] = [model, tokenizer].map(|path| path.to_str().unwrap());
    [&["--input", model, "--tokenizer", tokenizer], rest].concat()
}

/// The text of the 200 steps of `run.c` at temperature 0, from the token that begins a text;
/// `logits` reads one token and gives the logits of the next.
fn greedy_text(metadata: &Metadata, mut logits: impl FnMut(u32) -> Vec<f32>) -> String {
    let vocabulary = Vocabulary::from_gguf(metadata).unwrap();
    let mut bytes = Vec::new();
    let mut token = vocabulary.special.bos.unwrap();
    for _ in 0..200 {
        let logits = logits(token);
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        token = best as u32;
        let text = &vocabulary.tokens[best];
        match vocabulary.types[best] {
            TokenType::Byte => bytes.push(u8::from_str_radix(&text[3..5], 16).unwrap()),
            _ => bytes.extend(text.replace('▁', " ").bytes()),
        }
    }
    // `run.c` does not print the space before the first word.
    String::from_utf8(bytes).unwrap().trim_start().to_owned()
}

/// By the reference pass.
fn reference_text(path: &Path) -> String {
    let source = open_source(path).unwrap();
    let mut session = reference::Model::load(&*source).unwrap().session();
    greedy_text(source.metadata(), |token| session.push(&[token]).unwrap())
}

/// By llama.cpp.
fn llama_text(path: &Path) -> String {
    let file = GgufFile::open(path).unwrap();
    let model = Llama::load(path).unwrap();
    let settings = Settings { context: 256, threads: 1, arithmetic: Arithmetic::Exact };
    let mut session = model.session(settings).unwrap();
    greedy_text(file.metadata(), |token| session.push(&[token]).unwrap())
}

#[test]
fn the_known_text_comes_out_of_a_gguf_and_of_a_hugging_face_folder() {
    let Some([model, tokenizer, text]) = files("stories260k") else { return };
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    for rest in [
        ["--output", "a.gguf", "--name", "stories"].as_slice(),
        &["--output", "hf", "--to", "huggingface"],
    ] {
        let output = export(dir, &arguments(&model, &tokenizer, rest));
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(fs::read_dir(dir).unwrap().count(), 2, "no temporary folder is left");

    let expected = fs::read_to_string(text).unwrap();
    for found in [
        reference_text(&dir.join("a.gguf")),
        reference_text(&dir.join("hf")),
        llama_text(&dir.join("a.gguf")),
    ] {
        assert_eq!(found, expected.trim_end());
    }

    let file = GgufFile::open(&dir.join("a.gguf")).unwrap();
    let checkpoint = Checkpoint::open(&dir.join("hf")).unwrap();
    let view = GgufView::new(checkpoint, TensorType::F32, "stories").unwrap();
    assert_eq!(file.metadata(), view.metadata());
    for tensor in file.tensors() {
        assert_eq!(file.read(tensor).unwrap(), view.read(tensor).unwrap(), "{}", tensor.name);
    }
}

/// The tokenizer's own scores and the merges made from them give the same tokens.
#[test]
fn the_vocabulary_is_that_of_the_file() {
    let Some([_, tokenizer, _]) = files("vocabulary") else { return };
    let Some([model, ..]) = files("vocabulary") else { return };
    let folder = tempfile::tempdir().unwrap();
    let args = arguments(&model, &tokenizer, &["--output", "a.gguf"]);
    assert!(export(folder.path(), &args).status.success());
    let file = GgufFile::open(&folder.path().join("a.gguf")).unwrap();
    let found = Vocabulary::from_gguf(file.metadata()).unwrap();
    let expected = Vocabulary::from_llama2c(&tokenizer, 512).unwrap();
    assert_eq!(found.tokens, expected.tokens);
    assert_eq!(found.types, expected.types);
    assert_eq!(found.special.bos, Some(1));
    assert_eq!(found.special.eos, Some(2));
    assert!(found.special.add_bos);
}

#[test]
fn a_file_of_another_size_than_its_header_says_is_refused() {
    let Some([model, tokenizer, _]) = files("sizes") else { return };
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(model).unwrap();
    let refused = |bytes: &[u8]| {
        let path = folder.path().join("model.bin");
        fs::write(&path, bytes).unwrap();
        refusal(folder.path(), &arguments(&path, &tokenizer, &[]))
    };
    for size in [SIZE - 4, SIZE - 1, SIZE / 2, 28, SIZE + 1] {
        let mut resized = bytes.clone();
        resized.resize(size, 0);
        let error = refused(&resized);
        let expected = format!("model.bin: {size} bytes, expected {SIZE} for the 5 layers");
        assert!(error.contains(&expected), "{error}");
    }
    assert!(refused(&bytes[..20]).contains("20 bytes, shorter than llama2.c's header of 28"));

    let with = |position: usize, number: i32| {
        let mut changed = bytes.clone();
        changed[4 * position..][..4].copy_from_slice(&number.to_le_bytes());
        refused(&changed)
    };
    for (position, number, expected) in [
        (0, 0, "dim = 0, expected 1 to"),
        (0, 65, "expected heads of an even width in dim = 65"),
        (1, -1, "hidden_dim = -1, expected 1 to"),
        (2, i32::MAX, "n_layers = 2147483647, expected 1 to"),
        (3, 7, "expected a divisor of n_heads = 7"),
        (4, 3, "n_kv_heads = 3, expected a divisor of n_heads = 8"),
        (5, 0, "vocab_size = 0"),
        (5, i32::MIN, "vocab_size = -2147483648"),
        // A separate head would take another 131,072 bytes.
        (5, -512, "1056540 bytes, expected 1187612"),
        (6, 1 << 27, "expected 4"),
    ] {
        let error = with(position, number);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let Some([model, tokenizer, _]) = files("tokenizers") else { return };
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(tokenizer).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(folder.path().join("tok.bin"), bytes).unwrap();
        refusal(folder.path(), &arguments(&model, Path::new("tok.bin"), &[]))
    };
    let error = refused(&bytes[..bytes.len() - 9]);
    assert!(error.contains("tok.bin: the file ends within token 511"), "{error}");
    assert!(refused(&[bytes.as_slice(), &[0; 9]].concat()).contains("of another model"));
}

#[test]
fn the_input_is_never_written_over() {
    let Some([model, tokenizer, _]) = files("input") else { return };
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("model.bin");
    fs::copy(&model, &own).unwrap();
    let args = arguments(&own, &tokenizer, &["--force", "--output", "./model.bin"]);
    let error = refusal(folder.path(), &args);
    assert!(error.contains("part of the model itself"), "{error}");
    assert_eq!(fs::read(&own).unwrap().len(), SIZE);
}
