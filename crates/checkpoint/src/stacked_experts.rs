//! Experts that a file stacks in one tensor, renamed one by one to the names of our own table.
//!
//! ```text
//! model.layers.N.mlp.experts.gate_up_proj  [E, 2F, C]   transformers 5 in memory: gate, then up
//! model.layers.N.mlp.experts.down_proj     [E, C, F]
//! ...switch_mlp.gate_proj.weight           [E, F, C]    MLX
//! ```
//!
//! Each expert's matrix is one contiguous range of such a tensor, so no data is moved: the range
//! gets a name, and is read from its place.
//!
//! Source: `conversion_mapping.py` of transformers, `models/switch_layers.py` of mlx-lm.

use std::collections::HashMap;

use config::ModelConfig;

use crate::names::{Part, expert, router};
use crate::{CheckpointError, Weights};

/// The possible names of the layer.
const LAYERS: [&str; 2] = ["mlp", "block_sparse_moe"];

/// Gives each expert's matrices, and the router, the names of our table.
///
/// # Errors
/// When a tensor of experts has another shape than the settings require.
pub(crate) fn divide(
    weights: &mut Weights,
    config: &ModelConfig,
    experts: usize,
) -> Result<(), CheckpointError> {
    rename_routers(weights, config)?;
    for i in 0..config.n_layer {
        for layer in LAYERS {
            let layer = format!("model.layers.{i}.{layer}");
            let stored = [
                (format!("{layer}.experts.gate_up_proj"), vec![Part::Gate, Part::Up]),
                (format!("{layer}.experts.down_proj"), vec![Part::Down]),
                (format!("{layer}.switch_mlp.gate_proj.weight"), vec![Part::Gate]),
                (format!("{layer}.switch_mlp.up_proj.weight"), vec![Part::Up]),
                (format!("{layer}.switch_mlp.down_proj.weight"), vec![Part::Down]),
            ];
            for (name, parts) in &stored {
                if weights.contains(name) {
                    divide_one(weights, config, (i, experts), name, parts)?;
                }
            }
        }
    }
    Ok(())
}

/// If both names exist, both stay, so that the check against the table refuses one.
fn rename_routers(weights: &mut Weights, config: &ModelConfig) -> Result<(), CheckpointError> {
    let mut names = HashMap::new();
    for i in 0..config.n_layer {
        let ours = format!("{}.weight", router(config, i));
        for layer in LAYERS {
            let theirs = format!("model.layers.{i}.{layer}.gate.weight");
            if !weights.contains(&ours) && weights.contains(&theirs) {
                names.insert(theirs, ours.clone());
            }
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    weights.rename(|name| names.get(name).map_or_else(|| name.to_owned(), String::clone))
}

/// The tensor `name`, which holds the matrices of each of `experts` for `parts` one after the
/// other.
fn divide_one(
    weights: &mut Weights,
    config: &ModelConfig,
    (i, experts): (usize, usize),
    name: &str,
    parts: &[Part],
) -> Result<(), CheckpointError> {
    let [rows, columns] = parts[0].shape(config);
    let expected = vec![experts, parts.len() * rows, columns];
    let found = weights.shape(name)?.to_vec();
    if found != expected {
        let (path, name) = (weights.path().to_owned(), name.to_owned());
        return Err(CheckpointError::Shape { path, name, found, expected });
    }
    let each = (0..experts).flat_map(|index| parts.iter().map(move |&part| (index, part)));
    let names: Vec<String> =
        each.map(|(index, part)| format!("{}.weight", expert(config, i, index, part))).collect();
    if names.iter().any(|name| weights.contains(name)) {
        return Ok(());
    }
    weights.divide(name, &names, &[rows, columns])
}
