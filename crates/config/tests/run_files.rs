//! The run files of the project: each loads, and describes the model that its comment names.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::fs;
use std::path::{Path, PathBuf};

use config::{RunFile, TokenizerKind};

const GPT2_VOCABULARY: usize = 50_257;
const LLAMA_VOCABULARY: usize = 32_000;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

fn text(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

fn load(name: &str) -> RunFile {
    RunFile::load(&folder().join(name), &[]).unwrap()
}

/// Tokens of the run file's tokenizer; a trained one has the requested number.
fn vocab_size(run_file: &RunFile) -> usize {
    match (&run_file.train.init_from, run_file.data.tokenizer) {
        (Some(_), _) => LLAMA_VOCABULARY,
        (None, TokenizerKind::Trained) => run_file.data.vocab_size,
        (None, _) => GPT2_VOCABULARY,
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<&str> = groups.map(|group| str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

#[test]
fn every_run_file_is_valid_and_has_a_folder_of_its_own() {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.strip_suffix(".toml").expect("run files only");
        assert_eq!(load(&name).run.dir, Path::new("runs").join(stem), "{name}");
        assert!(text(&name).contains(&format!("--config configs/{name}")), "{name}: how to run it");
        folders.push(stem.to_owned());
    }
    assert!(folders.len() >= 8, "{folders:?}");
}

#[test]
fn comments_state_the_parameters() {
    for name in
        ["gpt2-124m", "hessgpt-0.5b", "llama-15m", "tinyllama-1.1b", "tinystories", "gptneox-rope"]
            .map(|name| format!("{name}.toml"))
    {
        let run_file = load(&name);
        let count = run_file.model.config(vocab_size(&run_file)).parameter_count();
        assert!(text(&name).contains(&grouped(count)), "{name}: {} parameters", grouped(count));
    }
}

/// K-quants store rows in blocks of 256; a row that is not a multiple gets a larger format.
#[test]
fn rows_are_whole_blocks() {
    for name in ["gpt2-124m", "hessgpt-0.5b", "llama-15m", "tinyllama-1.1b", "tinystories"] {
        let config = load(&format!("{name}.toml")).model.config(GPT2_VOCABULARY);
        for width in [config.n_embd, config.n_inner] {
            assert!(width.is_multiple_of(256), "{name}: {width}");
        }
    }
}
