//! The sections of a run file, with the default and the unit of every key.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Architecture, Attention, ChatFormat, DataFormat, DataSource, DocumentMask, EvalTask,
    ModelConfig, Objective, OnError, Paths, Qat, ROPE_BASE, Teacher, TooLong, TrainOn,
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

/// How text becomes token ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// GPT-2's byte-level BPE, 50,257 tokens.
    #[default]
    Gpt2,
    /// Words and punctuation of the corpus (Raschka, 2024, ch. 2).
    Simple,
    /// A `tokenizer.json` of Hugging Face: `data.tokenizer_path`.
    #[serde(rename = "huggingface")]
    HuggingFace,
    /// Byte-level BPE of `data.vocab_size` tokens, trained on the corpus before it is encoded.
    Trained,
}

/// `[data]`: the text and the windows cut from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// Texts (`.txt`, `.md`) or records (`.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet`), also with `.gz`
    /// or `.zst`: a file, a folder, a pattern such as `shards/*.jsonl`, or a list of them; the name of a
    /// known corpus; or `builtin` for the story that is compiled in. One text is one document; several
    /// texts, and records, are each followed by the tokenizer's end-of-text token. Also a token file, or
    /// a folder of them, that `data encode` wrote with the same tokenizer, which is read where it is.
    pub path: Paths,
    /// The field of a record that holds its text.
    pub text_field: String,
    /// What becomes of a record that cannot be read or has no text.
    pub on_error: OnError,
    /// How text becomes token ids.
    pub tokenizer: TokenizerKind,
    /// The `tokenizer.json`, or the folder that holds it, of `tokenizer = "huggingface"`.
    pub tokenizer_path: Option<PathBuf>,
    /// Tokens of `tokenizer = "trained"`.
    pub vocab_size: usize,
    /// Tokens in a training window.
    pub context: usize,
    /// Tokens from the start of one window to the start of the next; `context` if not given.
    pub stride: Option<usize>,
    /// Share of the tokens, from the front, that trains; the rest validates. Of conversations:
    /// share of the conversations, drawn at random.
    pub train_fraction: f64,
    /// `text` or `chat`.
    pub format: DataFormat,
    /// What a token sees of the other documents of its window; if not given, `packed` for texts
    /// and `separate` for conversations.
    pub documents: Option<DocumentMask>,
    /// How a record holds a conversation; recognised by its keys if not given.
    pub chat_format: Option<ChatFormat>,
    /// A file with the chat template, or `chatml`; the model's own if not given.
    pub chat_template: Option<PathBuf>,
    /// Which tokens of a conversation train.
    pub train_on: TrainOn,
    /// What happens to a conversation that does not fit in a window.
    pub too_long: TooLong,
    /// `[[data.source]]`: several sources in place of `path`, read one after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<DataSource>,
}

impl Data {
    /// Tokens from the start of one window to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride.unwrap_or(self.context)
    }

    /// What a token sees of the other documents of its window.
    pub fn document_mask(&self) -> DocumentMask {
        self.documents.unwrap_or(match self.format {
            DataFormat::Text => DocumentMask::Packed,
            DataFormat::Chat => DocumentMask::Separate,
        })
    }
}

impl Default for Data {
    fn default() -> Self {
        Data {
            path: Paths::from("builtin"),
            text_field: "text".to_owned(),
            on_error: OnError::Stop,
            tokenizer: TokenizerKind::Gpt2,
            tokenizer_path: None,
            vocab_size: 8192,
            context: 256,
            stride: None,
            train_fraction: 0.9,
            format: DataFormat::Text,
            documents: None,
            chat_format: None,
            chat_template: None,
            train_on: TrainOn::Answers,
            too_long: TooLong::Cut,
            source: Vec::new(),
        }
    }
}

/// Number format of the matrix products while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// `bf16` on a processor or card with instructions for it, otherwise `f32`.
    #[default]
    Auto,
    /// 32-bit floats everywhere; NVIDIA's cards multiply them with 10 bits of fraction (TF32).
    F32,
    /// Operands rounded to bf16, sums and weights in 32-bit floats.
    Bf16,
}

/// What computes a model's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kernels {
    /// As few passes over memory for each operation as the device allows, gradients by hand.
    #[default]
    Fused,
    /// Plain Burn operations in f32: many times slower. What the fused ones are held against.
    Plain,
}

/// Where weights start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Where weights start, unless `init_from` is given.
    pub initialization: Initialization,
    /// A checkpoint, run or Hugging Face folder to go on from: its weights, its shape and its
    /// tokenizer. Keys of `[model]` are best left out then; one that is set to something else than
    /// the folder says is refused. Only `dropout` is the run file's own.
    pub init_from: Option<PathBuf>,
    /// `next-token` or `dpo`; if not given, `dpo` for pairs of answers (`data.chat_format =
    /// "preference"`, or recognised by the keys of the first record) and `next-token` for anything
    /// else.
    pub objective: Option<Objective>,
    /// Of `dpo`: the scale of rewards. The larger, the closer the model stays to its start.
    pub dpo_beta: f64,
    /// Of `dpo`: the share of pairs that are taken to be labelled the wrong way round.
    pub dpo_label_smoothing: f64,
    /// Windows in one forward pass; pairs of answers, if they train.
    pub batch_size: usize,
    /// Forward passes whose gradients are averaged before one optimizer step.
    pub gradient_accumulation: usize,
    /// Devices of the run's kind that share these passes, each with a copy of the weights; a divisor
    /// of `gradient_accumulation`.
    pub devices: usize,
    /// Passes over the training windows.
    pub epochs: usize,
    /// Stop after this many optimizer steps, whatever `epochs` says.
    pub max_steps: Option<usize>,
    /// Number format of the matrix products.
    pub precision: Precision,
    /// What computes the operations.
    pub kernels: Kernels,
    /// Keep only each block's input and compute the rest of it again in the backward pass (Chen
    /// et al., 2016): less memory, a third more products.
    pub activation_checkpointing: bool,
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
    /// `[train.qat]`; without it, nothing is rounded.
    pub qat: Option<Qat>,
    /// `[train.teacher]`; without it, only the text is learned.
    pub teacher: Option<Teacher>,
}

impl Default for Train {
    fn default() -> Self {
        Train {
            initialization: Initialization::Gpt2,
            init_from: None,
            objective: None,
            dpo_beta: 0.1,
            dpo_label_smoothing: 0.0,
            batch_size: 2,
            gradient_accumulation: 1,
            devices: 1,
            epochs: 10,
            max_steps: None,
            precision: Precision::Auto,
            kernels: Kernels::Fused,
            activation_checkpointing: false,
            eval_interval: 50,
            eval_windows: None,
            checkpoint_interval: 500,
            keep_checkpoints: 2,
            sample_prompt: "Every effort moves you".to_owned(),
            sample_tokens: 50,
            qat: None,
            teacher: None,
        }
    }
}

/// Matrices that an adapter can sit on, in all blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LoraTarget {
    /// Queries. Where one matrix makes queries, keys and values (GPT-2, GPT-NeoX), any of the three
    /// names stands for all of it.
    Query,
    /// Keys.
    Key,
    /// Values.
    Value,
    /// What attention writes to the residual stream.
    Output,
    /// The gate of a gated feed-forward layer.
    Gate,
    /// Into the feed-forward layer.
    Up,
    /// Out of the feed-forward layer.
    Down,
}

/// `[lora]`: train two thin matrices beside each target and leave the rest as it is (Hu et al.,
/// 2021). Needs `train.init_from`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lora {
    /// Width between the two matrices; 0 trains the model itself.
    pub rank: usize,
    /// The adapter's output is scaled by `alpha / rank`.
    pub alpha: f32,
    /// Scales by `alpha / sqrt(rank)` instead, so that a wider adapter does not learn more slowly
    /// (Kalajdzievski, rsLoRA, 2023).
    pub rslora: bool,
    /// Which matrices get an adapter.
    pub targets: Vec<LoraTarget>,
    /// Dropout probability of each adapter's input while training.
    pub dropout: f32,
}

impl Lora {
    /// The factor on the adapter's output.
    pub fn scale(&self) -> f64 {
        lora_scale(self.rank, self.alpha, self.rslora)
    }
}

/// The factor on the output of an adapter (peft, `LoraLayer.scaling`).
pub fn lora_scale(rank: usize, alpha: f32, rslora: bool) -> f64 {
    let rank = rank as f64;
    f64::from(alpha) / if rslora { rank.sqrt() } else { rank }
}

impl Default for Lora {
    fn default() -> Self {
        Lora {
            rank: 0,
            alpha: 16.0,
            rslora: false,
            targets: vec![LoraTarget::Query, LoraTarget::Value],
            dropout: 0.0,
        }
    }
}

/// `[optimizer]`: AdamW (Loshchilov and Hutter, 2019), decay on matrices only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Stays at its peak.
    #[default]
    Constant,
    /// Half a cosine from the peak to the minimum at the last step.
    Cosine,
    /// A straight line from the peak to the minimum at the last step.
    Linear,
    /// Stays at its peak, then a straight line to the minimum over the last `decay_fraction` of
    /// the steps: warmup, stable, decay (Hu et al., MiniCPM, 2024). A run can be lengthened
    /// without a new schedule.
    Wsd,
}

/// `[schedule]`: the learning rate over the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Shape after the warm-up.
    pub kind: ScheduleKind,
    /// Steps of linear rise from 0 to the peak.
    pub warmup_steps: usize,
    /// The learning rate of the last step, unless `kind` is `constant`.
    pub min_learning_rate: f64,
    /// Share of all steps in which the learning rate of `wsd` falls.
    pub decay_fraction: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            kind: ScheduleKind::default(),
            warmup_steps: 0,
            min_learning_rate: 0.0,
            decay_fraction: 0.2,
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
