//! Experts: stored one by one or together, read one by one, and one after the other in a GGUF.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::path::Path;

use crate::common::{family, write};
use checkpoint::{Checkpoint, GgufView, NamedTensor};
use config::{Architecture, Experts, ModelConfig};
use gguf::{TensorSource, TensorType};
use safetensors::tensor::{Dtype, TensorView};

/// Three experts, two for each token.
fn mixtral() -> ModelConfig {
    let experts = Some(Experts { count: 3, used: 2 });
    ModelConfig { experts, ..family(Architecture::Llama) }
}

/// Writes the weights of a folder, by the library's own writer.
fn put(folder: &Path, tensors: &[NamedTensor]) {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|tensor| tensor.data.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
        (tensor.name.as_str(), TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).unwrap())
    });
    fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap())
        .unwrap();
}

fn refusal(folder: &Path, tensors: &[NamedTensor]) -> String {
    put(folder, tensors);
    Checkpoint::open(folder).unwrap_err().to_string()
}

/// The names of experts: the layer, then gate, up and down.
fn names(config: &ModelConfig) -> [&'static str; 4] {
    match config.architecture {
        Architecture::Llama => ["block_sparse_moe", "w1", "w3", "w2"],
        _ => ["mlp", "gate_proj", "up_proj", "down_proj"],
    }
}

/// The experts of block `i`, taken out of `tensors`: `[part][expert]`.
fn take_experts(
    tensors: &mut Vec<NamedTensor>,
    config: &ModelConfig,
    i: usize,
) -> [Vec<NamedTensor>; 3] {
    let [layer, parts @ ..] = names(config);
    parts.map(|part| {
        (0..3)
            .map(|expert| {
                let name = format!("model.layers.{i}.{layer}.experts.{expert}.{part}.weight");
                let at = tensors.iter().position(|tensor| tensor.name == name).unwrap();
                tensors.remove(at)
            })
            .collect()
    })
}

/// Matrices of equal width, one after the other, as one tensor of three dimensions.
fn joined(name: String, groups: &[Vec<&NamedTensor>]) -> NamedTensor {
    let rows: usize = groups[0].iter().map(|matrix| matrix.shape[0]).sum();
    let data = groups.iter().flatten().flat_map(|matrix| matrix.data.clone()).collect();
    NamedTensor { name, shape: vec![groups.len(), rows, groups[0][0].shape[1]], data }
}

/// The layout of transformers 5 in memory: gate and up of an expert together.
fn stacked(tensors: &[NamedTensor], config: &ModelConfig) -> Vec<NamedTensor> {
    let mut tensors = tensors.to_vec();
    for i in 0..config.n_layer {
        let [gate, up, down] = take_experts(&mut tensors, config, i);
        let experts = format!("model.layers.{i}.mlp.experts");
        let pairs: Vec<_> = gate.iter().zip(&up).map(|(gate, up)| vec![gate, up]).collect();
        let alone: Vec<_> = down.iter().map(|down| vec![down]).collect();
        tensors.push(joined(format!("{experts}.gate_up_proj"), &pairs));
        tensors.push(joined(format!("{experts}.down_proj"), &alone));
        let router = format!("model.layers.{i}.{}.gate.weight", names(config)[0]);
        let router = tensors.iter_mut().find(|tensor| tensor.name == router).unwrap();
        router.name = format!("model.layers.{i}.mlp.gate.weight");
    }
    tensors
}

/// The layout of MLX: a tensor for each of gate, up and down.
fn switched(tensors: &[NamedTensor], config: &ModelConfig) -> Vec<NamedTensor> {
    let mut tensors = tensors.to_vec();
    for i in 0..config.n_layer {
        let parts = take_experts(&mut tensors, config, i);
        for (part, experts) in ["gate_proj", "up_proj", "down_proj"].iter().zip(parts) {
            let groups: Vec<_> = experts.iter().map(|expert| vec![expert]).collect();
            let name = format!("model.layers.{i}.{}.switch_mlp.{part}.weight", names(config)[0]);
            tensors.push(joined(name, &groups));
        }
    }
    tensors
}

#[test]
fn every_layout_is_the_same_model() {
    for config in [mixtral(), family(Architecture::Qwen3Moe)] {
        let folder = tempfile::tempdir().unwrap();
        let ours = write(folder.path(), &config);
        for theirs in [stacked(&ours, &config), switched(&ours, &config)] {
            put(folder.path(), &theirs);
            let opened = Checkpoint::open(folder.path()).unwrap();
            assert_eq!(opened.config(), &config);
            for tensor in &ours {
                let found = opened.weights().read_f32(&tensor.name).unwrap();
                assert_eq!(found, tensor.data, "{}", tensor.name);
            }
        }
    }
}

#[test]
fn a_gguf_holds_the_experts_one_behind_the_other() {
    for config in [mixtral(), family(Architecture::Qwen3Moe)] {
        let folder = tempfile::tempdir().unwrap();
        let mut weights = write(folder.path(), &config);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let view = GgufView::new(checkpoint, TensorType::BF16, "model").unwrap();
        let [gate, up, down] = take_experts(&mut weights, &config, 1);
        for (part, experts) in [("gate", gate), ("up", up), ("down", down)] {
            let tensor = view.tensor(&format!("blk.1.ffn_{part}_exps.weight")).unwrap();
            let [rows, columns] = [experts[0].shape[0] as u64, experts[0].shape[1] as u64];
            assert_eq!(tensor.shape, [columns, rows, 3]);
            let all: Vec<u8> = (0..3)
                .flat_map(|index| view.read_matrix(tensor, index).unwrap().into_owned())
                .collect();
            assert!(*view.read(tensor).unwrap() == all, "{part}");
            for (index, expert) in experts.iter().enumerate() {
                let found = gguf::read_matrix_f32(&view, tensor, index).unwrap();
                // Numbers that BF16 rounds to eight bits.
                let close = |(a, b): (&f32, &f32)| (a - b).abs() <= b.abs() / 256.0;
                assert!(found.iter().zip(&expert.data).all(close), "{part} {index}");
            }
            assert!(view.read_matrix(tensor, 3).is_err());
        }
        let router = view.tensor("blk.0.ffn_gate_inp.weight").unwrap();
        assert_eq!((router.tensor_type, router.shape.as_slice()), (TensorType::F32, &[16, 3][..]));
        let found = checkpoint::gguf_config(&view).unwrap();
        assert_eq!(found, ModelConfig { dropout: 0.0, ..config });
    }
}

#[test]
fn what_does_not_fit_is_refused_by_its_name() {
    let config = family(Architecture::Qwen3Moe);
    let folder = tempfile::tempdir().unwrap();
    let ours = write(folder.path(), &config);

    let mut few = stacked(&ours, &config);
    let tensor = few.iter_mut().find(|t| t.name.ends_with("1.mlp.experts.gate_up_proj")).unwrap();
    tensor.shape[0] -= 1;
    tensor.data.truncate(2 * 20 * 16);
    let error = refusal(folder.path(), &few);
    assert!(error.contains("experts.gate_up_proj has shape [2, 20, 16]"), "{error}");
    assert!(error.contains("expected [3, 20, 16]"), "{error}");

    let mut both = ours.clone();
    both.extend(stacked(&ours, &config).into_iter().filter(|t| t.name.ends_with("gate_up_proj")));
    let error = refusal(folder.path(), &both);
    assert!(
        error.contains("model.layers.0.mlp.experts.gate_up_proj belongs to no part"),
        "{error}"
    );

    for name in ["mlp.shared_expert.up_proj", "mlp.experts.3.up_proj", "mlp.up_proj"] {
        let mut more = ours.clone();
        let name = format!("model.layers.0.{name}.weight");
        more.push(NamedTensor { name: name.clone(), ..ours[0].clone() });
        let error = refusal(folder.path(), &more);
        assert!(error.contains(&format!("{name} belongs to no part")), "{error}");
    }
    let mut fewer = ours.clone();
    fewer.retain(|tensor| !tensor.name.ends_with("0.mlp.experts.1.down_proj.weight"));
    let error = refusal(folder.path(), &fewer);
    assert!(error.contains("model.layers.0.mlp.experts.1.down_proj.weight is missing"), "{error}");
}
