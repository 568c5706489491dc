//! Prints the logits of the reference pass and of llama.cpp for some tokens, and the token ids of
//! some texts, as JSON, for programs that compare them with others.
//!
//!     echo '{"tokens": [1, 2, 3], "texts": ["Hello"]}' |
//!         cargo run --release -p pocketgpt-eval --example logits -- model.gguf

use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use data::Tokenizer;
use gguf::{GgufFile, TensorSource};
use llama_cpp::{Arithmetic, Llama, Settings};
use serde::{Deserialize, Serialize};

/// The request, on stdin.
#[derive(Deserialize)]
struct Question {
    /// Read in one pass.
    tokens: Vec<u32>,
    /// Each is tokenized.
    texts: Vec<String>,
}

/// The answer, on stdout.
#[derive(Serialize)]
struct Answer {
    /// `[T, V]`, row-major.
    reference: Vec<f32>,
    /// The same by llama.cpp, with settings that are as near to plain f32 as possible.
    llama: Vec<f32>,
    /// By the tokenizer in the GGUF.
    ids: Vec<Vec<u32>>,
}

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).map(PathBuf::from);
    let path = path.context("usage: logits MODEL.gguf, with a question on stdin")?;
    let question: Question = serde_json::from_reader(io::stdin())?;
    let file = GgufFile::open(&path)?;
    let tokenizer = Tokenizer::from_gguf(file.metadata())?;
    let llama = Llama::load(&path)?;
    let settings =
        Settings { context: question.tokens.len(), threads: 0, arithmetic: Arithmetic::Exact };
    let answer = Answer {
        reference: reference::Model::load(&file)?.logits(&question.tokens)?,
        llama: llama.session(settings)?.logits(&question.tokens)?,
        ids: question.texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<_, _>>()?,
    };
    serde_json::to_writer(io::stdout().lock(), &answer)?;
    Ok(())
}
