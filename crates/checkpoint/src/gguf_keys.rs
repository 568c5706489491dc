//! The keys of a GGUF that describe a model, written and read.
//!
//! Source: `src/llama-arch.cpp` and `src/models/gpt2.cpp` of llama.cpp for the names,
//! `convert_hf_to_gguf.py` for the order.

use std::path::Path;

use config::{Architecture, ModelConfig};
use gguf::{GgufError, Metadata, TensorInfo, TensorType, Value};

use crate::limits::{self, SizeKeys};
use crate::names;
use crate::{CheckpointError, Vocabulary};

/// The layout of ggml's quantized blocks, `GGML_QNT_VERSION` of `ggml.h`.
const QUANTIZATION_VERSION: u32 = 2;

const KEYS: SizeKeys = SizeKeys {
    vocab_size: "rows of token_embd.weight",
    context_length: "gpt2.context_length",
    n_layer: "gpt2.block_count",
    n_head: "gpt2.attention.head_count",
    n_embd: "gpt2.embedding_length",
    n_inner: "gpt2.feed_forward_length",
    norm_epsilon: "gpt2.attention.layer_norm_epsilon",
};

/// Names the source in errors: whoever called knows the file.
const PLACE: &str = "GGUF metadata";

/// `enum llama_ftype` of `llama.h` for a file whose matrices are of one type, as
/// `general.file_type` states it; the mixtures of quantized types have numbers of their own.
pub fn file_type(tensor_type: TensorType) -> u32 {
    match tensor_type {
        TensorType::F32 => 0,
        TensorType::F16 => 1,
        TensorType::Q4_0 => 2,
        TensorType::Q4_1 => 3,
        TensorType::Q8_0 => 7,
        TensorType::Q5_0 => 8,
        TensorType::Q5_1 => 9,
        TensorType::Q4_K => 14,
        TensorType::Q6_K => 18,
        TensorType::BF16 => 32,
    }
}

/// All keys of a file.
pub(crate) fn metadata(
    config: &ModelConfig,
    vocabulary: Vocabulary,
    tensor_type: TensorType,
    name: &str,
) -> Result<Metadata, CheckpointError> {
    let mut metadata = Metadata::new();
    let architecture = config.architecture;
    metadata.set("general.architecture", Value::String(architecture.name().to_owned()));
    metadata.set("general.name", Value::String(name.to_owned()));
    match architecture {
        Architecture::Gpt2 => gpt2(config, &mut metadata),
        _ => unimplemented!("tables of this family"),
    }
    metadata.set("general.file_type", Value::U32(file_type(tensor_type)));
    metadata.set("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    vocabulary.describe(architecture, config.vocab_size, &mut metadata)?;
    Ok(metadata)
}

fn gpt2(config: &ModelConfig, metadata: &mut Metadata) {
    // Every checkpoint was held against the limits, which are far below 2^32.
    let mut size = |key: &str, value: usize| metadata.set(key, Value::U32(value as u32));
    size(KEYS.n_layer, config.n_layer);
    size(KEYS.context_length, config.context_length);
    size(KEYS.n_embd, config.n_embd);
    size(KEYS.n_inner, config.n_inner);
    size(KEYS.n_head, config.n_head);
    metadata.set(KEYS.norm_epsilon, Value::F32(config.norm_epsilon));
}

/// The shape of the model in a GGUF.
///
/// What a GGUF does not record comes out as it makes no difference to the file: the QKV bias
/// counts as present (its zeros are weights like any other), and dropout is 0.
///
/// # Errors
/// When the architecture is unknown, a key is missing or out of range, or a tensor is missing,
/// misshapen or unknown.
pub fn gguf_config(
    metadata: &Metadata,
    tensors: &[TensorInfo],
) -> Result<ModelConfig, CheckpointError> {
    let name = metadata.string("general.architecture")?;
    let config = match Architecture::from_name(name) {
        Some(Architecture::Gpt2) => gpt2_config(metadata, tensors)?,
        _ => {
            let (place, name) = (PLACE.into(), name.to_owned());
            return Err(CheckpointError::Architecture { place, name });
        }
    };
    limits::check(&config, Path::new(PLACE), &KEYS)?;
    check_tensors(&config, tensors)?;
    Ok(config)
}

fn gpt2_config(
    metadata: &Metadata,
    tensors: &[TensorInfo],
) -> Result<ModelConfig, CheckpointError> {
    // Too large for this machine is too large for the limits.
    let size = |key: &str| metadata.unsigned(key).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let find = |name: &str| tensors.iter().find(|tensor| tensor.name == name);
    let embedding = find("token_embd.weight")
        .ok_or_else(|| GgufError::MissingTensor { name: "token_embd.weight".to_owned() })?;
    let vocab_size = embedding.shape.get(1).map_or(0, |&rows| rows as usize);
    Ok(ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size,
        context_length: size(KEYS.context_length)?,
        n_layer: size(KEYS.n_layer)?,
        n_head: size(KEYS.n_head)?,
        n_kv_head: size(KEYS.n_head)?,
        n_embd: size(KEYS.n_embd)?,
        n_inner: size(KEYS.n_inner)?,
        norm_epsilon: metadata.float(KEYS.norm_epsilon)?,
        rope_base: config::ROPE_BASE,
        qkv_bias: true,
        tie_embeddings: find("output.weight").is_none(),
        dropout: 0.0,
    })
}

/// Every tensor of the table with its shape, and no other.
fn check_tensors(config: &ModelConfig, tensors: &[TensorInfo]) -> Result<(), CheckpointError> {
    let table = names::tensors(config);
    let mut found: std::collections::HashMap<&str, &TensorInfo> =
        tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for row in &table {
        let tensor = found
            .remove(row.gguf.as_str())
            .ok_or_else(|| GgufError::MissingTensor { name: row.gguf.clone() })?;
        let expected = row.gguf_shape();
        // Trailing ones say nothing: some writers leave them in.
        let significant = tensor.shape.iter().rposition(|&n| n != 1).map_or(0, |last| last + 1);
        let expected_significant = expected.iter().rposition(|&n| n != 1).map_or(0, |i| i + 1);
        if tensor.shape[..significant] != expected[..expected_significant] {
            let slowest_first = |shape: &[u64]| shape.iter().rev().map(|&n| n as usize).collect();
            return Err(CheckpointError::Shape {
                path: "GGUF".into(),
                name: row.gguf.clone(),
                found: slowest_first(&tensor.shape),
                expected: slowest_first(&expected),
            });
        }
    }
    match found.into_keys().min() {
        Some(name) => {
            Err(CheckpointError::ExtraTensor { path: "GGUF".into(), name: name.to_owned() })
        }
        None => Ok(()),
    }
}
