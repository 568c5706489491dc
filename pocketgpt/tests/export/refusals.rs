//! The messages for folders that cannot be exported faithfully: exit code 2, and one line that
//! names the problem. Nothing is guessed.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use super::common;
use std::fs;
use std::path::Path;

use super::{export, refusal};
use config::{Architecture, ModelConfig};
use serde_json::{Value, json};

/// A small model of a family with settings that the family takes.
fn config(architecture: Architecture) -> ModelConfig {
    ModelConfig {
        architecture,
        n_kv_head: if architecture.is_gated() { 1 } else { 2 },
        qkv_bias: architecture.block().qkv_bias,
        experts: matches!(architecture, Architecture::Qwen3Moe)
            .then_some(config::Experts { count: 3, used: 2 }),
        ..common::config(2, 8, 12)
    }
}

/// A folder with a model of one family, and a key of its `config.json` changed.
fn write(dir: &Path, architecture: Architecture, changes: &Value) {
    common::write_checkpoint(dir, &config(architecture));
    let path = dir.join("config.json");
    let mut settings: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    settings.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    fs::write(&path, settings.to_string()).unwrap();
}

/// The message for the folder `model`, which must be refused for both output formats.
fn refusal_of(dir: &Path) -> String {
    let error = refusal(dir, &["--input", "model", "--output", "model.gguf"]);
    assert!(!dir.join("model.gguf").exists());
    error
}

#[test]
fn every_family_is_exported_as_it_is() {
    for architecture in Architecture::ALL {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("model"), architecture, &json!({}));
        let output = export(folder.path(), &["--input", "model", "--output", "model.gguf"]);
        assert!(output.status.success(), "{architecture:?}: {output:?}");
    }
}

#[test]
fn settings_that_change_the_mathematics_are_refused_by_name() {
    use Architecture::{Gpt2, GptNeox, Llama, Qwen2};
    for (architecture, changes, expected) in [
        (Llama, json!({"model_type": "mamba"}), "architecture mamba is not supported"),
        (Llama, json!({"model_type": "deepseek_v3"}), "architecture deepseek_v3 is not supported"),
        (Llama, json!({"architectures": ["LlamaForSequenceClassification"]}), "LlamaForSequence"),
        (
            Llama,
            json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
            "rope_scaling.rope_type = \"dynamic\"",
        ),
        (
            Llama,
            json!({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}}),
            "rope_parameters.rope_type = \"yarn\"",
        ),
        (
            Llama,
            json!({"model_type": "mistral", "architectures": ["MistralForCausalLM"],
                "sliding_window": 4}),
            "sliding_window = 4",
        ),
        (Qwen2, json!({"use_sliding_window": true}), "use_sliding_window = true"),
        (Qwen2, json!({"layer_types": ["full_attention", "sliding_attention"]}), "layer_types"),
        (Llama, json!({"head_dim": 0}), "head_dim = 0"),
        (Llama, json!({"attention_bias": true}), "attention_bias = true"),
        (Llama, json!({"mlp_bias": true}), "mlp_bias = true"),
        (Llama, json!({"hidden_act": "gelu"}), "hidden_act = \"gelu\""),
        (Llama, json!({"num_key_value_heads": 3}), "num_key_value_heads = 3"),
        (GptNeox, json!({"use_parallel_residual": true}), "use_parallel_residual = true"),
        (GptNeox, json!({"hidden_act": "gelu"}), "hidden_act = \"gelu\""),
        (
            GptNeox,
            json!({"rotary_pct": 0.25, "rope_parameters": {"partial_rotary_factor": 0.25}}),
            "partial_rotary_factor = 0.25",
        ),
        (Gpt2, json!({"activation_function": "relu"}), "activation_function = \"relu\""),
        (Gpt2, json!({"scale_attn_by_inverse_layer_idx": true}), "scale_attn_by_inverse_layer_idx"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("model"), architecture, &changes);
        let error = refusal_of(folder.path());
        assert!(error.contains("model/config.json: "), "{changes}: {error}");
        assert!(error.contains(expected), "{changes}: {error}");
    }
}

#[test]
fn tensors_that_do_not_fit_the_settings_are_refused_by_name() {
    for (changes, expected) in [
        (
            json!({"num_hidden_layers": 3}),
            "tensor model.layers.2.input_layernorm.weight is missing",
        ),
        (json!({"num_hidden_layers": 1}), "tensor model.layers.1."),
        (json!({"num_hidden_layers": 1}), "belongs to no part of this model"),
        (json!({"tie_word_embeddings": false}), "tensor lm_head.weight is missing"),
        (
            json!({"intermediate_size": 16}),
            "mlp.gate_proj.weight has shape [12, 8], expected [16, 8]",
        ),
        (json!({"num_key_value_heads": 2}), "k_proj.weight has shape [4, 8], expected [8, 8]"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("model"), Architecture::Llama, &changes);
        let error = refusal_of(folder.path());
        assert!(error.contains(expected), "{changes}: {error}");
    }
}

/// `os.system("true")`, as `pickle` writes it in protocol 2.
const CALL: &[u8] = b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.";

#[test]
fn a_pickle_that_calls_something_is_refused_by_the_name_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    write(&model, Architecture::Llama, &json!({}));
    fs::remove_file(model.join("model.safetensors")).unwrap();
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
    let facts = b"\x80\x02}X\x0d\0\0\0little_endian\x88s.";
    let file = [magic.as_slice(), facts, CALL].concat();
    fs::write(model.join("pytorch_model.bin"), file).unwrap();
    let error = refusal_of(folder.path());
    assert!(error.contains("pytorch_model.bin: it refers to posix.system"), "{error}");
    assert!(error.contains("nothing of it was run"), "{error}");
}

#[test]
fn a_file_in_place_of_a_folder_is_told_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    for (name, content, expected) in [
        ("model.gguf", b"GGUF\x03\0\0\0".as_slice(), "is a GGUF already; use quantize"),
        ("pytorch_model.bin", b"PK\x03\x04rest", "a damaged zip archive"),
        ("old.bin", b"\x80\x02rest", "no file of torch.save"),
        ("p.gguf", b"version https://git-lfs.github.com/spec/v1\n", "p.gguf: a Git LFS pointer"),
        ("config.json", b"{\"model_type\": 1}", "is JSON; name the folder"),
        ("version1.bin", b"24ka\x01\0\0\0", "expected the first one"),
        // The width of a llama2.c model may begin with the byte of a pickle.
        ("dim640.bin", b"\x80\x02\0\0rest", "shorter than llama2.c's header"),
        ("a.safetensors", b"\x10\0\0\0\0\0\0\0{\"a\":1}", "is a safetensors file"),
    ] {
        fs::write(dir.join(name), content).unwrap();
        let error = refusal(dir, &["--input", name, "--tokenizer", "t"]);
        assert!(error.contains(expected), "{error}");
    }
    write(&dir.join("model"), Architecture::Llama, &json!({}));
    let error = refusal(dir, &["--input", "model", "--tokenizer", "t.bin"]);
    assert!(error.contains("t.bin"), "{error}");
    let error = refusal(dir, &["--input", "model", "--merge-lora", "nowhere"]);
    assert!(error.contains("cannot merge nowhere"), "{error}");
    let error = refusal(dir, &["--input", "old.bin", "--merge-lora", "nowhere"]);
    assert!(error.contains("--merge-lora is for a folder"), "{error}");
}
