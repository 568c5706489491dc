//! `config.json` as `transformers` writes and reads it, with one key of our own: `qkv_bias`.
//!
//! A missing key has the default of transformers, and every setting that changes the mathematics is
//! read: an unsupported computation is refused with the key's name.

mod common;
mod experts;
mod gemma3;
mod gpt2;
mod gptneox;
mod llama;
mod olmo2;
mod phi3;
mod reader;
mod rope;

use std::path::Path;

use config::{Architecture, ModelConfig, RopeScaling};
use serde_json::{Map, Value, json};

use crate::limits::{self, SizeKeys};
use crate::{CheckpointError, Dtype};

use reader::Reader;

/// Three names of one function (`activations.py` of transformers).
const TANH_GELU: [&str; 3] = ["gelu_new", "gelu_pytorch_tanh", "gelu_fast"];

/// The supported classes of transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Gpt2,
    GptNeox,
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Mixtral,
    Qwen3Moe,
    SmolLm3,
    Olmo2,
    Gemma3,
    Phi3,
}

impl Family {
    const ALL: [Family; 12] = [
        Family::Gpt2,
        Family::GptNeox,
        Family::Llama,
        Family::Mistral,
        Family::Qwen2,
        Family::Qwen3,
        Family::Mixtral,
        Family::Qwen3Moe,
        Family::SmolLm3,
        Family::Olmo2,
        Family::Gemma3,
        Family::Phi3,
    ];

    /// `model_type`, and the prefix of the names of its classes.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Family::Gpt2 => ("gpt2", "GPT2"),
            Family::GptNeox => ("gpt_neox", "GPTNeoX"),
            Family::Llama => ("llama", "Llama"),
            Family::Mistral => ("mistral", "Mistral"),
            Family::Qwen2 => ("qwen2", "Qwen2"),
            Family::Qwen3 => ("qwen3", "Qwen3"),
            Family::Mixtral => ("mixtral", "Mixtral"),
            Family::Qwen3Moe => ("qwen3_moe", "Qwen3Moe"),
            Family::SmolLm3 => ("smollm3", "SmolLM3"),
            Family::Olmo2 => ("olmo2", "Olmo2"),
            Family::Gemma3 => ("gemma3_text", "Gemma3"),
            Family::Phi3 => ("phi3", "Phi3"),
        }
    }

    /// The class that predicts the next token, or the one without a head: if the head is tied,
    /// both have the same tensors.
    fn is_class(self, class: &str) -> bool {
        let (_, prefix) = self.names();
        let end = class.strip_prefix(prefix);
        matches!(end, Some("LMHeadModel" | "ForCausalLM" | "Model"))
    }
}

/// Reads the text of a `config.json`; `path` names it in errors.
pub(crate) fn parse(path: &Path, text: &str) -> Result<ModelConfig, CheckpointError> {
    let map: Map<String, Value> = serde_json::from_str(text)
        .map_err(|source| CheckpointError::Json { path: path.to_owned(), source })?;
    let reader = Reader::new(path, &map);
    let family = family(&reader)?;
    let config = match family {
        Family::Gpt2 => gpt2::read(&reader)?,
        Family::GptNeox => gptneox::read(&reader)?,
        Family::Olmo2 => olmo2::read(&reader)?,
        Family::Gemma3 => gemma3::read(&reader)?,
        Family::Phi3 => phi3::read(&reader)?,
        _ => llama::read(&reader, family)?,
    };
    check(path, &config)?;
    Ok(config)
}

/// The settings in a `config.json` for weights that MLX has quantized; `null` without them.
/// (`quantization_config` is for the quantizers of transformers, whose weights are not supported.)
pub(crate) fn quantization(path: &Path, text: &str) -> Result<Value, CheckpointError> {
    let map: Map<String, Value> = serde_json::from_str(text)
        .map_err(|source| CheckpointError::Json { path: path.to_owned(), source })?;
    Ok(map.get("quantization").cloned().unwrap_or_default())
}

fn family(reader: &Reader) -> Result<Family, CheckpointError> {
    let name = reader.require("model_type", "the family's name, for example \"gpt2\"")?;
    let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
    let refuse = |name: String| CheckpointError::Architecture {
        place: reader.path().to_owned(),
        name,
        known: Family::ALL.map(|family| family.names().0).join(", "),
    };
    let family = Family::ALL.into_iter().find(|family| family.names().0 == name);
    let family = family.ok_or_else(|| refuse(name))?;
    let classes = reader.get("architectures").and_then(Value::as_array);
    let other = classes.into_iter().flatten().find(|class| {
        // A class name that is not a string is refused as an unknown class.
        !class.as_str().is_some_and(|class| family.is_class(class))
    });
    match other {
        Some(class) => Err(refuse(class.as_str().map_or_else(|| class.to_string(), str::to_owned))),
        None => Ok(family),
    }
}

/// The text of `config.json`; `ids` are the keys of special tokens, `dtype` the format of the
/// weights.
pub(crate) fn to_json(config: &ModelConfig, ids: &Value, dtype: Dtype) -> String {
    let mut value = match config.architecture {
        Architecture::Gpt2 => gpt2::write(config),
        Architecture::GptNeox => gptneox::write(config),
        Architecture::Olmo2 => olmo2::write(config),
        Architecture::Gemma3 => gemma3::write(config),
        Architecture::Phi3 => phi3::write(config),
        _ => llama::write(config),
    };
    extend(&mut value, ids.clone());
    let dtype = match dtype {
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
        _ => "float32",
    };
    extend(&mut value, json!({ "torch_dtype": dtype }));
    format!("{value:#}\n")
}

/// Adds the keys of one object to another.
fn extend(value: &mut Value, more: Value) {
    if let (Value::Object(value), Value::Object(more)) = (value, more) {
        value.extend(more);
    }
}

/// Refuses a model that a checkpoint could not store.
pub(crate) fn check(path: &Path, config: &ModelConfig) -> Result<(), CheckpointError> {
    let keys = match config.architecture {
        Architecture::Gpt2 => gpt2::keys(),
        Architecture::GptNeox => gptneox::keys(),
        _ => llama::keys(),
    };
    if !config.architecture.block().qkv_bias && config.qkv_bias {
        return Err(CheckpointError::Setting {
            place: path.to_owned(),
            key: "qkv_bias".to_owned(),
            value: "true".to_owned(),
            expected: format!(
                "false in a {}; one with these biases is a qwen2",
                config.architecture.name()
            ),
        });
    }
    if let RopeScaling::Factors { .. } = config.attention.rope_scaling {
        return Err(CheckpointError::Setting {
            place: path.to_owned(),
            key: keys.rope_scaling,
            value: "factors".to_owned(),
            expected: "none, linear or llama3: there is no place here for factors".to_owned(),
        });
    }
    limits::check(config, path, &keys)
}

/// `0.1_f32` as `0.1`, not as its exact value `0.10000000149`.
fn short(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

#[cfg(test)]
mod tests;
