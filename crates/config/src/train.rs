//! `[train]`, `[lora]`, `[optimizer]` and `[schedule]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Objective, Qat, Teacher};

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
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
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

/// Which rule turns gradients into steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// AdamW (Loshchilov and Hutter, 2019).
    #[default]
    AdamW,
    /// Muon (Jordan et al., 2024) for the matrices of the blocks, AdamW for everything else. Its
    /// updates are scaled to AdamW's usual size (Liu et al., 2025), so that one learning rate and
    /// one decay serve both.
    Muon,
}

/// `[optimizer]`: how weights follow their gradients; only matrices decay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Optimizer {
    /// The rule.
    pub kind: OptimizerKind,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay of matrices per step, times the learning rate; biases and norms have none.
    pub weight_decay: f32,
    /// Decay rate of AdamW's first moment.
    pub beta1: f32,
    /// Decay rate of AdamW's second moment.
    pub beta2: f32,
    /// Added to the root of AdamW's second moment.
    pub epsilon: f32,
    /// Decay rate of Muon's momentum.
    pub momentum: f32,
    /// Largest L2 norm of all gradients together; 0 clips nothing.
    pub grad_clip: f32,
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer {
            kind: OptimizerKind::default(),
            learning_rate: 4e-4,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            momentum: 0.95,
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
