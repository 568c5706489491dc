//! A trained LLaMA of llama2.c: its 200 most likely tokens are those that llama2.c writes.
//!
//! Its file is a header of seven 32-bit integers, then all weights in f32, each kind of matrix for
//! all blocks one after the other (`export_legacy` in llama2.c's `export.py`). Rotary positions
//! rotate neighbouring channels, as here.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::collections::HashMap;
use std::path::PathBuf;

use burn::tensor::{Device, Int, Tensor, TensorData};
use config::{Architecture, ModelConfig};
use model::Model;

/// The token at the beginning of a text.
const BEGIN: i32 = 1;

fn read(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var_os("POCKETGPT_TEST_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    std::fs::read(folder.join("stories260K").join(name)).ok()
}

fn integers(bytes: &[u8]) -> Vec<i32> {
    bytes.as_chunks::<4>().0.iter().map(|&bytes| i32::from_le_bytes(bytes)).collect()
}

fn load(file: &[u8]) -> Model {
    let header = integers(&file[..28]);
    let [n_embd, n_inner, n_layer, n_head, n_kv_head, vocab_size, context_length] =
        header.iter().map(|&n| n as usize).collect::<Vec<_>>().try_into().unwrap();
    let config = ModelConfig {
        architecture: Architecture::Llama,
        vocab_size,
        context_length,
        n_layer,
        n_head,
        n_kv_head,
        n_embd,
        n_inner,
        norm_epsilon: 1e-5,
        rope_base: config::ROPE_BASE,
        qkv_bias: false,
        tie_embeddings: true,
        dropout: 0.0,
        attention: config::Attention::default(),
        experts: None,
    };
    let (c, f, kv) = (n_embd, n_inner, config.kv_width());
    let mut rest = file[28..].as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    let mut weights: HashMap<String, Vec<f32>> = HashMap::new();
    let mut take = |path: String, [rows, columns]: [usize; 2], transposed: bool| {
        let values: Vec<f32> = rest.by_ref().take(rows * columns).collect();
        let values =
            if transposed { checkpoint::transpose(&values, rows, columns) } else { values };
        weights.insert(path, values);
    };
    take("wte.weight".to_owned(), [vocab_size, c], false);
    for (name, shape) in [
        ("attn_norm.gamma", [1, c]),
        ("attn.q.weight", [c, c]),
        ("attn.k.weight", [kv, c]),
        ("attn.v.weight", [kv, c]),
        ("attn.output.weight", [c, c]),
        ("ffn_norm.gamma", [1, c]),
        ("mlp.gate.weight", [f, c]),
        ("mlp.down.weight", [c, f]),
        ("mlp.up.weight", [f, c]),
    ] {
        for i in 0..n_layer {
            take(format!("blocks.{i}.{name}"), shape, name.ends_with("weight"));
        }
    }
    take("norm.gamma".to_owned(), [1, c], false);
    Model::load(&config, &Device::flex(), |path, _| weights.remove(path).ok_or(path.to_owned()))
        .unwrap()
}

/// The text of each token (llama2.c's `tokenizer.py`: a longest length, then for each token its
/// score, length and bytes).
fn vocabulary(file: &[u8]) -> Vec<String> {
    let (mut tokens, mut rest) = (Vec::new(), &file[4..]);
    while rest.len() >= 8 {
        let len = integers(&rest[4..8])[0] as usize;
        tokens.push(String::from_utf8_lossy(&rest[8..8 + len]).into_owned());
        rest = &rest[8 + len..];
    }
    tokens
}

#[test]
fn greedy_text_is_that_of_llama2_c() {
    let files = ["stories260K.bin", "tok512.bin", "expected-greedy-200.txt"].map(read);
    let [Some(model), Some(vocabulary_file), Some(expected)] = files else {
        println!("greedy_text_is_that_of_llama2_c skipped: stories260K not found");
        return;
    };
    let (model, vocabulary) = (load(&model), vocabulary(&vocabulary_file));
    let mut tokens = vec![BEGIN];
    for _ in 0..200 {
        let shape = [1, tokens.len()];
        let window =
            Tensor::<2, Int>::from_data(TensorData::new(tokens.clone(), shape), &Device::flex());
        let next: i64 = model.next_logits(window).argmax(1).into_scalar();
        if next as i32 == BEGIN {
            break;
        }
        tokens.push(next as i32);
    }
    let text: String = tokens[1..].iter().map(|&id| vocabulary[id as usize].as_str()).collect();
    let text = text.replace("<0x0A>", "\n");
    let expected = String::from_utf8(expected).unwrap();
    assert_eq!(text.trim(), expected.trim());
}
