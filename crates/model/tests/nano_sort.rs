//! Compares a trained model of minGPT's with every activation that PyTorch recorded for one input.
//!
//! Two JSON files: `gpt-nano-sort-model.json` maps Hugging Face's tensor names to
//! `{shape, dtype, data}` with the values as base64 of little-endian f32 (matrices as rows
//! `[out, in]`, minGPT uses `nn.Linear`; `attn.bias` is the causal mask), beside `config`.
//! `gpt-nano-sort-t0-partials.json` has the input `idx` and the activations: those from `ln1` to
//! `mlpResid` belong to block 0, `block0` to `block2` are the blocks' outputs.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::path::PathBuf;

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use checkpoint::names::{self, Orientation};
use config::{Architecture, ModelConfig};
use model::Model;
use serde_json::Value;

const TOLERANCE: f32 = 1e-4;

fn data_folder() -> PathBuf {
    std::env::var_os("POCKETGPT_TEST_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    )
}

fn read(name: &str) -> Option<Value> {
    let path = data_folder().join("nano-sort").join(name);
    let text = std::fs::read_to_string(&path).ok()?;
    Some(serde_json::from_str(&text).expect("valid JSON"))
}

fn base64(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter(|&byte| byte != b'=').map(|byte| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("not a base64 digit: {other}"),
    });
    let (mut bytes, mut bits, mut buffer) = (Vec::new(), 0, 0_u32);
    for digit in digits {
        buffer = (buffer << 6 | u32::from(digit)) & 0xFFFF;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
        }
    }
    bytes
}

fn values(tensor: &Value) -> Vec<f32> {
    let bytes = base64(tensor["data"].as_str().unwrap());
    bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn model_config(json: &Value) -> ModelConfig {
    let number = |key: &str| json[key].as_u64().unwrap() as usize;
    ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size: number("vocab_size"),
        context_length: number("block_size"),
        n_layer: number("n_layer"),
        n_head: number("n_head"),
        n_kv_head: number("n_head"),
        n_embd: number("n_embd"),
        n_inner: 4 * number("n_embd"),
        norm_epsilon: 1e-5,
        rope_base: config::ROPE_BASE,
        qkv_bias: true,
        tie_embeddings: false,
        dropout: 0.1,
        attention: config::Attention::default(),
        experts: None,
    }
}

fn load(json: &Value) -> Model {
    let config = model_config(&json["config"]);
    let table = names::tensors(&config);
    Model::load(&config, &Device::flex(), |path, shape| {
        let row = table.iter().find(|row| row.burn == path).ok_or(path.to_owned())?;
        let values = values(&json[&row.hugging_face]);
        Ok::<_, String>(match row.orientation {
            Orientation::Same => values,
            // minGPT stores every matrix as rows [out, in].
            _ => checkpoint::transpose(&values, shape[1], shape[0]),
        })
    })
    .unwrap()
}

#[test]
fn every_recorded_activation_is_matched() {
    let files = (read("gpt-nano-sort-model.json"), read("gpt-nano-sort-t0-partials.json"));
    let (Some(weights), Some(partials)) = files else {
        println!("every_recorded_activation_is_matched skipped: {:?} not found", data_folder());
        return;
    };
    let ids: Vec<i32> = values(&partials["idx"]).iter().map(|&id| id as i32).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [3, 11]), &Device::flex());
    let stages = load(&weights).stages(tokens);
    let stage = |name: &str| stages.iter().find(|stage| stage.stage.to_string() == name).unwrap();

    let recorded = [
        ("tok_emb", "token_embd"),
        ("pos_emb", "position_embd"),
        ("x", "embedding"),
        ("ln1", "blk.0.attn_norm"),
        ("attSm", "blk.0.attn_weights"),
        ("y", "blk.0.attn_heads"),
        ("yProj", "blk.0.attn_output"),
        ("attnResid", "blk.0.attn_residual"),
        ("ln2", "blk.0.ffn_norm"),
        ("fc", "blk.0.ffn_up"),
        ("gelu", "blk.0.ffn_activated"),
        ("mlp", "blk.0.ffn_down"),
        ("mlpResid", "blk.0.output"),
        ("block0", "blk.0.output"),
        ("block1", "blk.1.output"),
        ("block2", "blk.2.output"),
        ("ln_f", "output_norm"),
        ("lm_head", "logits"),
    ];
    for (theirs, ours) in recorded {
        assert_close(theirs, &stage(ours).values, &values(&partials[theirs]));
    }
    for name in ["q", "k", "v"] {
        let ours = &stage(&format!("blk.0.attn_{name}")).values;
        assert_close(name, ours, &heads_side_by_side(&values(&partials[name])));
    }

    let logits = stage("logits");
    let logits =
        Tensor::<2>::from_data(TensorData::new(logits.values.clone(), [33, 3]), &Device::flex());
    let probabilities = activation::softmax(logits, 1).into_data();
    assert_close("probs", probabilities.as_slice().unwrap(), &values(&partials["probs"]));

    // `att` is recorded before the softmax, whose result does not change if a constant is added to
    // a row; its softmax is compared as `attSm`. `qkv` is `q`, `k` and `v` side by side. Every other
    // key has been compared.
    let compared: Vec<&str> = recorded.iter().map(|&(theirs, _)| theirs).collect();
    let rest = partials.as_object().unwrap().keys().filter(|key| !compared.contains(&key.as_str()));
    assert_eq!(rest.collect::<Vec<_>>(), ["att", "config", "idx", "k", "probs", "q", "qkv", "v"]);
}

/// `[B, H, T, D]` -> `[B * T, H * D]`, for 3 rows of 11 tokens and 3 heads of 16.
fn heads_side_by_side(x: &[f32]) -> Vec<f32> {
    let rows = (0..3).flat_map(|b| (0..11).map(move |t| (b, t)));
    let heads = rows.flat_map(|(b, t)| (0..3).map(move |h| ((b * 3 + h) * 11 + t) * 16));
    heads.flat_map(|at| x[at..at + 16].iter().copied()).collect()
}

fn assert_close(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= TOLERANCE, "{name}[{i}]: {a}, recorded {b}");
    }
}
