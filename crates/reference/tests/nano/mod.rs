//! nano-sort: a trained GPT of 3 layers that sorts letters, with the activations that minGPT
//! recorded for one batch.

use config::{Architecture, ModelConfig};
use reference::MemorySource;
use serde_json::Value;

/// One array of the JSON files: shape and numbers.
pub fn array(json: &Value, name: &str) -> (Vec<usize>, Vec<f32>) {
    let array = &json[name];
    let shape: Vec<usize> = array["shape"]
        .as_array()
        .unwrap_or_else(|| panic!("{name}: no shape"))
        .iter()
        .map(|n| n.as_u64().unwrap() as usize)
        .collect();
    let bytes = base64(array["data"].as_str().unwrap());
    let floats = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (shape, floats.collect())
}

/// Standard base64 (RFC 4648).
fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => u32::from(c - b'A'),
        b'a'..=b'z' => u32::from(c - b'a') + 26,
        b'0'..=b'9' => u32::from(c - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("no base64 digit: {c}"),
    };
    let mut bytes = Vec::new();
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = group.iter().fold(0, |bits, &c| bits << 6 | digit(c)) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}

/// The settings of nano-sort.
pub fn nano_sort_config() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size: 3,
        context_length: 11,
        n_layer: 3,
        n_head: 3,
        n_kv_head: 3,
        n_embd: 48,
        n_inner: 192,
        norm_epsilon: 1e-5,
        rope_base: config::ROPE_BASE,
        qkv_bias: true,
        tie_embeddings: false,
        dropout: 0.0,
        attention: config::Attention::default(),
        experts: None,
    }
}

/// The weights of nano-sort under GGUF's names; minGPT's linear layers are `[out, in]` already.
pub fn nano_sort(json: &Value) -> MemorySource {
    let mut source = MemorySource::default();
    let mut add = |theirs: &str, ours: &str| {
        let (shape, data) = array(json, theirs);
        source.add(ours, &shape, data);
    };
    add("transformer.wte.weight", "token_embd.weight");
    add("transformer.wpe.weight", "position_embd.weight");
    for layer in 0..3 {
        for (theirs, ours) in [
            ("ln_1", "attn_norm"),
            ("attn.c_attn", "attn_qkv"),
            ("attn.c_proj", "attn_output"),
            ("ln_2", "ffn_norm"),
            ("mlp.c_fc", "ffn_up"),
            ("mlp.c_proj", "ffn_down"),
        ] {
            for part in ["weight", "bias"] {
                add(
                    &format!("transformer.h.{layer}.{theirs}.{part}"),
                    &format!("blk.{layer}.{ours}.{part}"),
                );
            }
        }
    }
    for part in ["weight", "bias"] {
        add(&format!("transformer.ln_f.{part}"), &format!("output_norm.{part}"));
    }
    add("lm_head.weight", "output.weight");
    source
}

/// The file as JSON.
pub fn read_json(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
