//! Writes and reads the keys and tensors of a GGUF for layers with a window and for LongRoPE.
//!
//! Source: `src/models/gemma3.cpp` and `src/models/phi3.cpp` of llama.cpp, `load_swa_pattern` and
//! `get_rope_factors` in its `src/llama-model.cpp`; `conversion/gemma.py` and `conversion/phi.py`.

use config::{Architecture, ModelConfig, ROPE_BASE, RopeScaling, Window};
use gguf::{Array, GgufError, Metadata, TensorSource, Value};

use crate::CheckpointError;

/// Number of positions that layers with a window attend to.
const WINDOW: &str = "attention.sliding_window";
/// The interval of layers that attend to all positions, or a flag per layer that is true for a
/// window.
const PATTERN: &str = "attention.sliding_window_pattern";
/// The value of [`PATTERN`] if the key is missing.
const GEMMA3_PATTERN: usize = 6;
/// Base of the wavelengths in layers with a window.
const WINDOW_BASE: &str = "rope.freq_base_swa";
/// Number of positions up to which LongRoPE uses its short factors.
const ORIGINAL_CONTEXT: &str = "rope.scaling.original_context_length";
/// The factor of cosines and sines in LongRoPE.
const MAGNITUDE: &str = "rope.scaling.attn_factor";
/// The kind of scaling.
const SCALING_TYPE: &str = "rope.scaling.type";
const LONGROPE: &str = "longrope";

/// Writes the keys that the family's converter writes.
pub(crate) fn describe(config: &ModelConfig, metadata: &mut Metadata) {
    let key = |name: &str| format!("{}.{name}", config.architecture.name());
    // Every checkpoint was checked against the limits, which are far below 2^32.
    let size = |value: usize| Value::U32(value as u32);
    let window = config.attention.window;
    match (config.architecture, window) {
        (Architecture::Gemma3, Some(window)) => {
            metadata.set(key(WINDOW), size(window.size));
            let base = window.rope_base.unwrap_or(config.rope_base);
            metadata.set(key(WINDOW_BASE), Value::F32(base));
            let assumed = Window::global_every_in(GEMMA3_PATTERN, config.n_layer);
            if window.global_every != assumed {
                metadata.set(key(PATTERN), size(window.global_every));
            }
        }
        // llama.cpp reads this window and ignores it.
        (Architecture::Phi3, window) => {
            metadata.set(key(WINDOW), size(window.map_or(0, |window| window.size)));
            let original = match config.attention.rope_scaling {
                RopeScaling::LongRope { original_context, .. } => original_context,
                _ => config.context_length,
            };
            metadata.set(key(ORIGINAL_CONTEXT), size(original));
        }
        _ => {}
    }
    if let RopeScaling::LongRope { magnitude, .. } = config.attention.rope_scaling {
        metadata.set(key(SCALING_TYPE), Value::String(LONGROPE.to_owned()));
        metadata.set(key(MAGNITUDE), Value::F32(magnitude));
    }
}

/// The layers with a window, if there are any.
pub(crate) fn window(
    config: &ModelConfig,
    metadata: &Metadata,
) -> Result<Option<Window>, CheckpointError> {
    let key = |name: &str| format!("{}.{name}", config.architecture.name());
    let is_gemma3 = config.architecture == Architecture::Gemma3;
    let has_windows = is_gemma3 || config.architecture == Architecture::Phi3;
    if !has_windows || metadata.get(&key(WINDOW)).is_none() {
        return Ok(None);
    }
    let size = usize::try_from(metadata.unsigned(&key(WINDOW))?).unwrap_or(usize::MAX);
    Ok(match is_gemma3 {
        _ if size == 0 => None,
        true => {
            let rope_base = match metadata.get(&key(WINDOW_BASE)) {
                Some(_) => metadata.float(&key(WINDOW_BASE))?,
                None => ROPE_BASE,
            };
            let global_every = global_every(config, metadata, &key(PATTERN))?;
            Some(Window { size, global_every, rope_base: Some(rope_base) })
        }
        // A window as long as the context has no effect.
        false => (size < config.context_length).then_some(Window {
            size,
            global_every: 0,
            rope_base: None,
        }),
    })
}

fn global_every(
    config: &ModelConfig,
    metadata: &Metadata,
    key: &str,
) -> Result<usize, CheckpointError> {
    let array = match metadata.get(key) {
        None => return Ok(GEMMA3_PATTERN),
        Some(Value::Array(array)) => array,
        Some(_) => {
            return Ok(usize::try_from(metadata.unsigned(key)?).unwrap_or(usize::MAX));
        }
    };
    let has_window: Option<Vec<bool>> = match array {
        Array::Bool(all) => Some(all.clone()),
        Array::U32(all) => Some(all.iter().map(|&x| x != 0).collect()),
        Array::I32(all) => Some(all.iter().map(|&x| x != 0).collect()),
        _ => None,
    };
    let every = has_window.as_ref().and_then(|all| all.iter().position(|&has| !has));
    let every = every.map_or(0, |first| first + 1);
    let is_regular = has_window.is_some_and(|all| {
        let is_global = |layer: usize| every > 0 && (layer + 1).is_multiple_of(every);
        all.len() == config.n_layer
            && all.iter().enumerate().all(|(layer, &has)| has != is_global(layer))
    });
    if is_regular {
        return Ok(every);
    }
    Err(CheckpointError::Setting {
        place: "GGUF metadata".into(),
        key: key.to_owned(),
        value: "(a list)".to_owned(),
        expected: format!(
            "{} truth values, as many true ones before each false one",
            config.n_layer
        ),
    })
}

/// LongRoPE's factors, if the file has them.
pub(crate) fn longrope(
    config: &ModelConfig,
    source: &dyn TensorSource,
) -> Result<Option<RopeScaling>, CheckpointError> {
    let (long, short) = ("rope_factors_long.weight", "rope_factors_short.weight");
    let has_factors = source.tensors().iter().any(|tensor| tensor.name == long);
    if config.architecture != Architecture::Phi3 || !has_factors {
        return Ok(None);
    }
    let metadata = source.metadata();
    let key = |name: &str| format!("{}.{name}", config.architecture.name());
    // If they have the wrong size, the table of tensors refuses them without reading them.
    let pairs = config.rotated_width() / 2;
    let factors = |name: &str| -> Result<Vec<f32>, GgufError> {
        let tensor = source.tensor(name)?;
        match tensor.shape.iter().product::<u64>() == pairs as u64 {
            true => gguf::read_f32(source, tensor),
            false => Ok(vec![1.0; pairs]),
        }
    };
    Ok(Some(RopeScaling::LongRope {
        short: factors(short)?,
        long: factors(long)?,
        original_context: match metadata.get(&key(ORIGINAL_CONTEXT)) {
            Some(_) => {
                usize::try_from(metadata.unsigned(&key(ORIGINAL_CONTEXT))?).unwrap_or(usize::MAX)
            }
            None => config.context_length,
        },
        magnitude: match metadata.get(&key(MAGNITUDE)) {
            Some(_) => metadata.float(&key(MAGNITUDE))?,
            None => 1.0,
        },
    }))
}

/// Whether a key of the family was read above, or has no effect.
pub(crate) fn is_read(config: &ModelConfig, name: &str, value: &Value) -> bool {
    let is_longrope = matches!(config.attention.rope_scaling, RopeScaling::LongRope { .. });
    match (config.architecture, name) {
        (Architecture::Gemma3, WINDOW | PATTERN | WINDOW_BASE)
        | (Architecture::Phi3, WINDOW)
        // Without lists of factors it has no effect.
        | (_, ORIGINAL_CONTEXT) => true,
        (_, SCALING_TYPE) => is_longrope && *value == Value::String(LONGROPE.to_owned()),
        (_, MAGNITUDE) => is_longrope || *value == Value::F32(1.0),
        _ => false,
    }
}
