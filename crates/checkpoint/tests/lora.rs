//! Adapters as peft writes them, merged into weights of both orientations, and adapters that are
//! refused.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::path::Path;

use crate::common::torch::{archive, entries};
use crate::common::{family, write};
use checkpoint::lora::{Adapter, Merged};
use checkpoint::{Checkpoint, Dtype, NamedTensor, Tensors};
use config::Architecture;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

const RANK: usize = 3;
const ALPHA: f32 = 12.0;

/// A factor with values that are exact in any order of summation.
fn factor(module: &str, letter: &str, shape: [usize; 2]) -> NamedTensor {
    let data = (0..shape[0] * shape[1]).map(|i| (i % 5) as f32 - 2.0).collect();
    let name = format!("base_model.model.{module}.lora_{letter}.weight");
    NamedTensor { name, shape: shape.to_vec(), data }
}

/// An adapter on one matrix with `inputs` and `outputs`.
fn pair(module: &str, inputs: usize, outputs: usize) -> Vec<NamedTensor> {
    vec![factor(module, "A", [RANK, inputs]), factor(module, "B", [outputs, RANK])]
}

fn settings() -> Value {
    json!({ "peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["q_proj"],
        "bias": "none", "use_dora": false, "modules_to_save": null, "rank_pattern": {} })
}

fn put(dir: &Path, settings: &Value, tensors: &[NamedTensor]) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("adapter_config.json"), settings.to_string()).unwrap();
    let views = tensors.iter().map(|tensor| {
        let bytes = bytemuck::cast_slice(&tensor.data);
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).unwrap();
        (tensor.name.as_str(), view)
    });
    let file = safetensors::serialize(views, None).unwrap();
    fs::write(dir.join("adapter_model.safetensors"), file).unwrap();
}

/// `alpha / rank * B A` at `[output, input]`.
fn delta(pair: &[NamedTensor], output: usize, input: usize) -> f32 {
    let inputs = pair[0].shape[1];
    let products =
        (0..RANK).map(|r| pair[1].data[output * RANK + r] * pair[0].data[r * inputs + input]);
    ALPHA / RANK as f32 * products.sum::<f32>()
}

#[test]
fn the_product_is_added_row_by_row_or_column_by_column() {
    for (architecture, module, inputs, outputs) in [
        (Architecture::Llama, "model.layers.1.self_attn.k_proj", 16, 8),
        (Architecture::Qwen2, "model.layers.0.mlp.down_proj", 10, 16),
        (Architecture::GptNeox, "gpt_neox.layers.1.attention.query_key_value", 16, 48),
        // Conv1D: `[in, out]`, which peft calls fan_in_fan_out.
        (Architecture::Gpt2, "transformer.h.1.mlp.c_fc", 16, 10),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (base, dir) = (folder.path().join("base"), folder.path().join("adapter"));
        let weights = write(&base, &family(architecture));
        let pair = pair(module, inputs, outputs);
        put(&dir, &settings(), &pair);
        let base = Checkpoint::open(&base).unwrap();
        let adapter = Adapter::open(&dir, base.config()).unwrap();
        let merged = Merged::new(&base, &adapter);
        let name = format!("{module}.weight");
        for tensor in &weights {
            let found = merged.data(&tensor.name).unwrap();
            if tensor.name != name {
                assert_eq!(found, tensor.data, "{}", tensor.name);
                continue;
            }
            for (i, (&found, &before)) in found.iter().zip(&tensor.data).enumerate() {
                let (row, column) = (i / tensor.shape[1], i % tensor.shape[1]);
                let delta = match architecture {
                    Architecture::Gpt2 => delta(&pair, column, row),
                    _ => delta(&pair, row, column),
                };
                assert_eq!(found, before + delta, "{name} [{row}, {column}]");
            }
        }
    }
}

/// `alpha / sqrt(rank)`, as peft's `LoraLayer` scales where `use_rslora` is set.
#[test]
fn a_rank_stabilized_adapter_is_scaled_by_the_root_of_its_rank() {
    let folder = tempfile::tempdir().unwrap();
    let (base, dir) = (folder.path().join("base"), folder.path().join("adapter"));
    let weights = write(&base, &family(Architecture::Llama));
    let pair = pair("model.layers.1.self_attn.k_proj", 16, 8);
    let mut settings = settings();
    settings["use_rslora"] = json!(true);
    put(&dir, &settings, &pair);
    let base = Checkpoint::open(&base).unwrap();
    let adapter = Adapter::open(&dir, base.config()).unwrap();
    let name = "model.layers.1.self_attn.k_proj.weight";
    let before = weights.iter().find(|tensor| tensor.name == name).unwrap();
    let found = Merged::new(&base, &adapter).data(name).unwrap().into_owned();
    for (i, (found, before)) in found.iter().zip(&before.data).enumerate() {
        let expected = before + delta(&pair, i / 16, i % 16) * (RANK as f32).sqrt();
        assert!((found - expected).abs() < 1e-5, "{i}: {found}, expected {expected}");
    }
}

/// Rows of B go where rows of the matrix go: `reshape(heads, 2, D // 2, rank).swapaxes(1, 2)` for a
/// LLaMA's queries (`LlamaModel.permute` in `conversion/llama.py` of llama.cpp).
#[test]
fn factors_of_a_gguf_have_its_order_of_rows() {
    let folder = tempfile::tempdir().unwrap();
    let pair = pair("model.layers.1.self_attn.q_proj", 16, 16);
    let mut settings = settings();
    settings["use_rslora"] = json!(true);
    put(folder.path(), &settings, &pair);
    let config = family(Architecture::Llama);
    let adapter = Adapter::open(folder.path(), &config).unwrap();
    let found = adapter.gguf_factors(&config).unwrap();
    let names: Vec<_> = found.iter().map(|factor| (factor.name.as_str(), factor.shape)).collect();
    let [a, b] = ["blk.1.attn_q.weight.lora_a", "blk.1.attn_q.weight.lora_b"];
    assert_eq!(names, [(a, [16, RANK as u64]), (b, [RANK as u64, 16])]);
    let values = |at: usize| -> Vec<f32> {
        let bytes = adapter.gguf_bytes(&found[at], gguf::TensorType::F32).unwrap();
        bytemuck::pod_collect_to_vec(&bytes)
    };
    assert_eq!(values(0), pair[0].data);
    let width = 16 / config.n_head;
    for (row, found) in values(1).chunks_exact(RANK).enumerate() {
        let (head, channel) = (row / width, row % width);
        let before = head * width + channel % 2 * (width / 2) + channel / 2;
        assert_eq!(found, &pair[1].data[before * RANK..][..RANK], "row {row}");
    }
    // llama.cpp divides by the rank.
    assert_eq!(adapter.settings().alpha_over_rank(), ALPHA * (RANK as f32).sqrt());
}

#[test]
fn an_adapter_of_another_kind_or_model_is_refused() {
    let module = "model.layers.0.self_attn.q_proj";
    let fitting = pair(module, 16, 16);
    let with = |key: &str, value: Value| {
        let mut settings = settings();
        settings[key] = value;
        settings
    };
    let cases = [
        (with("peft_type", json!("IA3")), fitting.clone(), "peft_type = IA3, expected LORA"),
        (with("bias", json!("all")), fitting.clone(), "bias = all, expected none"),
        (with("r", json!(0)), fitting.clone(), "r = 0, expected a rank of at least 1"),
        (with("r", json!(4)), fitting.clone(), "has shape [3, 16], expected [4, 16]"),
        (with("use_dora", json!(true)), fitting.clone(), "use_dora = true"),
        (with("init_lora_weights", json!("pissa")), fitting.clone(), "init_lora_weights = "),
        (with("init_lora_weights", json!("olora")), fitting.clone(), "the base as it is"),
        (with("rank_pattern", json!({ "q_proj": 2 })), fitting.clone(), "rank_pattern = "),
        (with("modules_to_save", json!(["lm_head"])), fitting.clone(), "modules_to_save = "),
        (settings(), vec![], "no factors in it"),
        (settings(), fitting[..1].to_vec(), "lora_B.weight is missing"),
        (settings(), pair(module, 16, 8), "has shape [8, 3], expected [16, 3]"),
        (settings(), pair("model.layers.2.self_attn.q_proj", 16, 16), "belongs to no part"),
        (settings(), pair("lm_head", 16, 5), "belongs to no part"),
    ];
    for (settings, tensors, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), &settings, &tensors);
        let error = Adapter::open(folder.path(), &family(Architecture::Llama)).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = Adapter::open(folder.path(), &family(Architecture::Llama)).unwrap_err();
    assert!(error.to_string().contains("adapter_config.json: not there"), "{error}");
}

/// The format of peft before version 0.6.
#[test]
fn factors_in_a_pytorch_file_are_read_where_there_is_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let pair = pair("model.layers.1.self_attn.k_proj", 16, 8);
    put(folder.path(), &settings(), &pair);
    let other = vec![factor("model.layers.0.self_attn.k_proj", "A", [RANK, 16])];
    let torch = folder.path().join("adapter_model.bin");
    fs::write(&torch, archive(&entries(&other, false))).unwrap();
    let open = || Adapter::open(folder.path(), &family(Architecture::Llama));
    let names = |adapter: Adapter| adapter.weights().names().map(str::to_owned).collect::<Vec<_>>();
    assert!(names(open().unwrap()).contains(&pair[0].name), "safetensors come first");
    fs::remove_file(folder.path().join("adapter_model.safetensors")).unwrap();
    assert!(open().unwrap_err().to_string().contains("lora_B.weight is missing"));
    fs::write(&torch, archive(&entries(&pair, true))).unwrap();
    let adapter = open().unwrap();
    for factor in &pair {
        assert_eq!(adapter.weights().read_f32(&factor.name).unwrap(), factor.data);
    }
}
