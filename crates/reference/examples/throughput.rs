//! Measures the speed of a pass of a GPT with 124M parameters.
//!
//! ```text
//! cargo run --release -p pocketgpt-reference --example throughput [TOKENS]
//! ```

use std::time::Instant;

use config::ModelConfig;
use reference::{MemorySource, Model, ReferenceError};

fn main() -> Result<(), ReferenceError> {
    let tokens = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1024_usize);
    let config = ModelConfig::gpt2_124m();
    let source = weights(&config);
    let model = timed("load", || Model::from_parts(config.clone(), &source))?;
    drop(source);
    let ids: Vec<u32> = (0..tokens as u32).map(|i| i * 7919 % 50257).collect();

    let start = Instant::now();
    timed("full pass", || model.logits(&ids))?;
    let seconds = start.elapsed().as_secs_f64();
    let (t, c) = (tokens as f64, config.n_embd as f64);
    let matrices = (config.n_layer * 12) as f64 * c * c + config.vocab_size as f64 * c;
    let attention = config.n_layer as f64 * t * c; // half of the square is masked
    let operations = 2.0 * t * (matrices + attention);
    println!("{tokens} tokens: {:.1} GFLOP/s", operations / seconds / 1e9);

    let mut session = model.session();
    let prompt = ids.len().min(64);
    timed("prompt", || session.push(&ids[..prompt]))?;
    let start = Instant::now();
    for &id in &ids[..32.min(ids.len())] {
        session.push(&[id])?;
    }
    let steps = 32.min(ids.len()) as f64;
    println!("token by token: {:.1} tokens/s", steps / start.elapsed().as_secs_f64());
    Ok(())
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    println!("{what}: {:.2} s", start.elapsed().as_secs_f64());
    result
}

/// Small constant weights; their values do not affect the speed.
fn weights(config: &ModelConfig) -> MemorySource {
    let (c, f) = (config.n_embd, config.n_inner);
    let mut source = MemorySource::default();
    let mut add = |name: &str, shape: &[usize]| {
        source.add(name, shape, vec![0.02; shape.iter().product()]);
    };
    add("token_embd.weight", &[config.vocab_size, c]);
    add("position_embd.weight", &[config.context_length, c]);
    for layer in 0..config.n_layer {
        for (name, rows, columns) in
            [("attn_qkv", 3 * c, c), ("attn_output", c, c), ("ffn_up", f, c), ("ffn_down", c, f)]
        {
            add(&format!("blk.{layer}.{name}.weight"), &[rows, columns]);
            add(&format!("blk.{layer}.{name}.bias"), &[rows]);
        }
        for name in ["attn_norm", "ffn_norm"] {
            add(&format!("blk.{layer}.{name}.weight"), &[c]);
            add(&format!("blk.{layer}.{name}.bias"), &[c]);
        }
    }
    add("output_norm.weight", &[c]);
    add("output_norm.bias", &[c]);
    source
}
