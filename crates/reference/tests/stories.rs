//! stories260K: a trained LLaMA whose 200 most likely tokens are known.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::test_data::test_data;
use config::{Architecture, ModelConfig};
use reference::{MemorySource, Model};

/// The token that every text begins with.
const BEGIN: u32 = 1;

/// Numbers one after the other, as llama2.c's `export.py` writes them.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.bytes.split_first_chunk().unwrap();
        self.bytes = rest;
        *taken
    }

    fn size(&mut self) -> usize {
        u32::from_le_bytes(self.take()) as usize
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| f32::from_le_bytes(self.take())).collect()
    }
}

/// The model in a file of llama2.c. Its queries and keys pair neighbours already, as GGUF's do.
fn stories(bytes: &[u8]) -> (ModelConfig, MemorySource) {
    let mut file = Reader { bytes };
    let [c, f, layers, heads, kv_heads, v, context] = std::array::from_fn(|_| file.size());
    let config = ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: v,
        context_length: context,
        n_layer: layers,
        n_head: heads,
        n_kv_head: kv_heads,
        n_embd: c,
        n_inner: f,
        norm_epsilon: 1e-5,
        rope_base: 1e4,
        qkv_bias: false,
        tie_embeddings: true,
        dropout: 0.0,
        attention: config::Attention::default(),
        experts: None,
    };
    let mut source = MemorySource::default();
    source.add("token_embd.weight", &[v, c], file.floats(v * c));
    let kv = config.kv_width();
    for (name, shape) in [
        ("attn_norm", &[c][..]),
        ("attn_q", &[c, c]),
        ("attn_k", &[kv, c]),
        ("attn_v", &[kv, c]),
        ("attn_output", &[c, c]),
        ("ffn_norm", &[c]),
        ("ffn_gate", &[f, c]),
        ("ffn_down", &[c, f]),
        ("ffn_up", &[f, c]),
    ] {
        // All layers of one matrix, then all layers of the next.
        for layer in 0..layers {
            let data = file.floats(shape.iter().product());
            source.add(&format!("blk.{layer}.{name}.weight"), shape, data);
        }
    }
    source.add("output_norm.weight", &[c], file.floats(c));
    (config, source)
}

/// The text of each token: a length (of the longest), then score, length and bytes of each.
fn pieces(bytes: &[u8], count: usize) -> Vec<Vec<u8>> {
    let mut file = Reader { bytes };
    file.size();
    let piece = |_| {
        file.floats(1);
        let length = file.size();
        (0..length).map(|_| file.take::<1>()[0]).collect()
    };
    (0..count).map(piece).collect()
}

/// The bytes that a token adds to a text: `<0x0A>` is a single byte.
fn shown(piece: &[u8]) -> Vec<u8> {
    let byte = std::str::from_utf8(piece)
        .ok()
        .and_then(|text| text.strip_prefix("<0x")?.strip_suffix('>'))
        .and_then(|hex| u8::from_str_radix(hex, 16).ok());
    byte.map_or_else(|| piece.to_vec(), |byte| vec![byte])
}

#[test]
fn two_hundred_tokens_are_the_expected_ones() {
    let find = |file| test_data("two_hundred_tokens_are_the_expected_ones", file);
    let Some(weights) = find("stories260K/stories260K.bin") else { return };
    let Some(tokenizer) = find("stories260K/tok512.bin") else { return };
    let Some(expected) = find("stories260K/expected-greedy-200.txt") else { return };

    let (config, source) = stories(&std::fs::read(weights).unwrap());
    let pieces = pieces(&std::fs::read(tokenizer).unwrap(), config.vocab_size);
    let mut session = Model::from_parts(config, &source).unwrap().session();
    let mut logits = session.push(&[BEGIN]).unwrap();
    let mut text = Vec::new();
    for _ in 0..200 {
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        text.extend(shown(&pieces[best]));
        logits = session.push(&[best as u32]).unwrap();
    }
    // The space before the first word is part of its token, not of the text.
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.trim_start(), std::fs::read_to_string(expected).unwrap().trim_end());
}
