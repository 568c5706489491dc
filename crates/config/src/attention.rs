//! The settings in which a model's attention differs from the default.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Architecture, ModelConfig, Positions, RopePairs};

/// Settings of attention beyond those of GPT-2 and LLaMA. The default is theirs: heads of width
/// `C / H` that attend to all earlier positions and rotate all channels by unscaled angles.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Attention {
    /// Width of a head `D`, if it is not `C / H`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_width: Option<usize>,
    /// Number of rotated channels of a head, its first ones, if not all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotated_width: Option<usize>,
    /// How the rotation is slowed down for longer contexts.
    #[serde(skip_serializing_if = "RopeScaling::is_none")]
    pub rope_scaling: RopeScaling,
    /// Layers that attend only to the last positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// The factor of the products of queries and keys, if it is not `1 / sqrt(D)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f32>,
}

impl Attention {
    /// The default.
    pub const PLAIN: Attention = Attention {
        head_width: None,
        rotated_width: None,
        rope_scaling: RopeScaling::None,
        window: None,
        scale: None,
    };

    /// The first setting that the files of a family cannot store, by its key in a run file, if
    /// there is one.
    pub fn misplaced(&self, architecture: Architecture) -> Option<&'static str> {
        use Architecture::{Gemma3, Olmo2, Phi3};
        let rotates = architecture.rope_pairs().is_some();
        let scaling_fits = match self.rope_scaling {
            RopeScaling::None => true,
            RopeScaling::Linear { .. } => rotates && architecture != Phi3,
            RopeScaling::Llama3 { .. } | RopeScaling::Factors { .. } => {
                rotates && !matches!(architecture, Olmo2 | Gemma3 | Phi3)
            }
            RopeScaling::LongRope { .. } => architecture == Phi3,
        };
        let window_fits = self.window.is_none_or(|window| match architecture {
            // Their other layers use another base.
            Gemma3 => window.rope_base.is_some(),
            Phi3 => window.rope_base.is_none() && window.global_every == 0,
            _ => false,
        });
        let misplaced = [
            (
                "model.attention.head_width",
                self.head_width.is_some() && !architecture.block().own_head_width,
            ),
            ("model.attention.rotated_width", self.rotated_width.is_some() && architecture != Phi3),
            ("model.attention.rope_scaling", !scaling_fits),
            ("model.attention.window", !window_fits),
            ("model.attention.scale", self.scale.is_some()),
        ];
        misplaced.into_iter().find(|(_, is_misplaced)| *is_misplaced).map(|(name, _)| name)
    }
}

/// How the rotation is slowed down for longer contexts than a model was first trained with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "type", deny_unknown_fields)]
pub enum RopeScaling {
    /// Unscaled.
    #[default]
    None,
    /// The same factor for all pairs (Chen et al., 2023).
    Linear {
        /// The factor of every wavelength.
        factor: f32,
    },
    /// As in Llama 3.1: short wavelengths stay, long ones are multiplied, and those between are
    /// interpolated. Source: `_compute_llama3_parameters` in `modeling_rope_utils.py` of
    /// transformers.
    Llama3 {
        /// The factor of the long wavelengths.
        factor: f32,
        /// Wavelengths above `original_context` divided by this are long.
        low_freq_factor: f32,
        /// Wavelengths below `original_context` divided by this are short.
        high_freq_factor: f32,
        /// Context that the model was first trained with.
        original_context: usize,
    },
    /// A separate factor for each pair of channels, in the order of the pairs: the form in which a
    /// GGUF stores [`RopeScaling::Llama3`].
    Factors {
        /// The factors of the wavelengths, one for each pair.
        factors: Vec<f32>,
    },
    /// A separate factor for each pair, with different factors for long and short texts (Ding et
    /// al., "LongRoPE", 2024).
    LongRope {
        /// Factors of a pass over at most `original_context` positions, one for each pair.
        short: Vec<f32>,
        /// Factors of a longer pass.
        long: Vec<f32>,
        /// Number of positions up to which the short factors are used.
        original_context: usize,
        /// The factor of cosines and sines, in passes of every length.
        magnitude: f32,
    },
}

impl RopeScaling {
    /// Whether the rotation is unscaled.
    pub fn is_none(&self) -> bool {
        *self == RopeScaling::None
    }

    /// Checks the numbers for a rotation of `pairs` pairs: returns the name of the first invalid
    /// setting, its value, and what was expected.
    pub fn objection(&self, pairs: usize) -> Option<(&'static str, String, String)> {
        let bad = |number: f32| !(number.is_finite() && number > 0.0);
        let positive = |name, number: f32| {
            bad(number).then(|| (name, number.to_string(), "a positive number".to_owned()))
        };
        let list = |name, factors: &[f32]| {
            let fine = factors.len() == pairs && !factors.iter().any(|&factor| bad(factor));
            let expected = format!("{pairs} positive numbers, one for each pair");
            (!fine).then(|| (name, format!("{} numbers", factors.len()), expected))
        };
        match self {
            RopeScaling::None => None,
            RopeScaling::Linear { factor } => positive("factor", *factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let order = || {
                    let expected = format!("a number above low_freq_factor = {low_freq_factor}");
                    let found = high_freq_factor.to_string();
                    (high_freq_factor <= low_freq_factor).then_some((
                        "high_freq_factor",
                        found,
                        expected,
                    ))
                };
                let context = || {
                    let name = "original_max_position_embeddings";
                    (*original_context == 0)
                        .then(|| (name, "0".to_owned(), "a positive integer".to_owned()))
                };
                positive("factor", *factor)
                    .or_else(|| positive("low_freq_factor", *low_freq_factor))
                    .or_else(|| positive("high_freq_factor", *high_freq_factor))
                    .or_else(order)
                    .or_else(context)
            }
            RopeScaling::Factors { factors } => list("factors", factors),
            RopeScaling::LongRope { short, long, original_context, magnitude } => {
                let context = || {
                    let name = "original_max_position_embeddings";
                    let expected = "an integer above 1".to_owned();
                    (*original_context < 2).then(|| (name, original_context.to_string(), expected))
                };
                list("short_factor", short)
                    .or_else(|| list("long_factor", long))
                    .or_else(|| positive("attention_factor", *magnitude))
                    .or_else(context)
            }
        }
    }

    /// The factor of the wavelength `2 pi base^(2i / width)` of each pair in a pass that ends after
    /// `positions` positions, `[width / 2]`; empty if the rotation is unscaled.
    fn factors(&self, base: f32, width: usize, positions: usize) -> Vec<f32> {
        match self {
            RopeScaling::None => Vec::new(),
            RopeScaling::Linear { factor } => vec![*factor; width / 2],
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let [factor, low, high] =
                    [*factor, *low_freq_factor, *high_freq_factor].map(f64::from);
                let of_pair = |i: usize| {
                    let length = libm::pow(f64::from(base), 2.0 * i as f64 / width as f64);
                    // The number of wavelengths that fit into the original context.
                    let waves = *original_context as f64 / (std::f64::consts::TAU * length);
                    let share = ((waves - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 / ((1.0 - share) / factor + share)) as f32
                };
                (0..width / 2).map(of_pair).collect()
            }
            RopeScaling::Factors { factors } => factors.clone(),
            RopeScaling::LongRope { long, original_context, .. }
                if positions > *original_context =>
            {
                long.clone()
            }
            RopeScaling::LongRope { short, .. } => short.clone(),
        }
    }
}

/// Layers that attend only to the last positions, and the layers between that attend to all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Number of visible positions, including the query's own.
    pub size: usize,
    /// Every `n`-th layer attends to all positions: layers `n - 1`, `2n - 1` and so on; 0 if no
    /// layer does.
    pub global_every: usize,
    /// Base of the wavelengths in the layers with a window, which are then unscaled; if `None`,
    /// these layers rotate as all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_base: Option<f32>,
}

impl Window {
    /// The value of `global_every` in a model of `n_layer` layers, 0 if no layer is the last of a
    /// group.
    pub fn global_every_in(global_every: usize, n_layer: usize) -> usize {
        if global_every > n_layer { 0 } else { global_every }
    }
}

/// The attention of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerAttention {
    /// Number of visible positions, including the query's own, if not all are.
    pub window: Option<usize>,
    /// How queries and keys are rotated, if at all.
    pub rotation: Option<Rotation>,
}

/// Which of a model's rotations a layer uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// By [`ModelConfig::rope_base`] and [`Attention::rope_scaling`].
    Global,
    /// By [`Window::rope_base`], unscaled.
    Local,
}

/// The parameters of a rotation of queries and keys: pair `i` turns by
/// `base^(-2i / width) / factors[i]` radians per position, and is scaled by `magnitude`.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeShape {
    /// Which channels form pairs.
    pub pairs: RopePairs,
    /// Width of a head `D`.
    pub head_width: usize,
    /// Number of rotated channels, the first ones of a head; an even number.
    pub width: usize,
    /// Base of the wavelengths.
    pub base: f32,
    /// The factor of the wavelength of each pair, `[width / 2]`; empty if all are 1.
    pub factors: Vec<f32>,
    /// The factor of cosines and sines.
    pub magnitude: f32,
}

impl RopeShape {
    /// The factor of the wavelength of pair `i`.
    pub fn factor(&self, i: usize) -> f64 {
        self.factors.get(i).map_or(1.0, |&factor| f64::from(factor))
    }
}

impl ModelConfig {
    /// Width of one attention head `D`.
    pub fn head_width(&self) -> usize {
        // Zero heads are refused by the checks.
        let even = self.n_embd.checked_div(self.n_head).unwrap_or(0);
        self.attention.head_width.unwrap_or(even)
    }

    /// Width of all queries of one position: `H * D`.
    pub fn q_width(&self) -> usize {
        self.n_head * self.head_width()
    }

    /// Width of all keys of one position, and of all values: `K * D`.
    pub fn kv_width(&self) -> usize {
        self.n_kv_head * self.head_width()
    }

    /// Number of rotated channels of a head.
    pub fn rotated_width(&self) -> usize {
        self.attention.rotated_width.unwrap_or(self.head_width())
    }

    /// The factor of the products of queries and keys.
    pub fn attention_scale(&self) -> f32 {
        self.attention.scale.unwrap_or(1.0 / (self.attention_divisor() as f32).sqrt())
    }

    /// The width `w` in the scale `1 / sqrt(w)` of the products of queries and keys, unless a scale
    /// is set: the width of a head. The Gemma 3 of 62 layers (27B) has another width. llama.cpp
    /// recognises it by the number of layers (`src/models/gemma3.cpp`), since there is no key for
    /// it in a GGUF.
    pub fn attention_divisor(&self) -> usize {
        match self.architecture {
            Architecture::Gemma3 if self.n_layer == 62 => {
                self.n_embd.checked_div(self.n_head).unwrap_or(0)
            }
            _ => self.head_width(),
        }
    }

    /// The attention of the layer `layer`, counted from 0.
    pub fn layer_attention(&self, layer: usize) -> LayerAttention {
        let is_last_of = |every: usize| every > 0 && (layer + 1).is_multiple_of(every);
        let design = self.architecture.block();
        let local = self.attention.window.filter(|window| !is_last_of(window.global_every));
        let rotates = matches!(design.positions, Positions::Rotary(_))
            && !design.unrotated_every.is_some_and(is_last_of);
        let rotation = match local.and_then(|window| window.rope_base) {
            Some(_) => Rotation::Local,
            None => Rotation::Global,
        };
        LayerAttention {
            window: local.map(|window| window.size),
            rotation: rotates.then_some(rotation),
        }
    }

    /// The parameters of one of the model's rotations, for a pass that ends after `positions`
    /// positions. `None` if positions are learned, or if the local rotation is asked for and no
    /// layer has its own.
    pub fn rope(&self, rotation: Rotation, positions: usize) -> Option<RopeShape> {
        let Positions::Rotary(pairs) = self.architecture.block().positions else { return None };
        let (head_width, width) = (self.head_width(), self.rotated_width());
        let scaling = &self.attention.rope_scaling;
        let (base, factors, magnitude) = match rotation {
            Rotation::Local => (self.attention.window?.rope_base?, Vec::new(), 1.0),
            Rotation::Global => {
                let magnitude = match scaling {
                    RopeScaling::LongRope { magnitude, .. } => *magnitude,
                    _ => 1.0,
                };
                (self.rope_base, scaling.factors(self.rope_base, width, positions), magnitude)
            }
        };
        Some(RopeShape { pairs, head_width, width, base, factors, magnitude })
    }

    /// The tensors in which a GGUF stores factors of the rotation: their names, and the factors
    /// `[rotated width / 2]`.
    pub fn rope_tensors(&self) -> Vec<(&'static str, Vec<f32>)> {
        let scaling = &self.attention.rope_scaling;
        match scaling {
            RopeScaling::None | RopeScaling::Linear { .. } => Vec::new(),
            RopeScaling::Llama3 { .. } | RopeScaling::Factors { .. } => {
                vec![("rope_freqs", scaling.factors(self.rope_base, self.rotated_width(), 0))]
            }
            RopeScaling::LongRope { short, long, .. } => {
                vec![("rope_factors_long", long.clone()), ("rope_factors_short", short.clone())]
            }
        }
    }

    /// The same model as llama.cpp computes it with a context of `positions` positions: every text
    /// is rotated like one of that length (`get_rope_factors` in `src/llama-model.cpp`).
    #[must_use]
    pub fn with_rotation_for(mut self, positions: usize) -> Self {
        if let RopeScaling::LongRope { short, long, original_context, .. } =
            &mut self.attention.rope_scaling
        {
            match positions > *original_context {
                true => short.clone_from(long),
                false => long.clone_from(short),
            }
        }
        self
    }

    /// Whether a pass over `after` positions rotates the earlier positions by other angles than a
    /// pass over `before` positions.
    pub fn rotation_changes(&self, before: usize, after: usize) -> bool {
        match &self.attention.rope_scaling {
            RopeScaling::LongRope { original_context, .. } => {
                (before > *original_context) != (after > *original_context)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_layer_of_each_group_sees_all() {
        let window = Window { size: 3, global_every: 3, rope_base: Some(5.0) };
        let config = ModelConfig {
            attention: Attention { window: Some(window), ..Attention::default() },
            ..ModelConfig::tinyllama_1_1b()
        };
        let local = LayerAttention { window: Some(3), rotation: Some(Rotation::Local) };
        let global = LayerAttention { window: None, rotation: Some(Rotation::Global) };
        let found: Vec<_> = (0..4).map(|layer| config.layer_attention(layer)).collect();
        assert_eq!(found, [local, local, global, local]);
        let base = |rotation| config.rope(rotation, 9).map(|rope| rope.base);
        assert_eq!(base(Rotation::Local), Some(5.0));
        assert_eq!(base(Rotation::Global), Some(config.rope_base));
    }

    #[test]
    fn learned_positions_rotate_nothing() {
        let gpt2 = ModelConfig::gpt2_124m();
        assert_eq!(gpt2.layer_attention(0), LayerAttention { window: None, rotation: None });
        assert_eq!(gpt2.rope(Rotation::Global, 9), None);
    }

    /// The factors that `conversion/llama.py` of llama.cpp computes for Llama 3.2 1B, which is
    /// `1 / ((1 - s) / 32 + s)` with `s = (8192 / wavelength - 1) / 3` between the two limits.
    #[test]
    fn llama3_stretches_the_long_waves() {
        let rope_scaling = RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192,
        };
        let factors = rope_scaling.factors(500_000.0, 64, 1);
        assert!(factors[..15].iter().all(|&factor| factor == 1.0), "{factors:?}");
        assert!(factors[18..].iter().all(|&factor| factor == 32.0), "{factors:?}");
        for (found, expected) in factors[15..18].iter().zip([1.651_329_3, 3.292_262_8, 9.666_731]) {
            assert!((found / expected - 1.0).abs() < 1e-5, "{factors:?}");
        }
    }

    #[test]
    fn heads_have_a_width_of_their_own() {
        let attention = Attention { head_width: Some(128), ..Attention::default() };
        let config = ModelConfig { attention, ..ModelConfig::tinyllama_1_1b() };
        assert_eq!((config.q_width(), config.kv_width()), (32 * 128, 4 * 128));
        assert_eq!(config.attention_scale(), 1.0 / 128_f32.sqrt());
    }

    #[test]
    fn every_layer_has_a_window_where_none_sees_all() {
        let window = Window { size: 3, global_every: 0, rope_base: None };
        let config = ModelConfig {
            attention: Attention { window: Some(window), ..Attention::PLAIN },
            ..ModelConfig::tinyllama_1_1b()
        };
        let local = LayerAttention { window: Some(3), rotation: Some(Rotation::Global) };
        assert!((0..9).all(|layer| config.layer_attention(layer) == local));
        assert_eq!(config.rope(Rotation::Local, 9), None);
    }

    #[test]
    fn long_texts_have_factors_of_their_own() {
        let rope_scaling = RopeScaling::LongRope {
            short: vec![1.0; 32],
            long: vec![2.0; 32],
            original_context: 10,
            magnitude: 1.5,
        };
        let config = ModelConfig {
            attention: Attention { rope_scaling, ..Attention::PLAIN },
            ..ModelConfig::tinyllama_1_1b()
        };
        let rope = |positions| config.rope(Rotation::Global, positions).unwrap();
        let found = [10, 11].map(|n| (rope(n).factor(3), rope(n).magnitude));
        assert_eq!(found, [(1.0, 1.5), (2.0, 1.5)]);
        let changes = [(9, 10), (10, 11), (11, 12)].map(|(a, b)| config.rotation_changes(a, b));
        assert_eq!(changes, [false, true, false]);
        for (room, factor) in [(10, 1.0), (11, 2.0)] {
            let config = config.clone().with_rotation_for(room);
            let found = [1, 99].map(|n| config.rope(Rotation::Global, n).unwrap().factor(3));
            assert_eq!(found, [factor, factor]);
        }
    }
}
