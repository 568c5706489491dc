//! The types that a recipe will give a model that is not a file yet.

use checkpoint::names::{self, TensorName};
use config::ModelConfig;
use gguf::{Metadata, TensorInfo, TensorType, Value};

use crate::{Recipe, Rules};

/// A tensor of a model on its way through export and quantization.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedTensor {
    /// Its name, shape and layout.
    pub name: TensorName,
    /// Its type in the file that `export` writes.
    pub exported: TensorType,
    /// Its type in the file that `quantize` makes from that one.
    pub quantized: TensorType,
}

/// Every tensor of a model, in the order of its GGUF, exported with matrices of type `matrices` and
/// quantized by `recipe`.
///
/// # Errors
/// For a shape that the recipe's rules refuse.
pub fn planned(
    config: &ModelConfig,
    matrices: TensorType,
    recipe: Recipe,
) -> anyhow::Result<Vec<PlannedTensor>> {
    let stored = names::stored_tensors(config, matrices);
    let tensors: Vec<TensorInfo> = stored
        .map(|(name, shape, tensor_type)| TensorInfo {
            name,
            shape,
            tensor_type,
            offset: 0,
            size: 0,
        })
        .collect();
    let architecture = config.architecture.name();
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::String(architecture.to_owned()));
    metadata.set(format!("{architecture}.block_count"), Value::U64(config.n_layer as u64));
    let heads =
        [("attention.head_count", config.n_head), ("attention.head_count_kv", config.n_kv_head)];
    for (key, count) in heads {
        metadata.set(format!("{architecture}.{key}"), Value::U64(count as u64));
    }
    if let Some(experts) = config.experts {
        let count = Value::U64(experts.count as u64);
        metadata.set(format!("{architecture}.expert_count"), count);
    }
    let choices = Rules::of(recipe).choose(&metadata, &tensors, false)?;
    let planned = names::gguf_tensors(config).zip(&tensors).zip(&choices);
    Ok(planned
        .map(|((name, tensor), choice)| PlannedTensor {
            name,
            exported: tensor.tensor_type,
            quantized: choice.tensor_type,
        })
        .collect())
}
