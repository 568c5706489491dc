//! Prints the token ids of some texts as JSON, for programs that compare them with others: a text
//! as a JSON string on each line of stdin, and for each `{"ids": [...]}` or `{"error": "..."}` on
//! stdout. Special tokens that are spelled in a text are recognised, and none is added around it.
//!
//!     echo '"Hello"' | cargo run --release -p pocketgpt-data --example ids -- MODEL.gguf|FOLDER|tokenizer.json

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use data::Tokenizer;
use gguf::{GgufFile, TensorSource};
use serde_json::json;

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).map(PathBuf::from);
    let path = path.context("usage: ids MODEL.gguf|FOLDER|tokenizer.json, with texts on stdin")?;
    let tokenizer = match path.extension().is_some_and(|extension| extension == "gguf") {
        true => Tokenizer::from_gguf(GgufFile::open(&path)?.metadata())?,
        false => Tokenizer::open(&path)?,
    };
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        let answer = match tokenizer.encode_with_specials(&text) {
            Ok(ids) => json!({ "ids": ids }),
            Err(missing) => json!({ "error": missing.to_string() }),
        };
        writeln!(out, "{answer}")?;
    }
    Ok(())
}
