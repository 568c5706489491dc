//! Models that several test files use.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use burn::tensor::Device;
use checkpoint::names;
use config::{Attention, ModelConfig, RopeScaling, Window};
use gguf::TensorSource;
use model::Model;

use crate::random_weights::{families, source};

/// The model whose logits transformers computed in float64 (`make_golden.py` of the reference).
pub fn golden_model(config: &ModelConfig, device: &Device) -> Model {
    let (table, source) = (names::tensors(config), source(config, |_| ()));
    Model::load(config, device, |path, shape| {
        let row = table.iter().find(|row| row.burn == path).unwrap();
        let mut values = gguf::read_f32(&source, source.tensor(&row.gguf)?)?;
        values.iter_mut().for_each(|value| *value -= row.offset);
        // Matrices are `[out, in]` in a GGUF and `[in, out]` here; embeddings are the same.
        Ok::<_, gguf::GgufError>(match (shape, path.starts_with("w")) {
            (&[input, output], false) => checkpoint::transpose(&values, output, input),
            _ => values,
        })
    })
    .unwrap()
}

/// A LLaMA with every setting of attention: two of three layers have a window of three positions
/// and their own rotation, two thirds of a head are rotated, by scaled angles, and the scale is not
/// `1 / sqrt(D)`.
pub fn windowed() -> (&'static str, ModelConfig) {
    let attention = Attention {
        head_width: Some(12),
        rotated_width: Some(8),
        rope_scaling: RopeScaling::Linear { factor: 2.5 },
        window: Some(Window { size: 3, global_every: 3, rope_base: Some(50.0) }),
        scale: Some(0.4),
    };
    let (_, llama) = families().into_iter().find(|(name, _)| *name == "llama").unwrap();
    ("windowed llama", ModelConfig { n_layer: 4, attention, ..llama })
}
