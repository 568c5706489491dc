//! A small GPT-2 with random weights as a GGUF file, which every engine can read.

use std::path::{Path, PathBuf};

use config::ModelConfig;
use gguf::{Array, Metadata, TensorSource, TensorType, Value, Writer};
use reference::MemorySource;

#[path = "../../../crates/reference/tests/random_weights/mod.rs"]
mod random_weights;

/// 256 bytes, one merge and the end of the text.
const VOCABULARY: usize = 258;

/// The id of the end of the text.
pub const END_OF_TEXT: u32 = 257;

/// Settings and weights.
pub fn tiny() -> (ModelConfig, MemorySource) {
    let config =
        ModelConfig { vocab_size: VOCABULARY, context_length: 64, ..random_weights::config() };
    let source = random_weights::source(&config, |_| ());
    (config, source)
}

/// Writes the model to `folder/tiny.gguf`.
pub fn write_tiny(folder: &Path) -> PathBuf {
    let (config, source) = tiny();
    let path = folder.join("tiny.gguf");
    let described: Vec<(String, Vec<u64>, TensorType)> = source
        .tensors()
        .iter()
        .map(|tensor| (tensor.name.clone(), tensor.shape.clone(), tensor.tensor_type))
        .collect();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = Writer::new(file, &metadata(&config), &described).unwrap();
    for tensor in source.tensors() {
        writer.write_tensor(&tensor.name, &source.read(tensor).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    path
}

fn metadata(config: &ModelConfig) -> Metadata {
    let mut metadata = Metadata::new();
    let text = |text: &str| Value::String(text.into());
    metadata.set("general.architecture", text("gpt2"));
    for (key, size) in [
        ("gpt2.block_count", config.n_layer),
        ("gpt2.context_length", config.context_length),
        ("gpt2.embedding_length", config.n_embd),
        ("gpt2.feed_forward_length", config.n_inner),
        ("gpt2.attention.head_count", config.n_head),
    ] {
        metadata.set(key, Value::U32(size as u32));
    }
    metadata.set("gpt2.attention.layer_norm_epsilon", Value::F32(config.norm_epsilon));
    metadata.set("tokenizer.ggml.model", text("gpt2"));
    metadata.set("tokenizer.ggml.pre", text("gpt-2"));
    let mut tokens: Vec<String> = alphabet().into_iter().map(String::from).collect();
    tokens.extend(["th".to_owned(), "<|endoftext|>".to_owned()]);
    let mut types = vec![1; VOCABULARY];
    types[END_OF_TEXT as usize] = 3; // control
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    metadata.set("tokenizer.ggml.merges", Value::Array(Array::String(vec!["t h".into()])));
    metadata.set("tokenizer.ggml.bos_token_id", Value::U32(END_OF_TEXT));
    metadata.set("tokenizer.ggml.eos_token_id", Value::U32(END_OF_TEXT));
    metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
    metadata
}

/// GPT-2's letters for the 256 bytes in its own order: `bytes_to_unicode` of OpenAI's encoder.py.
fn alphabet() -> Vec<char> {
    let printable: Vec<u8> = (b'!'..=b'~').chain(0xa1..=0xac).chain(0xae..=0xff).collect();
    let others = (0..=255_u8).filter(|byte| !printable.contains(byte)).count() as u32;
    let shown = printable.iter().map(|&byte| char::from(byte));
    shown.chain((0..others).map(|n| char::from_u32(256 + n).unwrap())).collect()
}
