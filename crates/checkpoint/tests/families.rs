//! Every family as a checkpoint and as a GGUF: names, order of rows, keys.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use crate::common;
use std::path::Path;

use crate::common::{Altered, TOKENIZER, family, write};
use checkpoint::{Checkpoint, GgufView, NamedTensor, gguf_config};
use config::{Architecture, Attention, ModelConfig, RopeScaling};
use gguf::{Metadata, TensorSource, TensorType, Value};
use half::f16;

fn view(dir: &Path, tensor_type: TensorType) -> GgufView {
    GgufView::new(Checkpoint::open(dir).unwrap(), tensor_type, "a name").unwrap()
}

fn f32s(source: &dyn TensorSource, name: &str) -> Vec<f32> {
    let bytes = source.read(source.tensor(name).unwrap()).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn stored<'a>(weights: &'a [NamedTensor], name: &str) -> &'a NamedTensor {
    weights.iter().find(|tensor| tensor.name == name).unwrap()
}

/// Rows of a tensor, in the order that `source` lists.
fn rows(tensor: &NamedTensor, source: impl Iterator<Item = usize>) -> Vec<f32> {
    let width: usize = tensor.shape[1..].iter().product();
    source.flat_map(|row| tensor.data[row * width..(row + 1) * width].to_vec()).collect()
}

/// Row `2 * i + part` of a head is row `part * D / 2 + i` of the file.
fn pairs(heads: usize, width: usize) -> impl Iterator<Item = usize> {
    (0..heads).flat_map(move |head| {
        (0..width).map(move |row| head * width + row % 2 * (width / 2) + row / 2)
    })
}

#[test]
fn every_family_is_saved_and_opens_as_the_same() {
    for architecture in Architecture::ALL {
        for (tie_embeddings, qkv_bias) in [(true, true), (false, false)] {
            let qkv_bias = qkv_bias && architecture.block().qkv_bias;
            let config = ModelConfig { tie_embeddings, qkv_bias, ..family(architecture) };
            let folder = tempfile::tempdir().unwrap();
            let weights = write(folder.path(), &config);
            let opened = Checkpoint::open(folder.path()).unwrap();
            assert_eq!(opened.config(), &config);
            assert_eq!(opened.tokenizer_json().unwrap(), TOKENIZER);
            for tensor in &weights {
                assert_eq!(opened.weights().read_f32(&tensor.name).unwrap(), tensor.data);
            }
            let view = view(folder.path(), TensorType::F32);
            let found = gguf_config(&view).unwrap();
            let expected = ModelConfig {
                // In a GGUF, zeros for a bias count as a bias, and a repeated head as a head.
                qkv_bias: architecture.block().qkv_bias,
                tie_embeddings: tie_embeddings
                    && !matches!(architecture, Architecture::GptNeox | Architecture::Olmo2),
                dropout: 0.0,
                ..config
            };
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn queries_and_keys_of_a_llama_turn_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let config = family(Architecture::Llama);
    let weights = write(folder.path(), &config);
    let view = view(folder.path(), TensorType::F32);
    let (heads, kv, width) = (config.n_head, config.n_kv_head, config.head_width());
    assert_ne!(heads, kv);
    for block in 0..config.n_layer {
        let file = |name: &str| stored(&weights, &format!("model.layers.{block}.self_attn.{name}"));
        let gguf = |name: &str| f32s(&view, &format!("blk.{block}.{name}.weight"));
        let q = file("q_proj.weight");
        assert_eq!(gguf("attn_q"), rows(q, pairs(heads, width)));
        assert_ne!(gguf("attn_q"), q.data);
        assert_eq!(gguf("attn_k"), rows(file("k_proj.weight"), pairs(kv, width)));
        assert_eq!(gguf("attn_v"), file("v_proj.weight").data);
        assert_eq!(gguf("attn_output"), file("o_proj.weight").data);
    }
    assert_eq!(
        f32s(&view, "token_embd.weight"),
        stored(&weights, "model.embed_tokens.weight").data
    );
}

#[test]
fn a_qwen2_is_stored_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let weights = write(folder.path(), &family(Architecture::Qwen2));
    let view = view(folder.path(), TensorType::F32);
    for (gguf, file) in [("attn_q", "q_proj"), ("attn_k", "k_proj"), ("attn_v", "v_proj")] {
        for kind in ["weight", "bias"] {
            let file = format!("model.layers.1.self_attn.{file}.{kind}");
            assert_eq!(f32s(&view, &format!("blk.1.{gguf}.{kind}")), stored(&weights, &file).data);
        }
    }
}

#[test]
fn the_interleaved_projection_of_gptneox_is_taken_apart() {
    let folder = tempfile::tempdir().unwrap();
    let config = family(Architecture::GptNeox);
    let weights = write(folder.path(), &config);
    let view = view(folder.path(), TensorType::F32);
    let (heads, width) = (config.n_head, config.head_width());
    let order = || {
        let parts = (0..3).flat_map(move |part| (0..heads).map(move |head| (part, head)));
        parts.flat_map(move |(part, head)| (0..width).map(move |d| (head * 3 + part) * width + d))
    };
    for kind in ["weight", "bias"] {
        let file = format!("gpt_neox.layers.1.attention.query_key_value.{kind}");
        let found = f32s(&view, &format!("blk.1.attn_qkv.{kind}"));
        assert_eq!(found, rows(stored(&weights, &file), order()), "{kind}");
    }
}

/// llama.cpp does not support a tied head in this family, transformers does.
#[test]
fn a_tied_head_of_gptneox_is_repeated_in_a_gguf_only() {
    let folder = tempfile::tempdir().unwrap();
    let config = ModelConfig { tie_embeddings: true, ..family(Architecture::GptNeox) };
    let weights = write(folder.path(), &config);
    assert!(!Checkpoint::open(folder.path()).unwrap().weights().contains("embed_out.weight"));
    let view = view(folder.path(), TensorType::F32);
    let embedding = &stored(&weights, "gpt_neox.embed_in.weight").data;
    assert_eq!(&f32s(&view, "output.weight"), embedding);
    assert_eq!(&f32s(&view, "token_embd.weight"), embedding);
}

/// The keys that llama.cpp's converter writes are equal after reading and writing them.
#[test]
fn the_factors_of_a_stretched_rotation_are_a_tensor_of_a_gguf() {
    let folder = tempfile::tempdir().unwrap();
    let rope_scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 60,
    };
    let attention = Attention { head_width: Some(14), rope_scaling, ..Attention::PLAIN };
    let config = ModelConfig { attention, rope_base: 1e4, ..family(Architecture::Llama) };
    write(folder.path(), &config);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.config().attention, config.attention);
    assert!(checkpoint.weights().names().all(|name| !name.contains("rope")));
    let view = view(folder.path(), TensorType::F16);
    let factors = f32s(&view, "rope_freqs.weight");
    // Wavelengths of 6.3 (short), 23.4, and 87 and more (long); the limits are 15 and 60.
    let middle = (60.0 / (std::f32::consts::TAU * 1e4_f32.powf(2.0 / 14.0)) - 1.0) / 3.0;
    let expected = [1.0, 1.0 / ((1.0 - middle) / 8.0 + middle), 8.0, 8.0, 8.0, 8.0, 8.0];
    assert!(factors.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{factors:?}");
    let found = gguf_config(&view).unwrap();
    assert_eq!(found.attention.rope_scaling, RopeScaling::Factors { factors });
    assert_eq!(found.attention.head_width, Some(14));
}

#[test]
fn one_factor_for_all_is_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let rope_scaling = RopeScaling::Linear { factor: 2.5 };
    let attention = Attention { rope_scaling, ..Attention::PLAIN };
    let config = ModelConfig { attention, ..family(Architecture::Qwen2) };
    write(folder.path(), &config);
    let view = view(folder.path(), TensorType::F32);
    assert_eq!(view.metadata().float("qwen2.rope.scaling.factor").unwrap(), 2.5);
    assert_eq!(gguf_config(&view).unwrap().attention, config.attention);
}

/// More rows than are read at a time, all of them moved.
#[test]
fn a_large_query_matrix_is_reordered_piece_by_piece() {
    let config = ModelConfig {
        n_layer: 1,
        n_head: 2,
        n_kv_head: 1,
        n_embd: 2060,
        n_inner: 1,
        ..family(Architecture::Llama)
    };
    let folder = tempfile::tempdir().unwrap();
    let weights = write(folder.path(), &config);
    let q = stored(&weights, "model.layers.0.self_attn.q_proj.weight");
    let expected = rows(q, pairs(2, 1030));
    assert!(f32s(&view(folder.path(), TensorType::F32), "blk.0.attn_q.weight") == expected);
}

#[test]
fn reordered_rows_are_narrowed_and_held_against_their_format() {
    let folder = tempfile::tempdir().unwrap();
    let config = ModelConfig { n_layer: 1, ..family(Architecture::Llama) };
    let mut weights = write(folder.path(), &config);
    let q = "model.layers.0.self_attn.q_proj.weight";
    let view = || view(folder.path(), TensorType::F16);
    let bytes = view().read(view().tensor("blk.0.attn_q.weight").unwrap()).unwrap().into_owned();
    let found: Vec<f16> = bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
    let expected = rows(stored(&weights, q), pairs(config.n_head, config.head_width()));
    assert_eq!(found, expected.into_iter().map(f16::from_f32).collect::<Vec<_>>());

    weights.iter_mut().find(|tensor| tensor.name == q).unwrap().data[21] = 1e6;
    common::write_weights(folder.path(), &config, &weights);
    let error = view().read(view().tensor("blk.0.attn_q.weight").unwrap()).unwrap_err();
    let error = error.to_string();
    assert!(error.contains(&format!("{q}: 1000000 at position 21; F16 ends at 65504")), "{error}");
}

fn metadata_with(view: &GgufView, changes: &[(&str, Option<Value>)]) -> Metadata {
    let mut metadata = Metadata::new();
    for (key, value) in view.metadata().iter() {
        if !changes.iter().any(|(changed, _)| *changed == key) {
            metadata.set(key, value.clone());
        }
    }
    for (key, value) in changes {
        if let Some(value) = value {
            metadata.set(*key, value.clone());
        }
    }
    metadata
}

#[test]
fn keys_that_have_a_default_may_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let config = ModelConfig { n_kv_head: 4, ..family(Architecture::Llama) };
    write(folder.path(), &config);
    let view = view(folder.path(), TensorType::F32);
    let metadata = metadata_with(
        &view,
        &[
            ("llama.attention.head_count_kv", None),
            ("llama.rope.freq_base", None),
            ("llama.rope.dimension_count", None),
            ("llama.vocab_size", None),
            // Keys that converters of their time also wrote.
            ("llama.tensor_data_layout", Some(Value::String("Meta AI original pth".into()))),
            ("llama.attention.key_length", Some(Value::U32(4))),
            ("llama.attention.value_length", Some(Value::U64(4))),
            ("llama.rope.scaling.type", Some(Value::String("none".into()))),
            ("llama.rope.scale_linear", Some(Value::F32(1.0))),
            ("llama.expert_count", Some(Value::U32(0))),
            ("llama.attention.sliding_window", Some(Value::U32(7))),
        ],
    );
    let found = gguf_config(&Altered { metadata, ..Altered::new(&view) }).unwrap();
    assert_eq!(found, ModelConfig { dropout: 0.0, rope_base: config::ROPE_BASE, ..config });
}

#[test]
fn what_a_key_asks_for_and_is_not_computed_is_refused() {
    let text = |text: &str| Some(Value::String(text.to_owned()));
    for (architecture, key, value) in [
        (Architecture::Llama, "rope.dimension_count", Some(Value::U32(2))),
        (Architecture::Llama, "attention.key_length", Some(Value::U32(3))),
        (Architecture::Qwen2, "attention.key_length", Some(Value::U32(8))),
        (Architecture::Llama, "attention.value_length", Some(Value::U32(8))),
        (Architecture::Llama, "attention.sliding_window", Some(Value::U32(6))),
        (Architecture::Llama, "attention.causal", Some(Value::Bool(false))),
        (Architecture::Llama, "rope.scaling.type", text("yarn")),
        (Architecture::Llama, "rope.scaling.factor", Some(Value::F32(-8.0))),
        (Architecture::Llama, "rope.scale_linear", Some(Value::F32(0.5))),
        (Architecture::Llama, "rope.scaling.attn_factor", Some(Value::F32(1.5))),
        (Architecture::Llama, "rope.freq_base", Some(Value::F32(0.0))),
        (Architecture::Llama, "expert_count", Some(Value::U32(8))),
        (Architecture::Llama, "expert_used_count", Some(Value::U32(2))),
        (Architecture::Llama, "attention.head_count_kv", Some(Value::U32(3))),
        (Architecture::Llama, "logit_scale", Some(Value::F32(0.5))),
        (Architecture::GptNeox, "use_parallel_residual", Some(Value::Bool(true))),
        (Architecture::GptNeox, "use_parallel_residual", None),
        (Architecture::GptNeox, "rope.dimension_count", Some(Value::U32(1))),
        (Architecture::GptNeox, "attention.head_count_kv", Some(Value::U32(2))),
        (Architecture::Qwen2, "attention.sliding_window", Some(Value::U32(1))),
        (Architecture::Qwen2, "attention.layer_norm_rms_epsilon", None),
        (Architecture::Qwen2, "expert_count", Some(Value::U32(8))),
        (Architecture::Qwen3Moe, "expert_count", None),
        (Architecture::Qwen3Moe, "expert_count", Some(Value::U32(513))),
        (Architecture::Qwen3Moe, "expert_used_count", Some(Value::U32(4))),
        (Architecture::Qwen3Moe, "expert_shared_count", Some(Value::U32(1))),
        (Architecture::Qwen3Moe, "expert_gating_func", Some(Value::U32(2))),
        (Architecture::Qwen3Moe, "expert_weights_norm", Some(Value::Bool(false))),
        (Architecture::Qwen3Moe, "expert_weights_scale", Some(Value::F32(2.5))),
        (Architecture::Qwen3Moe, "expert_group_count", Some(Value::U32(4))),
        (Architecture::Qwen3Moe, "expert_chunk_feed_forward_length", Some(Value::U32(4))),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &family(architecture));
        let view = view(folder.path(), TensorType::F32);
        let key = format!("{}.{key}", architecture.name());
        let metadata = metadata_with(&view, &[(key.as_str(), value)]);
        let altered = Altered { metadata, ..Altered::new(&view) };
        let error = gguf_config(&altered).unwrap_err().to_string();
        assert!(error.contains(&key), "{key}: {error}");
    }
}

#[test]
fn tensors_of_later_models_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &family(Architecture::Llama));
    let view = view(folder.path(), TensorType::F32);
    for (name, reason) in [
        ("rope_freqs.weight", "has shape [16], expected [2]"),
        ("blk.0.attn_output.bias", "belongs to no part of this model"),
        ("blk.1.attn_q_norm.weight", "belongs to no part of this model"),
    ] {
        let mut altered = Altered::new(&view);
        let tensor = gguf::TensorInfo { name: name.to_owned(), ..altered.tensors[1].clone() };
        altered.tensors.push(tensor);
        let error = gguf_config(&altered).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(reason), "{error}");
    }
    // llama.cpp also reads a llama with biases on query, key and value.
    let mut altered = Altered::new(&view);
    for block in 0..2 {
        for (letter, width) in [("q", 16), ("k", 8), ("v", 8)] {
            let name = format!("blk.{block}.attn_{letter}.bias");
            let tensor =
                gguf::TensorInfo { name, shape: vec![width], ..altered.tensors[1].clone() };
            altered.tensors.push(tensor);
        }
    }
    assert!(gguf_config(&altered).unwrap().qkv_bias);
}
