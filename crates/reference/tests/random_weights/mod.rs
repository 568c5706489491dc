//! Small models whose weights are computed by a formula, so that no file is needed.
#![allow(dead_code, reason = "not every test needs every family")]

use config::{
    Architecture, Attention, Experts, ModelConfig, Projections, QkNorm, RopeScaling, Window,
};
use reference::MemorySource;

/// A GPT-2 of sizes that no vector width and no task size divides.
pub fn config() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size: 101,
        context_length: 130,
        n_layer: 2,
        n_head: 3,
        n_kv_head: 3,
        n_embd: 51,
        n_inner: 70,
        norm_epsilon: 1e-5,
        rope_base: config::ROPE_BASE,
        qkv_bias: true,
        tie_embeddings: true,
        dropout: 0.1,
        attention: config::Attention::default(),
        experts: None,
    }
}

/// One model of each kind: every family, tied and untied, with keys and values shared by no heads,
/// some heads and all heads.
pub fn families() -> Vec<(&'static str, ModelConfig)> {
    let gpt2 = config();
    let gptneox = ModelConfig {
        architecture: Architecture::GptNeox,
        tie_embeddings: false,
        n_embd: 54,
        ..config()
    };
    let llama = ModelConfig {
        architecture: Architecture::Llama,
        n_head: 9,
        n_kv_head: 3,
        n_embd: 54,
        qkv_bias: false,
        ..config()
    };
    let qwen2 = ModelConfig {
        architecture: Architecture::Qwen2,
        n_head: 7,
        n_kv_head: 1,
        n_embd: 70,
        rope_base: 1e6,
        qkv_bias: true,
        tie_embeddings: false,
        ..config()
    };
    let qwen3 = ModelConfig {
        architecture: Architecture::Qwen3,
        n_head: 6,
        n_kv_head: 2,
        n_embd: 54,
        rope_base: 1e6,
        qkv_bias: false,
        attention: Attention { head_width: Some(14), ..Attention::PLAIN },
        ..config()
    };
    let smollm3 = ModelConfig {
        architecture: Architecture::SmolLm3,
        n_layer: 5,
        n_head: 4,
        n_kv_head: 2,
        n_embd: 56,
        rope_base: 1e4,
        qkv_bias: false,
        tie_embeddings: false,
        ..config()
    };
    let rope_scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 60,
    };
    let llama3 = ModelConfig {
        n_head: 6,
        attention: Attention { head_width: Some(14), rope_scaling, ..Attention::PLAIN },
        ..llama.clone()
    };
    let plain = ModelConfig { n_kv_head: 9, tie_embeddings: false, ..llama.clone() };
    vec![
        ("gpt2", gpt2),
        ("gptneox", gptneox),
        ("llama", llama),
        ("qwen2", qwen2),
        ("qwen3", qwen3),
        ("llama3", llama3),
        ("smollm3", smollm3),
        ("olmo2", olmo2()),
        ("gemma3", gemma3()),
        ("phi3", phi3()),
        ("llama without shared keys", plain),
    ]
}

fn olmo2() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Olmo2,
        n_head: 6,
        n_kv_head: 3,
        n_embd: 60,
        rope_base: 1e6,
        qkv_bias: false,
        tie_embeddings: false,
        ..config()
    }
}

/// Two layers with a window before each layer without one.
fn gemma3() -> ModelConfig {
    let attention = Attention {
        head_width: Some(14),
        rope_scaling: RopeScaling::Linear { factor: 8.0 },
        window: Some(Window { size: 7, global_every: 3, rope_base: Some(1e4) }),
        ..Attention::PLAIN
    };
    ModelConfig {
        architecture: Architecture::Gemma3,
        n_layer: 5,
        n_head: 3,
        n_kv_head: 1,
        n_embd: 54,
        rope_base: 1e6,
        qkv_bias: false,
        attention,
        ..config()
    }
}

/// Heads of 14, of which 10 channels rotate.
fn phi3() -> ModelConfig {
    let attention = Attention {
        rotated_width: Some(10),
        window: Some(Window { size: 9, global_every: 0, rope_base: None }),
        ..Attention::PLAIN
    };
    ModelConfig {
        architecture: Architecture::Phi3,
        n_head: 4,
        n_kv_head: 2,
        n_embd: 56,
        qkv_bias: false,
        tie_embeddings: false,
        attention,
        ..config()
    }
}

/// A Phi-3 whose rotation changes when a text is longer than 12 tokens; not in [`families`],
/// because its results for a position depend on the length of the text.
pub fn phi3_longrope() -> ModelConfig {
    let rope_scaling = RopeScaling::LongRope {
        short: vec![1.0; 5],
        long: vec![1.0, 1.25, 2.0, 3.5, 7.0],
        original_context: 12,
        magnitude: (1.0 + (130.0_f64 / 12.0).ln() / 12_f64.ln()).sqrt() as f32,
    };
    let attention = Attention { rope_scaling, window: None, ..phi3().attention };
    ModelConfig { attention, ..phi3() }
}

/// Models with odd numbers of experts.
pub fn with_experts() -> Vec<(&'static str, ModelConfig)> {
    let dense = |name: &str| {
        let (_, config) = families().into_iter().find(|(family, _)| *family == name).unwrap();
        config
    };
    let mixtral = ModelConfig {
        tie_embeddings: false,
        experts: Some(Experts { count: 3, used: 2 }),
        ..dense("llama")
    };
    let qwen3moe = ModelConfig {
        architecture: Architecture::Qwen3Moe,
        n_head: 4,
        experts: Some(Experts { count: 5, used: 2 }),
        ..dense("qwen3")
    };
    vec![("mixtral", mixtral), ("qwen3moe", qwen3moe)]
}

/// Pseudo-random weights, the same every time and in `golden/make_golden.py`; `change` may modify
/// the list of tensors.
pub fn source(
    config: &ModelConfig,
    change: impl Fn(&mut Vec<(String, Vec<usize>)>),
) -> MemorySource {
    let mut tensors = tensors(config);
    change(&mut tensors);
    let mut source = MemorySource::default();
    let mut state = 1_u64;
    for (name, shape) in tensors {
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        let data = (0..shape.iter().product()).map(|_| next() * 0.5).collect();
        source.add(&name, &shape, data);
    }
    for (name, factors) in config.rope_tensors() {
        source.add(&format!("{name}.weight"), &[factors.len()], factors);
    }
    source
}

/// Names and shapes, slowest dimension first, in the order in which weights are drawn.
fn tensors(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (c, v) = (config.n_embd, config.vocab_size);
    let gated = config.architecture.is_gated();
    let mut tensors = vec![("token_embd.weight".to_owned(), vec![v, c])];
    if config.architecture == Architecture::Gpt2 {
        tensors.push(("position_embd.weight".to_owned(), vec![config.context_length, c]));
    }
    tensors.push(("output_norm.weight".to_owned(), vec![c]));
    if !gated {
        tensors.push(("output_norm.bias".to_owned(), vec![c]));
    }
    for layer in 0..config.n_layer {
        let block = if gated { llama_block(config) } else { gpt2_block(config) };
        tensors
            .extend(block.into_iter().map(|(name, shape)| (format!("blk.{layer}.{name}"), shape)));
    }
    if !config.tie_embeddings {
        tensors.push(("output.weight".to_owned(), vec![v, c]));
    }
    tensors
}

fn gpt2_block(config: &ModelConfig) -> Vec<(&'static str, Vec<usize>)> {
    let (c, f) = (config.n_embd, config.n_inner);
    vec![
        ("attn_norm.weight", vec![c]),
        ("attn_norm.bias", vec![c]),
        ("attn_qkv.weight", vec![3 * c, c]),
        ("attn_qkv.bias", vec![3 * c]),
        ("attn_output.weight", vec![c, c]),
        ("attn_output.bias", vec![c]),
        ("ffn_norm.weight", vec![c]),
        ("ffn_norm.bias", vec![c]),
        ("ffn_up.weight", vec![f, c]),
        ("ffn_up.bias", vec![f]),
        ("ffn_down.weight", vec![c, f]),
        ("ffn_down.bias", vec![c]),
    ]
}

fn llama_block(config: &ModelConfig) -> Vec<(&'static str, Vec<usize>)> {
    let (c, f, q, kv) = (config.n_embd, config.n_inner, config.q_width(), config.kv_width());
    let design = config.architecture.block();
    let is_joined = design.projections == Projections::Joined;
    let mut tensors = Vec::new();
    if design.norm_placement.is_before() {
        tensors.push(("attn_norm.weight", vec![c]));
    }
    let separate = [
        ("attn_q.weight", "attn_q.bias", q),
        ("attn_k.weight", "attn_k.bias", kv),
        ("attn_v.weight", "attn_v.bias", kv),
    ];
    let joined = [("attn_qkv.weight", "attn_qkv.bias", q + 2 * kv)];
    for &(weight, bias, rows) in if is_joined { joined.as_slice() } else { &separate } {
        tensors.push((weight, vec![rows, c]));
        if config.qkv_bias {
            tensors.push((bias, vec![rows]));
        }
    }
    let width = config.head_width();
    match design.qk_norm {
        QkNorm::None => {}
        QkNorm::Head => tensors
            .extend([("attn_q_norm.weight", vec![width]), ("attn_k_norm.weight", vec![width])]),
        QkNorm::Width => {
            tensors.extend([("attn_q_norm.weight", vec![q]), ("attn_k_norm.weight", vec![kv])]);
        }
    }
    tensors.push(("attn_output.weight", vec![c, q]));
    if design.norm_placement.is_after() {
        tensors.push(("post_attention_norm.weight", vec![c]));
    }
    if design.norm_placement.is_before() {
        tensors.push(("ffn_norm.weight", vec![c]));
    }
    match config.experts {
        Some(Experts { count, .. }) => tensors.extend([
            ("ffn_gate_inp.weight", vec![count, c]),
            ("ffn_gate_exps.weight", vec![count, f, c]),
            ("ffn_up_exps.weight", vec![count, f, c]),
            ("ffn_down_exps.weight", vec![count, c, f]),
        ]),
        None if is_joined => {
            tensors.extend([("ffn_up.weight", vec![2 * f, c]), ("ffn_down.weight", vec![c, f])]);
        }
        None => tensors.extend([
            ("ffn_gate.weight", vec![f, c]),
            ("ffn_up.weight", vec![f, c]),
            ("ffn_down.weight", vec![c, f]),
        ]),
    }
    if design.norm_placement.is_after() {
        tensors.push(("post_ffw_norm.weight", vec![c]));
    }
    tensors
}
