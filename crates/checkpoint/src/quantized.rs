//! Detects weights that are codes of a quantized format.
//!
//! The tensors decide, not `config.json`: a model that was trained in four bits and merged again
//! often keeps its `quantization_config` beside plain weights.

use config::ModelConfig;

use crate::{CheckpointError, Dtype, Weights, names};

/// Parts of names that quantized formats add to the name of a matrix: bitsandbytes (`absmax`,
/// `quant_map`, `quant_state`, `SCB`), GPTQ and AWQ (`qweight`, `qzeros`, `g_idx`), FP8
/// (`weight_scale`, `weight_scale_inv`, `input_scale`), compressed-tensors (`weight_packed`,
/// `weight_zero_point`), HQQ (`W_q`), MLX (`scales`). Source: `src/transformers/quantizers` and
/// `integrations` of transformers, `mlx/python/mlx/nn/layers/quantized.py`.
const PARTS: [&str; 15] = [
    "SCB",
    "W_q",
    "absmax",
    "g_idx",
    "input_scale",
    "nested_absmax",
    "quant_map",
    "quant_state",
    "qweight",
    "qzeros",
    "scales",
    "weight_packed",
    "weight_scale",
    "weight_scale_inv",
    "weight_zero_point",
];

/// Refuses quantized weights and names the first tensor that belongs to a quantized matrix.
///
/// # Errors
/// When the name of a tensor is that of a part of a quantized matrix, or it holds codes of 8 or 32
/// bits.
pub(crate) fn check(weights: &Weights, config: &ModelConfig) -> Result<(), CheckpointError> {
    for name in weights.names().filter(|name| !names::is_ignored(config, name)) {
        let dtype = weights.dtype(name)?;
        if holds_codes(dtype) || name.split('.').any(|part| PARTS.contains(&part)) {
            return Err(CheckpointError::Quantized {
                path: weights.path().to_owned(),
                name: name.to_owned(),
                found: dtype.to_string(),
            });
        }
    }
    Ok(())
}

/// The storage formats of packed codes and eight-bit floats.
fn holds_codes(dtype: Dtype) -> bool {
    matches!(
        dtype,
        Dtype::U8
            | Dtype::I8
            | Dtype::U32
            | Dtype::I32
            | Dtype::F8_E4M3
            | Dtype::F8_E5M2
            | Dtype::F8_E8M0
            | Dtype::F4
    )
}
