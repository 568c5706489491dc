//! The sections of a run file, with the default and the unit of every key.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Architecture, Attention, Data, EvalTask, Lora, ModelConfig, Optimizer, ROPE_BASE, Schedule,
    Train,
};

/// A whole run file. Every key has a default, so an empty file is a valid one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunFile {
    /// Where training computes.
    pub device: Device,
    /// `[run]`
    pub run: Run,
    /// `[model]`
    pub model: Model,
    /// `[data]`
    pub data: Data,
    /// `[train]`
    pub train: Train,
    /// `[lora]`
    pub lora: Lora,
    /// `[optimizer]`
    pub optimizer: Optimizer,
    /// `[schedule]`
    pub schedule: Schedule,
    /// `[export]`
    pub export: Export,
    /// `[quantize]`
    pub quantize: Quantize,
    /// `[fragment]`
    pub fragment: Fragment,
    /// `[eval]`
    pub eval: Eval,
    /// `[bundle]`
    pub bundle: Bundle,
}

impl RunFile {
    /// The name of the GGUF that `pocketgpt run` writes for `kind`, a recipe or a type: the
    /// bundle's name in letters and digits, and the kind.
    pub fn gguf_name(&self, kind: &str) -> String {
        let name = self.bundle.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        format!("{name}-{kind}.gguf")
    }
}

/// Burn's backend. Those behind a feature are refused, with its name, where it was not built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The fastest that was compiled in and is present.
    #[default]
    Auto,
    /// Burn's CPU backend.
    Flex,
    /// Burn's older CPU backend (feature `ndarray`).
    Ndarray,
    /// Vulkan, Metal or WebGPU (feature `wgpu`).
    Wgpu,
    /// NVIDIA (feature `cuda`).
    Cuda,
}

/// `[run]`: where results go, and the one seed everything random follows from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// The run folder. Relative to the working directory.
    pub dir: PathBuf,
    /// Seed of weights, shuffling, dropout and sampling.
    pub seed: u64,
}

impl Default for Run {
    fn default() -> Self {
        Run { dir: PathBuf::from("runs/default"), seed: 123 }
    }
}

/// `[model]`: the shape of the model. The vocabulary is the tokenizer's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Family of the model.
    pub architecture: Architecture,
    /// Most tokens that one forward pass can see.
    pub context_length: usize,
    /// Transformer blocks.
    pub n_layer: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Heads of keys and values, a divisor of `n_head`; `n_head` if not given.
    pub n_kv_head: Option<usize>,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of the feed-forward layer. If not given: `4 * n_embd`, and where the layer has a
    /// gate `8 / 3 * n_embd`, rounded up to a multiple of 256 (LLaMA).
    pub n_inner: Option<usize>,
    /// Added to the variance or mean square inside the normalisation layers.
    pub norm_epsilon: f32,
    /// Base of the wavelengths of rotary positions; unused where positions are learned.
    pub rope_base: f32,
    /// Whether the query, key and value projections have a bias; if not given, as the family's
    /// published models have it.
    pub qkv_bias: Option<bool>,
    /// Whether the output head shares the token embedding's matrix.
    pub tie_embeddings: bool,
    /// Dropout probability while training.
    pub dropout: f32,
    /// How attention differs from the plain one: width of a head, scaled rotation, window.
    pub attention: Attention,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            architecture: Architecture::Gpt2,
            context_length: 1024,
            n_layer: 12,
            n_head: 12,
            n_kv_head: None,
            n_embd: 768,
            n_inner: None,
            norm_epsilon: 1e-5,
            rope_base: ROPE_BASE,
            qkv_bias: None,
            tie_embeddings: true,
            dropout: 0.0,
            attention: Attention::default(),
        }
    }
}

impl Model {
    /// The model's shape once the tokenizer has fixed the vocabulary.
    pub fn config(&self, vocab_size: usize) -> ModelConfig {
        ModelConfig {
            architecture: self.architecture,
            vocab_size,
            context_length: self.context_length,
            n_layer: self.n_layer,
            n_head: self.n_head,
            n_kv_head: self.n_kv_head.unwrap_or(self.n_head),
            n_embd: self.n_embd,
            n_inner: self.n_inner.unwrap_or_else(|| self.default_inner()),
            norm_epsilon: self.norm_epsilon,
            rope_base: self.rope_base,
            qkv_bias: self.qkv_bias.unwrap_or(self.architecture.block().qkv_bias),
            tie_embeddings: self.tie_embeddings,
            dropout: self.dropout,
            attention: self.attention.clone(),
            experts: None,
        }
        .with_plain_attention_left_out()
    }

    /// As many parameters with a gate as without; whole blocks of 256 for the K-quants.
    fn default_inner(&self) -> usize {
        match self.architecture.is_gated() {
            true => self.n_embd.saturating_mul(8).div_ceil(3).next_multiple_of(256),
            false => self.n_embd.saturating_mul(4),
        }
    }
}

/// `[export]`: the GGUF that everything after it starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Export {
    /// Type of the matrices: `F32`, `F16` or `BF16`.
    pub tensor_type: String,
}

impl Default for Export {
    fn default() -> Self {
        Export { tensor_type: "F32".to_owned() }
    }
}

/// `[quantize]`: the smaller files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quantize {
    /// One file for each, by llama.cpp's names; `Q4_K` stands for `Q4_K_M`, as there.
    pub recipes: Vec<String>,
    /// Whether to search for codes that make up for each other's errors on the training text: files
    /// nearer to the original, for minutes of time each.
    pub search: bool,
}

impl Default for Quantize {
    fn default() -> Self {
        Quantize { recipes: vec!["Q8_0".to_owned(), "Q4_K_M".to_owned()], search: false }
    }
}

/// `[fragment]`: the pieces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fragment {
    /// Most bytes in one piece.
    pub max_bytes: u64,
}

impl Default for Fragment {
    fn default() -> Self {
        Fragment { max_bytes: 10 * 1024 * 1024 }
    }
}

/// `[eval]`: what is compared, and what must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Eval {
    /// Token windows whose logits training stores in `golden.safetensors`.
    pub golden_windows: usize,
    /// Limits that a bundle must meet.
    pub gates: Gates,
    /// `[[eval.task]]`: questions that every variant must answer well enough.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub task: Vec<EvalTask>,
}

impl Default for Eval {
    fn default() -> Self {
        Eval { golden_windows: 4, gates: Gates::default(), task: Vec::new() }
    }
}

/// `[eval.gates]`: a measured value beyond its limit fails the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gates {
    /// Relative RMS error of the reference's logits on the F32 file against Burn's, at most.
    pub reference_vs_burn_relative_rms: f64,
    /// Mean KL divergence in nats of llama.cpp against the reference on the F32 file, at most.
    pub llama_vs_reference_mean_kl: f64,
    /// Share of positions where llama.cpp and the reference agree on the likeliest token, at least.
    pub llama_vs_reference_top1: f64,
    /// Mean KL divergence in nats of each recipe's file against the F32 file, at most. Recipes
    /// that a run file does not name keep their default.
    #[serde(deserialize_with = "over_default_limits")]
    pub mean_kl: BTreeMap<String, f64>,
}

/// Every recipe of `quantize` with its gate: loose enough for any small model that works, tight
/// enough to catch one that does not.
const MEAN_KL_LIMITS: [(&str, f64); 17] = [
    ("Q8_0", 1e-2),
    ("Q6_K", 2e-2),
    ("Q5_1", 0.05),
    ("Q5_K_M", 0.04),
    ("Q5_K_S", 0.05),
    ("Q5_0", 0.05),
    ("Q4_1", 0.15),
    ("Q4_K_M", 0.1),
    ("Q4_K_S", 0.12),
    ("Q4_0", 0.15),
    ("IQ4_NL", 0.12),
    ("IQ4_XS", 0.12),
    ("Q3_K_L", 0.25),
    ("Q3_K_M", 0.3),
    ("Q3_K_S", 0.5),
    ("Q2_K", 1.0),
    ("Q2_K_S", 1.5),
];

/// The recipe that `name` means: in either case, and `Q4_K` for `Q4_K_M` as in llama-quantize.
pub(crate) fn recipe_name(name: &str) -> Option<&'static str> {
    let upper = name.to_uppercase();
    let mut known = MEAN_KL_LIMITS.into_iter().map(|(recipe, _)| recipe);
    known.find(|known| *known == upper || *known == format!("{upper}_M"))
}

/// The names of all recipes, for messages.
pub(crate) fn recipe_names() -> String {
    MEAN_KL_LIMITS.map(|(recipe, _)| recipe).join(", ")
}

fn default_mean_kl_limits() -> BTreeMap<String, f64> {
    MEAN_KL_LIMITS.into_iter().map(|(recipe, limit)| (recipe.to_owned(), limit)).collect()
}

/// The limits given, and the defaults of all other recipes: setting one gate opens no other.
fn over_default_limits<'de, D>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let mut limits = default_mean_kl_limits();
    let given = BTreeMap::<String, f64>::deserialize(deserializer)?;
    for recipe in given.keys().filter(|recipe| !limits.contains_key(*recipe)) {
        // A gate under another spelling would never be looked at.
        if let Some(name) = recipe_name(recipe) {
            return Err(serde::de::Error::custom(format!("mean_kl.{recipe}: write {name}")));
        }
    }
    limits.extend(given);
    Ok(limits)
}

impl Default for Gates {
    fn default() -> Self {
        Gates {
            reference_vs_burn_relative_rms: 2e-6,
            llama_vs_reference_mean_kl: 1e-7,
            llama_vs_reference_top1: 0.995,
            mean_kl: default_mean_kl_limits(),
        }
    }
}

/// `[bundle]`: what goes onto the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bundle {
    /// Name shown to the user.
    pub name: String,
    /// SPDX expression for the weights; `LicenseRef-NAME` for a licence that is not on SPDX's list.
    /// Without one, what the folder of `train.init_from` says.
    pub license: Option<String>,
    /// The file with the text of that licence.
    pub license_file: Option<PathBuf>,
    /// Which release of this model it is: 1, 2, 3 ... Nothing can be derived for it, so without one
    /// the bundle states no order and cannot be signed.
    pub release: Option<u64>,
    /// Last day, in UTC, on which devices should install it, as YYYY-MM-DD.
    pub expires: Option<String>,
    /// Text that the self-test continues.
    pub prompt: String,
    /// Tokens that the self-test expects.
    pub self_test_tokens: usize,
    /// Also write the bundle as one `.zip`, entries stored.
    pub zip: bool,
}

impl Default for Bundle {
    fn default() -> Self {
        Bundle {
            name: "pocketgpt".to_owned(),
            license: None,
            license_file: None,
            release: None,
            expires: None,
            prompt: "Every effort moves you".to_owned(),
            self_test_tokens: 16,
            zip: false,
        }
    }
}
