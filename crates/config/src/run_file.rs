//! The sections of a run file, with the default and the unit of every key.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Architecture, ConfigError, ModelConfig, limits};

/// A whole run file. Every key has a default, so an empty file is a valid one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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

/// Burn's backend. Those behind a feature are refused, with its name, where it was not built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
}

/// `[run]`: where results go, and the one seed everything random follows from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of the feed-forward layer; `4 * n_embd` if not given.
    pub n_inner: Option<usize>,
    /// Added to the variance inside the normalisation layers.
    pub norm_epsilon: f32,
    /// Whether the query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// Whether the output head shares the token embedding's matrix.
    pub tie_embeddings: bool,
    /// Dropout probability while training.
    pub dropout: f32,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            architecture: Architecture::Gpt2,
            context_length: 1024,
            n_layer: 12,
            n_head: 12,
            n_embd: 768,
            n_inner: None,
            norm_epsilon: 1e-5,
            qkv_bias: true,
            tie_embeddings: true,
            dropout: 0.0,
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
            n_embd: self.n_embd,
            n_inner: self.n_inner.unwrap_or(self.n_embd.saturating_mul(4)),
            norm_epsilon: self.norm_epsilon,
            qkv_bias: self.qkv_bias,
            tie_embeddings: self.tie_embeddings,
            dropout: self.dropout,
        }
    }
}

/// How text becomes token ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// GPT-2's byte-level BPE, 50,257 tokens.
    #[default]
    Gpt2,
    /// Words and punctuation of the corpus (Raschka, 2024, ch. 2).
    Simple,
}

/// `[data]`: the text and the windows cut from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// A UTF-8 text file, the name of a known corpus, or `builtin` for the story that is compiled in.
    pub path: PathBuf,
    /// How text becomes token ids.
    pub tokenizer: TokenizerKind,
    /// Tokens in a training window.
    pub context: usize,
    /// Tokens from the start of one window to the start of the next; `context` if not given.
    pub stride: Option<usize>,
    /// Share of the tokens, from the front, that trains; the rest validates.
    pub train_fraction: f64,
}

impl Data {
    /// Tokens from the start of one window to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride.unwrap_or(self.context)
    }
}

impl Default for Data {
    fn default() -> Self {
        Data {
            path: PathBuf::from("builtin"),
            tokenizer: TokenizerKind::Gpt2,
            context: 256,
            stride: None,
            train_fraction: 0.9,
        }
    }
}

/// Number format of the matrix products while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// `bf16` on a processor with instructions for it, otherwise `f32`.
    #[default]
    Auto,
    /// 32-bit floats everywhere.
    F32,
    /// Operands rounded to bf16, sums and weights in 32-bit floats; on the CPU.
    Bf16,
}

/// Where weights start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Initialization {
    /// Normal with deviation 0.02, narrower before the residual stream (GPT-2, nanoGPT).
    #[default]
    Gpt2,
    /// The defaults of PyTorch's layers: tables normal with deviation 1, matrices and biases
    /// uniform within `1 / sqrt(inputs)`. Learns a short text by heart sooner.
    Pytorch,
}

/// `[train]`: the loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Where weights start.
    pub initialization: Initialization,
    /// Windows in one forward pass.
    pub batch_size: usize,
    /// Forward passes whose gradients are averaged before one optimizer step.
    pub gradient_accumulation: usize,
    /// Passes over the training windows.
    pub epochs: usize,
    /// Stop after this many optimizer steps, whatever `epochs` says.
    pub max_steps: Option<usize>,
    /// Number format of the matrix products.
    pub precision: Precision,
    /// Optimizer steps between two validation losses.
    pub eval_interval: usize,
    /// Windows of each split that an evaluation reads; all of them if not given.
    pub eval_windows: Option<usize>,
    /// Optimizer steps between two checkpoints; the last step always writes one.
    pub checkpoint_interval: usize,
    /// Checkpoints kept on disk, newest first.
    pub keep_checkpoints: usize,
    /// Text that the sample after each epoch continues.
    pub sample_prompt: String,
    /// Tokens in that sample; 0 writes none.
    pub sample_tokens: usize,
}

impl Default for Train {
    fn default() -> Self {
        Train {
            initialization: Initialization::Gpt2,
            batch_size: 2,
            gradient_accumulation: 1,
            epochs: 10,
            max_steps: None,
            precision: Precision::Auto,
            eval_interval: 50,
            eval_windows: None,
            checkpoint_interval: 500,
            keep_checkpoints: 2,
            sample_prompt: "Every effort moves you".to_owned(),
            sample_tokens: 50,
        }
    }
}

/// `[optimizer]`: AdamW (Loshchilov and Hutter, 2019), decay on matrices only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Optimizer {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay of matrices per step, times the learning rate; biases and norms have none.
    pub weight_decay: f32,
    /// Decay rate of the first moment.
    pub beta1: f32,
    /// Decay rate of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Largest L2 norm of all gradients together; 0 clips nothing.
    pub grad_clip: f32,
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer {
            learning_rate: 4e-4,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            grad_clip: 1.0,
        }
    }
}

/// How the learning rate moves after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Stays at its peak.
    #[default]
    Constant,
    /// Half a cosine from the peak to the minimum at the last step.
    Cosine,
}

/// `[schedule]`: the learning rate over the run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Shape after the warm-up.
    pub kind: ScheduleKind,
    /// Steps of linear rise from 0 to the peak.
    pub warmup_steps: usize,
    /// Where the cosine ends.
    pub min_learning_rate: f64,
}

/// `[export]`: the GGUF that everything after it starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quantize {
    /// One file for each, by llama.cpp's names.
    pub recipes: Vec<String>,
}

impl Default for Quantize {
    fn default() -> Self {
        Quantize { recipes: vec!["Q8_0".to_owned(), "Q4_K_M".to_owned()] }
    }
}

/// `[fragment]`: the pieces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Eval {
    /// Token windows whose logits training stores in `golden.safetensors`.
    pub golden_windows: usize,
    /// Limits that a bundle must meet.
    pub gates: Gates,
}

impl Default for Eval {
    fn default() -> Self {
        Eval { golden_windows: 4, gates: Gates::default() }
    }
}

/// `[eval.gates]`: a measured value beyond its limit fails the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// Loose enough for any small model that works, tight enough to catch one that does not.
const MEAN_KL_LIMITS: [(&str, f64); 8] = [
    ("Q8_0", 1e-2),
    ("Q6_K", 2e-2),
    ("Q5_1", 0.05),
    ("Q5_0", 0.05),
    ("Q4_1", 0.15),
    ("Q4_K_M", 0.1),
    ("Q4_0", 0.15),
    ("Q4_K", 0.15),
];

fn default_mean_kl_limits() -> BTreeMap<String, f64> {
    MEAN_KL_LIMITS.into_iter().map(|(recipe, limit)| (recipe.to_owned(), limit)).collect()
}

/// The limits given, and the defaults of all other recipes: setting one gate opens no other.
fn over_default_limits<'de, D>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let mut limits = default_mean_kl_limits();
    limits.extend(BTreeMap::<String, f64>::deserialize(deserializer)?);
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bundle {
    /// Name shown to the user.
    pub name: String,
    /// SPDX expression for the weights.
    pub license: String,
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
            license: "MIT OR Apache-2.0".to_owned(),
            prompt: "Every effort moves you".to_owned(),
            self_test_tokens: 16,
            zip: false,
        }
    }
}

impl RunFile {
    /// Checks ranges and relations that types cannot express.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with the first key that does not hold.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = [
            ("data.context", self.data.context),
            ("data.stride", self.data.stride()),
            ("train.batch_size", self.train.batch_size),
            ("train.gradient_accumulation", self.train.gradient_accumulation),
            ("train.epochs", self.train.epochs),
            ("train.max_steps", self.train.max_steps.unwrap_or(1)),
            ("train.eval_interval", self.train.eval_interval),
            ("train.eval_windows", self.train.eval_windows.unwrap_or(1)),
            ("train.checkpoint_interval", self.train.checkpoint_interval),
            ("train.keep_checkpoints", self.train.keep_checkpoints),
            ("eval.golden_windows", self.eval.golden_windows),
            ("bundle.self_test_tokens", self.bundle.self_test_tokens),
        ];
        for (key, value) in positive {
            require(key, value, value >= 1, "at least 1")?;
        }
        let model = &self.model;
        for (key, value, most) in [
            ("model.context_length", model.context_length, limits::CONTEXT_LENGTH),
            ("model.n_layer", model.n_layer, limits::N_LAYER),
            ("model.n_head", model.n_head, limits::N_HEAD),
            ("model.n_embd", model.n_embd, limits::N_EMBD),
            ("model.n_inner", model.n_inner.unwrap_or(1), limits::N_INNER),
        ] {
            require(key, value, (1..=most).contains(&value), &format!("1 to {most}"))?;
        }
        require(
            "model.n_head",
            model.n_head,
            model.n_embd.is_multiple_of(model.n_head),
            &format!("a divisor of model.n_embd = {}", model.n_embd),
        )?;
        require(
            "data.context",
            self.data.context,
            self.data.context <= model.context_length,
            &format!("at most model.context_length = {}", model.context_length),
        )?;
        let fraction = self.data.train_fraction;
        require(
            "data.train_fraction",
            fraction,
            fraction > 0.0 && fraction < 1.0,
            "between 0 and 1, both excluded",
        )?;
        require(
            "model.dropout",
            model.dropout,
            (0.0..1.0).contains(&model.dropout),
            "from 0 to below 1",
        )?;
        require(
            "model.norm_epsilon",
            model.norm_epsilon,
            model.norm_epsilon > 0.0 && model.norm_epsilon < 1.0,
            "between 0 and 1, both excluded",
        )?;
        let rate = self.optimizer.learning_rate;
        require(
            "optimizer.learning_rate",
            rate,
            rate > 0.0 && rate.is_finite(),
            "a finite number above 0",
        )?;
        for (key, beta) in
            [("optimizer.beta1", self.optimizer.beta1), ("optimizer.beta2", self.optimizer.beta2)]
        {
            require(key, beta, (0.0..1.0).contains(&beta), "from 0 to below 1")?;
        }
        for (key, value) in [
            ("optimizer.weight_decay", self.optimizer.weight_decay),
            ("optimizer.grad_clip", self.optimizer.grad_clip),
        ] {
            require(key, value, value >= 0.0 && value.is_finite(), "a finite number, 0 or above")?;
        }
        // Where a gradient has always been zero, 0 / 0 would be the step.
        let epsilon = self.optimizer.epsilon;
        require(
            "optimizer.epsilon",
            epsilon,
            epsilon > 0.0 && epsilon.is_finite(),
            "a finite number above 0",
        )?;
        let floor = self.schedule.min_learning_rate;
        require(
            "schedule.min_learning_rate",
            floor,
            (0.0..=rate).contains(&floor),
            &format!("from 0 to optimizer.learning_rate = {rate}"),
        )?;
        require(
            "export.tensor_type",
            &self.export.tensor_type,
            ["F32", "F16", "BF16"].contains(&self.export.tensor_type.as_str()),
            "F32, F16 or BF16",
        )?;
        require(
            "fragment.max_bytes",
            self.fragment.max_bytes,
            self.fragment.max_bytes >= 4096,
            "at least 4096",
        )
    }
}

fn require(
    key: &'static str,
    value: impl std::fmt::Display,
    holds: bool,
    expected: &str,
) -> Result<(), ConfigError> {
    if holds {
        return Ok(());
    }
    Err(ConfigError::Invalid { key, value: value.to_string(), expected: expected.to_owned() })
}
