//! The location of test data that is not part of the repository.

use std::path::PathBuf;

/// The path of `name` in the shared test data, or `None` after printing what is skipped.
pub fn shared(test: &str, name: &str) -> Option<PathBuf> {
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

/// The inputs that llama.cpp tests its tokenizers with, or `None` if they are not present.
#[allow(dead_code, reason = "not every test of the folder needs them")]
pub fn conformance_inputs(test: &str) -> Option<Vec<String>> {
    let path = shared(test, "tokenizer/ggml-vocab-gpt-2.gguf.inp")?;
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.split("\n__ggml_vocab_test__\n").map(str::to_owned).collect())
}
