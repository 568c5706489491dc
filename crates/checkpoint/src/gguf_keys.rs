//! Writes and reads the keys of a GGUF that describe a model.
//!
//! Source: `src/llama-arch.cpp`, `load_hparams` in `src/llama-model.cpp` and `src/models/` of
//! llama.cpp for the names and the required keys; `conversion/base.py` and the converter of each
//! family for the order.

use std::path::Path;

use config::{
    Architecture, Attention, Experts, HasExperts, ModelConfig, NormKind, ROPE_BASE, RopeScaling,
};
use gguf::{FileType, GgufError, Metadata, TensorInfo, TensorSource, TensorType, Value};

use crate::limits::{self, SizeKeys};
use crate::{CheckpointError, Vocabulary};
use crate::{gguf_attention, names};

/// The layout of ggml's quantized blocks, `GGML_QNT_VERSION` of `ggml.h`.
const QUANTIZATION_VERSION: u32 = 2;

/// The tensor with the factors of a scaled rotation.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The kind of scaling, if it is the same for all pairs.
const SCALING_TYPE: &str = "rope.scaling.type";
/// The factor of the scaling.
const SCALING_FACTOR: &str = "rope.scaling.factor";
/// The value of [`SCALING_TYPE`] in that case; llama.cpp also assumes it if the key is missing.
const LINEAR: &str = "linear";

/// Width of a head of values, which is that of a head of keys here.
const VALUE_LENGTH: &str = "attention.value_length";

/// Width of one expert's feed-forward layer.
const EXPERT_WIDTH: &str = "expert_feed_forward_length";

/// `LLAMA_EXPERT_GATING_FUNC_TYPE_SOFTMAX` of `llama-hparams.h`.
const SOFTMAX: f64 = 1.0;

/// The expected text in the error for an unknown key.
const UNKNOWN: &str = "no such key: it is not known here what it does to the model";

/// The source in errors: the caller knows the file.
const PLACE: &str = "GGUF metadata";

/// The keys of a family, for example `llama.block_count`.
fn keys(architecture: Architecture) -> SizeKeys {
    let key = |name: &str| format!("{}.{name}", architecture.name());
    SizeKeys {
        vocab_size: "rows of token_embd.weight".to_owned(),
        context_length: key("context_length"),
        n_layer: key("block_count"),
        n_head: key("attention.head_count"),
        n_kv_head: key("attention.head_count_kv"),
        n_embd: key("embedding_length"),
        n_inner: key("feed_forward_length"),
        head_width: key("attention.key_length"),
        rotated_width: key("rope.dimension_count"),
        rope_scaling: key("rope.scaling"),
        window: key("attention.sliding_window"),
        experts: key("expert_count"),
        experts_used: key("expert_used_count"),
        norm_epsilon: key(match architecture.block().norm {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer => "attention.layer_norm_epsilon",
        }),
        rope_base: key("rope.freq_base"),
        dropout: "dropout".to_owned(),
    }
}

/// All keys of a file.
pub(crate) fn metadata(
    config: &ModelConfig,
    vocabulary: Option<Vocabulary>,
    tensor_type: TensorType,
    name: &str,
) -> Metadata {
    let mut metadata = Metadata::new();
    let architecture = config.architecture;
    metadata.set("general.architecture", Value::String(architecture.name().to_owned()));
    metadata.set("general.name", Value::String(name.to_owned()));
    describe_shape(config, &mut metadata);
    metadata.set("general.file_type", Value::U32(FileType::of(tensor_type).number()));
    describe_family(config, &mut metadata);
    metadata.set("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    match vocabulary {
        Some(vocabulary) => vocabulary.describe(architecture, config.vocab_size, &mut metadata),
        None => {
            let size = Value::U32(config.vocab_size as u32);
            metadata.set(format!("{}.vocab_size", architecture.name()), size);
            metadata.set("tokenizer.ggml.model", Value::String("no_vocab".to_owned()));
        }
    }
    metadata
}

/// The keys of all families.
fn describe_shape(config: &ModelConfig, metadata: &mut Metadata) {
    let keys = keys(config.architecture);
    // Every checkpoint was checked against the limits, which are far below 2^32.
    let mut size = |key: String, value: usize| metadata.set(key, Value::U32(value as u32));
    size(keys.n_layer, config.n_layer);
    size(keys.context_length, config.context_length);
    size(keys.n_embd, config.n_embd);
    size(keys.n_inner, config.n_inner);
    size(keys.n_head, config.n_head);
    if config.architecture.is_gated() {
        size(keys.n_kv_head, config.n_kv_head);
    }
    if let Some(width) = config.attention.head_width {
        size(keys.head_width, width);
        size(format!("{}.{VALUE_LENGTH}", config.architecture.name()), width);
    }
    if config.architecture.rope_pairs().is_some() {
        metadata.set(keys.rope_base, Value::F32(config.rope_base));
    }
    metadata.set(keys.norm_epsilon, Value::F32(config.norm_epsilon));
}

/// The keys that the converter of the family adds.
fn describe_family(config: &ModelConfig, metadata: &mut Metadata) {
    let architecture = config.architecture;
    let key = |name: &str| format!("{}.{name}", architecture.name());
    if matches!(architecture, Architecture::Llama | Architecture::SmolLm3) {
        metadata.set(key("vocab_size"), Value::U32(config.vocab_size as u32));
    }
    if architecture.rope_pairs().is_some() {
        metadata.set(key("rope.dimension_count"), Value::U32(config.rotated_width() as u32));
    }
    if let RopeScaling::Linear { factor } = config.attention.rope_scaling {
        metadata.set(key(SCALING_TYPE), Value::String(LINEAR.to_owned()));
        metadata.set(key(SCALING_FACTOR), Value::F32(factor));
    }
    gguf_attention::describe(config, metadata);
    if let Some(experts) = config.experts {
        let mut size = |name: &str, n: usize| metadata.set(key(name), Value::U32(n as u32));
        if architecture.block().experts == HasExperts::Always {
            size(EXPERT_WIDTH, config.n_inner);
        }
        size("expert_count", experts.count);
        size("expert_used_count", experts.used);
    }
    if architecture == Architecture::GptNeox {
        metadata.set(key("use_parallel_residual"), Value::Bool(false));
    }
}

/// The shape of the model in a GGUF of any writer.
///
/// Settings that a GGUF does not record get the value that fits the file: a QKV bias that the
/// family requires counts as present (its zeros are weights like any other), and dropout is 0.
///
/// # Errors
/// When the architecture is unknown, a key is missing, out of range or requires an unsupported
/// computation, a tensor is missing, has another shape or is unknown, or the factors of the
/// rotation cannot be read.
pub fn gguf_config(source: &dyn TensorSource) -> Result<ModelConfig, CheckpointError> {
    let (metadata, tensors) = (source.metadata(), source.tensors());
    let name = metadata.string("general.architecture")?;
    let architecture = Architecture::from_name(name).ok_or_else(|| {
        let known = Architecture::ALL.map(Architecture::name).join(", ");
        CheckpointError::Architecture { place: PLACE.into(), name: name.to_owned(), known }
    })?;
    let mut config = shape(architecture, metadata, tensors)?;
    config.experts = experts(architecture, metadata)?;
    if architecture.block().experts == HasExperts::Always {
        config.n_inner = expert_width(&config, metadata)?;
    }
    limits::check(&config, Path::new(PLACE), &keys(architecture))?;
    config.attention.rope_scaling = rope_scaling(&config, source)?;
    config.attention.window = gguf_attention::window(&config, metadata)?;
    let config = config.with_plain_attention_left_out();
    limits::check(&config, Path::new(PLACE), &keys(architecture))?;
    check_keys(&config, metadata)?;
    check_tensors(&config, tensors)?;
    Ok(config)
}

fn shape(
    architecture: Architecture,
    metadata: &Metadata,
    tensors: &[TensorInfo],
) -> Result<ModelConfig, CheckpointError> {
    let keys = keys(architecture);
    // A size that is too large for this machine exceeds the limits, too.
    let size = |key: &str| metadata.unsigned(key).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let find = |name: &str| tensors.iter().find(|tensor| tensor.name == name);
    let embedding = find("token_embd.weight")
        .ok_or_else(|| GgufError::MissingTensor { name: "token_embd.weight".to_owned() })?;
    let n_head = size(&keys.n_head)?;
    Ok(ModelConfig {
        architecture,
        vocab_size: embedding.shape.get(1).map_or(0, |&rows| rows as usize),
        context_length: size(&keys.context_length)?,
        n_layer: size(&keys.n_layer)?,
        n_head,
        n_kv_head: match metadata.get(&keys.n_kv_head) {
            Some(_) => size(&keys.n_kv_head)?,
            None => n_head,
        },
        n_embd: size(&keys.n_embd)?,
        n_inner: size(&keys.n_inner)?,
        norm_epsilon: metadata.float(&keys.norm_epsilon)?,
        rope_base: match metadata.get(&keys.rope_base) {
            Some(_) => metadata.float(&keys.rope_base)?,
            None => ROPE_BASE,
        },
        qkv_bias: architecture.block().qkv_bias || find("blk.0.attn_q.bias").is_some(),
        tie_embeddings: find("output.weight").is_none(),
        dropout: 0.0,
        attention: Attention {
            head_width: metadata
                .get(&keys.head_width)
                .map(|_| size(&keys.head_width))
                .transpose()?,
            // Other families rotate whole heads, even if the key says otherwise.
            rotated_width: metadata
                .get(&keys.rotated_width)
                .filter(|_| architecture == Architecture::Phi3)
                .map(|_| size(&keys.rotated_width))
                .transpose()?,
            ..Attention::default()
        },
        experts: None,
    }
    .with_plain_attention_left_out())
}

/// The number of experts of a file; `None` if it is 0 or missing.
fn experts(
    architecture: Architecture,
    metadata: &Metadata,
) -> Result<Option<Experts>, CheckpointError> {
    let keys = keys(architecture);
    let number = |key: &str| match metadata.get(key) {
        Some(_) => metadata.unsigned(key).map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        None => Ok(0),
    };
    match (number(&keys.experts)?, number(&keys.experts_used)?) {
        (0, _) => Ok(None),
        (count, used) => Ok(Some(Experts { count, used })),
    }
}

/// Width of one expert in a family that has a separate key for it. If it is missing, llama.cpp
/// divides the width of other feed-forward layers by the number of used experts
/// (`src/models/qwen3moe.cpp`).
fn expert_width(config: &ModelConfig, metadata: &Metadata) -> Result<usize, CheckpointError> {
    let key = format!("{}.{EXPERT_WIDTH}", config.architecture.name());
    match (metadata.get(&key), config.experts) {
        (Some(_), _) => Ok(usize::try_from(metadata.unsigned(&key)?).unwrap_or(usize::MAX)),
        (None, Some(experts)) => Ok(config.n_inner / experts.used.max(1)),
        (None, None) => Ok(config.n_inner),
    }
}

/// How the rotation is scaled: by one factor in a key, or by those of a tensor.
fn rope_scaling(
    config: &ModelConfig,
    source: &dyn TensorSource,
) -> Result<RopeScaling, CheckpointError> {
    if let Some(scaling) = gguf_attention::longrope(config, source)? {
        return Ok(scaling);
    }
    let Some(tensor) = source.tensors().iter().find(|tensor| tensor.name == ROPE_FACTORS) else {
        return linear_scaling(config, source.metadata());
    };
    // If it has the wrong size, the table of tensors refuses it without reading it.
    let pairs = config.rotated_width() / 2;
    if tensor.shape.iter().product::<u64>() != pairs as u64 {
        return Ok(RopeScaling::Factors { factors: vec![1.0; pairs] });
    }
    Ok(RopeScaling::Factors { factors: gguf::read_f32(source, tensor)? })
}

fn linear_scaling(
    config: &ModelConfig,
    metadata: &Metadata,
) -> Result<RopeScaling, CheckpointError> {
    let key = |name: &str| format!("{}.{name}", config.architecture.name());
    let kind = key(SCALING_TYPE);
    let scales = metadata.get(&kind).is_none() || metadata.string(&kind)? == LINEAR;
    let factor = metadata.get(&key(SCALING_FACTOR)).filter(|_| scales).and_then(number);
    Ok(match factor {
        // llama.cpp treats 0 as a missing factor.
        None | Some(0.0 | 1.0) => RopeScaling::None,
        Some(factor) => RopeScaling::Linear { factor: factor as f32 },
    })
}

/// Checks every other key of the family: each can change what the model computes, so an unknown
/// key, or one that requires an unsupported computation, is refused.
fn check_keys(config: &ModelConfig, metadata: &Metadata) -> Result<(), CheckpointError> {
    let prefix = format!("{}.", config.architecture.name());
    let of_family =
        metadata.iter().filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?, value)));
    for (name, value) in of_family {
        if let Some(expected) = objection(config, name, value) {
            return Err(CheckpointError::Setting {
                place: PLACE.into(),
                key: format!("{prefix}{name}"),
                value: value.to_string(),
                expected,
            });
        }
    }
    if config.architecture == Architecture::GptNeox {
        let key = format!("{prefix}use_parallel_residual");
        metadata.get(&key).ok_or(GgufError::MissingKey { key })?;
    }
    Ok(())
}

/// What was expected instead of `value` under the key `name` of the family; `None` if the value is
/// valid.
fn objection(config: &ModelConfig, name: &str, value: &Value) -> Option<String> {
    let number = number(value);
    let width = config.head_width();
    if gguf_attention::is_read(config, name, value) {
        return None;
    }
    let (fine, expected) = match name {
        // Read above, or without effect.
        "context_length"
        | "block_count"
        | "embedding_length"
        | "feed_forward_length"
        | "attention.head_count"
        | "attention.head_count_kv"
        | "attention.layer_norm_epsilon"
        | "attention.layer_norm_rms_epsilon"
        | "rope.freq_base"
        | "vocab_size"
        | "tensor_data_layout" => (true, String::new()),
        "rope.dimension_count" => {
            let width = config.rotated_width();
            (
                number == Some(width as f64),
                format!("{width}: so many channels of a head are rotated"),
            )
        }
        "attention.key_length" | VALUE_LENGTH => {
            (number == Some(width as f64), format!("{width}, the width of keys and values alike"))
        }
        "use_parallel_residual" => (
            *value == Value::Bool(false),
            "false: attention and feed-forward one after the other".to_owned(),
        ),
        "attention.causal" => (*value == Value::Bool(true), "true".to_owned()),
        "attention.sliding_window" => (
            number == Some(0.0) || number >= Some(config.context_length as f64),
            format!("0 or at least the context of {}", config.context_length),
        ),
        // The value that llama.cpp assumes without a factor.
        SCALING_TYPE => (
            ["none", "linear"].iter().any(|name| *value == Value::String((*name).to_owned())),
            "\"none\" or \"linear\": no other scaling of positions is computed here".to_owned(),
        ),
        SCALING_FACTOR if matches!(config.attention.rope_scaling, RopeScaling::Linear { .. }) => {
            (true, String::new()) // read above
        }
        SCALING_FACTOR | "rope.scale_linear" => (
            matches!(number, Some(factor) if factor == 0.0 || factor == 1.0),
            "1: positions are not scaled here".to_owned(),
        ),
        "rope.scaling.finetuned" => (*value == Value::Bool(false), "false".to_owned()),
        _ if name.starts_with("expert_") => return expert_objection(config, name, value),
        _ => (false, UNKNOWN.to_owned()),
    };
    (!fine).then_some(expected)
}

/// As [`objection`], for the keys of experts.
fn expert_objection(config: &ModelConfig, name: &str, value: &Value) -> Option<String> {
    let number = number(value);
    let (fine, expected) = match name {
        "expert_count" | "expert_used_count" => (
            config.experts.is_some() || number == Some(0.0),
            "0, or both counts of experts".to_owned(),
        ),
        EXPERT_WIDTH => (
            config.experts.is_some() && number == Some(config.n_inner as f64),
            format!("{}, the width of each expert", config.n_inner),
        ),
        "expert_shared_count" | "expert_shared_feed_forward_length" => (
            number == Some(0.0),
            "0: experts that every token uses are not computed here".to_owned(),
        ),
        "expert_weights_norm" => (
            *value == Value::Bool(true),
            "true: the weights of the experts that a token uses add up to 1".to_owned(),
        ),
        "expert_weights_scale" => (
            matches!(number, Some(scale) if scale == 0.0 || scale == 1.0),
            "1: the weights of experts are not scaled here".to_owned(),
        ),
        "expert_gating_func" => (number == Some(SOFTMAX), "1, which is softmax".to_owned()),
        "expert_group_count" | "expert_group_used_count" => (
            matches!(number, Some(groups) if groups <= 1.0),
            "0 or 1: experts are in no groups here".to_owned(),
        ),
        _ => (false, UNKNOWN.to_owned()),
    };
    (!fine).then_some(expected)
}

/// Any numeric value.
fn number(value: &Value) -> Option<f64> {
    Some(match *value {
        Value::U8(n) => n.into(),
        Value::I8(n) => n.into(),
        Value::U16(n) => n.into(),
        Value::I16(n) => n.into(),
        Value::U32(n) => n.into(),
        Value::I32(n) => n.into(),
        Value::U64(n) => n as f64,
        Value::I64(n) => n as f64,
        Value::F32(x) => x.into(),
        Value::F64(x) => x,
        Value::Bool(_) | Value::String(_) | Value::Array(_) => return None,
    })
}

/// Checks that every tensor of the table exists in its shape, and no others.
fn check_tensors(config: &ModelConfig, tensors: &[TensorInfo]) -> Result<(), CheckpointError> {
    let mut found: std::collections::HashMap<&str, &TensorInfo> =
        tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for row in names::gguf_tensors(config) {
        let tensor = found
            .remove(row.gguf.as_str())
            .ok_or_else(|| GgufError::MissingTensor { name: row.gguf.clone() })?;
        let expected = row.gguf_shape();
        // Trailing ones are ignored: some writers keep them.
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
