//! How much memory training takes on the CPU: weights, gradients, the optimizer's state, and the
//! activations that the forward pass keeps for the backward pass.
//!
//! ```text
//! weights      4 bytes for each parameter; as many again where they are rounded ([train.qat]), and
//!              for a teacher in memory, which is counted as large as the student
//! gradients    4 bytes for each one that is trained; with several passes in a step, the head's
//!              twice, because the gradient of one pass exists before it is accumulated
//! moments      8 bytes for each one that is trained (AdamW's two; Muon's one is counted as two)
//! activations  4 bytes * batch * T * (what a block keeps * n_layer + both ends)
//!                GPT-2, GPT-NeoX  2C normed inputs, 2C sums, 3C qkv, C heads, 2F, H
//!                LLaMA and such   2C normed inputs, 2C sums, (H + 2 * K) * D qkv, H * D heads, 3F,
//!                                 H; C for each norm after attention or feed-forward, and
//!                                 (H + K) * D where queries and keys are normalised
//!                checkpointed     C for each block, and all of the above for one
//!                ends             2C, and the gradient of the head's input, C
//! ```
//!
//! The activations are those that `crates/kernels` saves (`cpu_autodiff/*.rs`). Not counted are the
//! packed copies inside of a matrix product, the buffers of one backward step, and the program.

use std::fmt;

use config::{LoraTarget, ModelConfig, NormPlacement, Projections, QkNorm, RunFile};
use serde::Serialize;

use crate::memory::megabytes;

/// Bytes of a number; everything that training keeps is in f32.
const FLOAT: usize = 4;

/// Bytes that training takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TrainingNeed {
    /// Parameters that are trained: the adapters' with LoRA, otherwise all.
    pub trained_parameters: u64,
    /// Windows in one pass.
    pub batch_size: usize,
    /// Tokens in a window.
    pub context: usize,
    /// All weights, with those that are rounded and those of a teacher.
    pub weights: u64,
    /// Gradients of what is trained.
    pub gradients: u64,
    /// AdamW's two averages of what is trained.
    pub moments: u64,
    /// What the forward pass keeps.
    pub activations: u64,
    /// All of it.
    pub total: u64,
}

impl TrainingNeed {
    /// The memory of a run.
    pub fn of(run_file: &RunFile, config: &ModelConfig) -> Self {
        let (batch_size, context) = (run_file.train.batch_size, run_file.data.context);
        let lora = &run_file.lora;
        let adapters = match lora.rank {
            0 => 0,
            rank => product(&[config.n_layer, rank, adapter_widths(config, &lora.targets)]),
        };
        let all = config.parameter_count() as u64;
        let trained_parameters = if lora.rank == 0 { all } else { adapters };
        let accumulates = run_file.train.gradient_accumulation > 1 && lora.rank == 0;
        let head = if accumulates { product(&[config.vocab_size, config.n_embd]) } else { 0 };
        let bytes = |floats: u64| floats.saturating_mul(FLOAT as u64);
        let train = &run_file.train;
        let has_teacher = train.teacher.as_ref().is_some_and(|it| it.recorded.is_none());
        let copies = 1 + u64::from(train.qat.is_some()) + u64::from(has_teacher);
        let weights = bytes(all.saturating_mul(copies).saturating_add(adapters));
        let gradients = bytes(trained_parameters.saturating_add(head));
        let moments = bytes(trained_parameters.saturating_mul(2));
        let checkpointed = run_file.train.activation_checkpointing;
        let activations =
            product(&[FLOAT, batch_size, context, kept_per_token(config, checkpointed)]);
        let total =
            [gradients, moments, activations].into_iter().fold(weights, u64::saturating_add);
        TrainingNeed {
            trained_parameters,
            batch_size,
            context,
            weights,
            gradients,
            moments,
            activations,
            total,
        }
    }
}

/// Inputs and outputs of all targets of one block, added up: an adapter of rank `r` has `r` times
/// as many parameters.
fn adapter_widths(config: &ModelConfig, targets: &[LoraTarget]) -> usize {
    let (c, f) = (config.n_embd, config.n_inner);
    let (q, kv) = (config.q_width(), config.kv_width());
    let joined = config.architecture.block().projections == Projections::Joined;
    let gated = config.architecture.is_gated();
    let mut widths: Vec<(LoraTarget, usize)> = targets
        .iter()
        .map(|&target| match target {
            // One matrix makes all three, and has one adapter whichever of them is named.
            LoraTarget::Query | LoraTarget::Key | LoraTarget::Value if joined => {
                (LoraTarget::Query, c + q + 2 * kv)
            }
            LoraTarget::Gate | LoraTarget::Up if joined && gated => (LoraTarget::Gate, c + 2 * f),
            LoraTarget::Query | LoraTarget::Output => (target, c + q),
            LoraTarget::Key | LoraTarget::Value => (target, c + kv),
            LoraTarget::Gate | LoraTarget::Up | LoraTarget::Down => (target, c + f),
        })
        .collect();
    widths.sort_unstable();
    widths.dedup();
    widths.iter().map(|(_, width)| width).sum()
}

/// Numbers that the forward pass saves for each token.
fn kept_per_token(config: &ModelConfig, checkpointed: bool) -> usize {
    let (c, f, h) = (config.n_embd, config.n_inner, config.n_head);
    let wide = if config.architecture.is_gated() { 3 * f } else { 2 * f };
    let (q, kv, design) = (config.q_width(), config.kv_width(), config.architecture.block());
    let after = if design.norm_placement == NormPlacement::Both { 2 * c } else { 0 };
    let qk_norm = if design.qk_norm == QkNorm::None { 0 } else { q + kv };
    // The parts of a joined result are saved beside it.
    let cut = match (design.projections, config.architecture.is_gated()) {
        (Projections::Joined, true) => q + 2 * kv + 2 * f,
        _ => 0,
    };
    let block = 4 * c + after + 2 * q + 2 * kv + qk_norm + cut + wide + h;
    let blocks = match checkpointed {
        true => config.n_layer * c + block,
        false => config.n_layer * block,
    };
    blocks + 3 * c
}

/// Saturates instead of wrapping around.
fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product: u64, &factor| product.saturating_mul(factor as u64))
}

impl fmt::Display for TrainingNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "training {} parameters with {} x {} tokens in a pass, MB: {} weights + {} gradients \
             + {} moments + {} activations = {}",
            cli::count(self.trained_parameters),
            self.batch_size,
            self.context,
            megabytes(self.weights),
            megabytes(self.gradients),
            megabytes(self.moments),
            megabytes(self.activations),
            megabytes(self.total)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn need(text: &str, config: &ModelConfig) -> TrainingNeed {
        TrainingNeed::of(&RunFile::parse(Path::new("a.toml"), text, &[]).unwrap(), config)
    }

    #[test]
    fn sixteen_bytes_for_each_parameter_and_what_the_pass_keeps() {
        let config = ModelConfig { tie_embeddings: false, ..ModelConfig::gpt2_124m() };
        let need = need("[train]\nbatch_size = 2\n[data]\ncontext = 256\n", &config);
        assert_eq!(need.weights + need.gradients + need.moments, 16 * 163_037_184);
        // 512 tokens, 12 blocks of 8 * 768 + 2 * 3072 + 12 numbers, and 3 * 768.
        assert_eq!(need.activations, 4 * 512 * (12 * 12_300 + 2304));
        // Training this model was measured with a peak of 3.04 GB.
        assert!((0.92..1.0).contains(&(need.total as f64 / 3.04e9)), "{need:?}");
    }

    #[test]
    fn accumulation_adds_up_in_place_but_for_the_head() {
        let one = need("", &ModelConfig::gpt2_124m());
        let two = need("[train]\ngradient_accumulation = 2\n", &ModelConfig::gpt2_124m());
        assert_eq!(two.gradients, one.gradients + 4 * 50257 * 768);
    }

    #[test]
    fn rounded_weights_and_a_teacher_are_there_besides() {
        let config = ModelConfig::gpt2_124m();
        let weights = |text: &str| need(text, &config).weights;
        let one = weights("");
        assert_eq!(weights("[train.qat]\nformat = \"Q4_0\"\n"), 2 * one);
        let teacher = "[train.teacher]\nmodel = \"base\"\n";
        assert_eq!(weights(teacher), 2 * one);
        assert_eq!(weights(&format!("[train.qat]\nformat = \"Q4_0\"\n{teacher}")), 3 * one);
        assert_eq!(weights(&format!("{teacher}recorded = \"predictions\"")), one);
    }

    #[test]
    fn adapters_are_all_that_has_gradients() {
        // 1,126,400 is what peft reports for rank 8 on q_proj and v_proj of TinyLlama 1.1B.
        let text =
            "[train]\ninit_from = \"base\"\n[lora]\nrank = 8\ntargets = [\"query\", \"value\"]\n";
        let need = need(text, &ModelConfig::tinyllama_1_1b());
        assert_eq!(need.trained_parameters, 1_126_400);
        assert_eq!(need.moments, 8 * 1_126_400);
        assert_eq!(need.weights, 4 * (1_100_048_384 + 1_126_400));
    }

    #[test]
    fn a_joined_matrix_has_one_adapter() {
        let config = ModelConfig::gpt2_124m();
        let all = [LoraTarget::Query, LoraTarget::Key, LoraTarget::Value];
        assert_eq!(adapter_widths(&config, &all), adapter_widths(&config, &all[1..2]));
    }

    #[test]
    fn checkpointing_keeps_one_block_whole() {
        let config = ModelConfig::tinyllama_1_1b();
        let (all, few) = (kept_per_token(&config, false), kept_per_token(&config, true));
        let block = 6 * 2048 + 2 * 256 + 3 * 5632 + 32;
        assert_eq!(all - few, 21 * block - 22 * 2048);
    }
}
