//! A tiny model in two sizes, and the bundle of it.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod server;

use std::path::{Path, PathBuf};

use bundle::{
    AppChoice, Generation, License, MeasuredFile, PackJob, Provenance, Quality, VariantInput,
};
use config::{Architecture, ModelConfig};
use gguf::{Metadata, TensorType, Value, Writer};

/// 2 blocks, 32 wide, 64 tokens, 48 of context.
pub fn tiny() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size: 64,
        context_length: 48,
        n_layer: 2,
        n_head: 2,
        n_kv_head: 2,
        n_embd: 32,
        n_inner: 64,
        norm_epsilon: 1e-5,
        rope_base: config::ROPE_BASE,
        qkv_bias: true,
        tie_embeddings: true,
        dropout: 0.0,
        attention: config::Attention::default(),
        experts: None,
    }
}

fn metadata(config: &ModelConfig) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::String("gpt2".into()));
    for (key, value) in [
        ("gpt2.block_count", config.n_layer),
        ("gpt2.context_length", config.context_length),
        ("gpt2.embedding_length", config.n_embd),
        ("gpt2.feed_forward_length", config.n_inner),
        ("gpt2.attention.head_count", config.n_head),
        ("tokenizer.ggml.eos_token_id", 0),
    ] {
        metadata.set(key, Value::U32(value as u32));
    }
    let epsilon = Value::F32(config.norm_epsilon);
    metadata.set("gpt2.attention.layer_norm_epsilon", epsilon);
    metadata
}

/// Numbers between -0.5 and 0.5 that look random and are always the same.
fn weights(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    })
}

/// Writes the model with its matrices in `matrices`.
pub fn write_gguf(path: &Path, config: &ModelConfig, matrices: TensorType) {
    let table = checkpoint::names::tensors(config);
    let described: Vec<_> = checkpoint::names::stored_tensors(config, matrices).collect();
    let mut writer = Writer::new(Vec::new(), &metadata(config), &described).unwrap();
    for (seed, (row, (name, shape, tensor_type))) in table.iter().zip(&described).enumerate() {
        let values: Vec<f32> = weights(seed as u64 + 1).take(row.elements()).collect();
        let mut bytes = vec![0; tensor_type.size_of(shape).unwrap() as usize];
        gguf::blocks::quantize(*tensor_type, &values, shape[0] as usize, None, &mut bytes).unwrap();
        writer.write_tensor(name, &bytes).unwrap();
    }
    std::fs::write(path, writer.finish().unwrap()).unwrap();
}

pub fn variant(recipe: &str, source: PathBuf) -> VariantInput {
    let quality = Quality {
        mean_kl: Some(0.0012),
        top1_agreement: Some(0.985),
        perplexity: Some(21.5),
        reference_perplexity: Some(21.25),
        tasks: Vec::new(),
    };
    let recipe = recipe.to_owned();
    VariantInput { recipe, source, quality, measured: MeasuredFile::default() }
}

/// A folder with the model as `F16.gguf` and `Q8_0.gguf`.
pub struct Fixture {
    pub folder: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_gguf(&folder.path().join("F16.gguf"), &tiny(), TensorType::F16);
        write_gguf(&folder.path().join("Q8_0.gguf"), &tiny(), TensorType::Q8_0);
        Fixture { folder }
    }

    /// One with the bundle packed.
    pub fn packed() -> Self {
        let fixture = Fixture::new();
        bundle::pack(&fixture.job()).unwrap();
        fixture
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn output(&self) -> PathBuf {
        self.path("pocket")
    }

    pub fn job(&self) -> PackJob {
        PackJob {
            output: self.output(),
            zip: false,
            force: false,
            replace_signed: false,
            app: AppChoice::Left,
            name: "tiny".to_owned(),
            license: License::new("MIT", None).unwrap(),
            release: Some(3),
            expires: None,
            variants: vec![
                variant("F16", self.path("F16.gguf")),
                variant("Q8_0", self.path("Q8_0.gguf")),
            ],
            max_bytes: 8192,
            tokenizer_json: "{}\n".to_owned(),
            generation: Generation::default(),
            prompt: "a b c".to_owned(),
            prompt_tokens: vec![1, 2, 3],
            self_test_tokens: 8,
            provenance: Provenance {
                run_file: Some("[run]\nseed = 1\n".to_owned()),
                data_blake3: None,
                program_version: "0.0.0".to_owned(),
            },
        }
    }
}
