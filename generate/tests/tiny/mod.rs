//! Small models with random weights as GGUF files, which every engine can read.

use std::path::{Path, PathBuf};

use config::ModelConfig;
use gguf::{Array, Metadata, TensorSource, TensorType, Value, Writer};

pub mod alphabet;
#[path = "../../../crates/reference/tests/random_weights/mod.rs"]
mod random_weights;

use alphabet::alphabet;

/// 256 bytes, one merge and the end of the text.
const VOCABULARY: usize = 258;

/// The id of the end of the text.
pub const END_OF_TEXT: u32 = 257;

/// A small GPT-2.
pub fn tiny() -> ModelConfig {
    ModelConfig { vocab_size: VOCABULARY, context_length: 64, ..random_weights::config() }
}

/// A small model of each kind.
#[allow(dead_code, reason = "not every test needs every family")]
pub fn families() -> Vec<(&'static str, ModelConfig)> {
    let mut families = random_weights::families();
    for (_, config) in &mut families {
        (config.vocab_size, config.context_length) = (VOCABULARY, 64);
    }
    families
}

/// Writes a model to `folder/tiny.gguf`.
pub fn write(config: &ModelConfig, folder: &Path) -> PathBuf {
    write_as(config, &metadata(config), folder.join("tiny.gguf"))
}

/// Writes a small GPT-2 with a chat template to `folder/chat.gguf`.
#[allow(dead_code, reason = "not every test talks")]
pub fn write_chat(folder: &Path) -> PathBuf {
    let template = "{% for m in messages %}{{ m.role[:1] }}:{{ m.content }}{{ eos_token }}\
                    {% endfor %}{% if add_generation_prompt %}a:{% endif %}";
    let mut metadata = metadata(&tiny());
    metadata.set("tokenizer.chat_template", Value::String(template.into()));
    write_as(&tiny(), &metadata, folder.join("chat.gguf"))
}

fn write_as(config: &ModelConfig, metadata: &Metadata, path: PathBuf) -> PathBuf {
    let source = random_weights::source(config, |_| ());
    let described: Vec<(String, Vec<u64>, TensorType)> = source
        .tensors()
        .iter()
        .map(|tensor| (tensor.name.clone(), tensor.shape.clone(), tensor.tensor_type))
        .collect();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = Writer::new(file, metadata, &described).unwrap();
    for tensor in source.tensors() {
        writer.write_tensor(&tensor.name, &source.read(tensor).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    path
}

fn metadata(config: &ModelConfig) -> Metadata {
    let mut metadata = Metadata::new();
    let text = |text: &str| Value::String(text.into());
    let name = config.architecture.name();
    metadata.set("general.architecture", text(name));
    for (key, size) in [
        ("block_count", config.n_layer),
        ("context_length", config.context_length),
        ("embedding_length", config.n_embd),
        ("feed_forward_length", config.n_inner),
        ("attention.head_count", config.n_head),
        ("attention.head_count_kv", config.n_kv_head),
        ("attention.key_length", config.head_width()),
        ("attention.value_length", config.head_width()),
        ("rope.dimension_count", config.rotated_width()),
    ] {
        metadata.set(format!("{name}.{key}"), Value::U32(size as u32));
    }
    let norm = if config.architecture.is_gated() { "layer_norm_rms" } else { "layer_norm" };
    metadata.set(format!("{name}.attention.{norm}_epsilon"), Value::F32(config.norm_epsilon));
    metadata.set(format!("{name}.rope.freq_base"), Value::F32(config.rope_base));
    metadata.set(format!("{name}.use_parallel_residual"), Value::Bool(false));
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
