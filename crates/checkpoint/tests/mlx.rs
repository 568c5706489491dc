//! Folders of mlx-lm: plain ones are read directly, quantized ones are decoded.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::path::Path;

use crate::common::{family, write};
use checkpoint::{Checkpoint, Dtype, NamedTensor};
use config::Architecture;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

const BITS: u32 = 4;
const GROUP: usize = 8;

/// A tensor as bytes.
type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

fn floats(tensor: &NamedTensor) -> Stored {
    let bytes = tensor.data.iter().flat_map(|x| x.to_le_bytes()).collect();
    (tensor.name.clone(), Dtype::F32, tensor.shape.clone(), bytes)
}

/// The parts of a matrix whose codes count up, and the weights that they represent.
fn quantized(tensor: &NamedTensor) -> (Vec<Stored>, Vec<f32>) {
    let [rows, columns] = tensor.shape[..] else { panic!("{:?}", tensor.shape) };
    let codes: Vec<u32> = (0..rows * columns).map(|i| (i * 7 % 16) as u32).collect();
    let word = |eight: &[u32]| eight.iter().rev().fold(0, |word, code| word << BITS | code);
    let words: Vec<u8> = codes.chunks(8).flat_map(|eight| word(eight).to_le_bytes()).collect();
    let groups = rows * columns / GROUP;
    let scales: Vec<f32> = (0..groups).map(|i| 0.5 + i as f32).collect();
    let biases: Vec<f32> = (0..groups).map(|i| -2.0 - i as f32).collect();
    let values = (0..rows * columns)
        .map(|i| scales[i / GROUP] * codes[i] as f32 + biases[i / GROUP])
        .collect();
    let stem = tensor.name.strip_suffix(".weight").unwrap();
    let factors = |name: &str, data: &[f32]| {
        floats(&NamedTensor {
            name: format!("{stem}.{name}"),
            shape: vec![rows, columns / GROUP],
            data: data.to_vec(),
        })
    };
    let codes = (tensor.name.clone(), Dtype::U32, vec![rows, columns / 8], words);
    (vec![codes, factors("scales", &scales), factors("biases", &biases)], values)
}

fn put(path: &Path, tensors: &[Stored]) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let metadata = [("format".to_owned(), "mlx".to_owned())].into();
    fs::write(path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
}

/// A model whose attention is quantized, and its weights as floats.
fn folder_of(quantization: Value) -> (tempfile::TempDir, Vec<NamedTensor>) {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = write(folder.path(), &family(Architecture::Llama));
    let mut stored = Vec::new();
    for tensor in &mut tensors {
        if tensor.name.contains("self_attn") {
            let (parts, values) = quantized(tensor);
            stored.extend(parts);
            tensor.data = values;
        } else {
            stored.push(floats(tensor));
        }
    }
    put(&folder.path().join("model.safetensors"), &stored);
    let path = folder.path().join("config.json");
    let mut settings: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    settings["quantization"] = quantization.clone();
    settings["quantization_config"] = quantization;
    fs::write(&path, settings.to_string()).unwrap();
    (folder, tensors)
}

#[test]
fn a_quantized_folder_is_read_as_what_it_stands_for() {
    let (folder, tensors) = folder_of(json!({ "bits": BITS, "group_size": GROUP }));
    let opened = Checkpoint::open(folder.path()).unwrap();
    for tensor in &tensors {
        assert_eq!(
            opened.weights().read_f32(&tensor.name).unwrap(),
            tensor.data,
            "{}",
            tensor.name
        );
        let bytes: Vec<u8> = tensor.data.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(opened.weights().bytes(&tensor.name).unwrap(), bytes);
    }
}

#[test]
fn other_formats_and_missing_settings_are_refused_by_name() {
    let (folder, _) = folder_of(json!({ "bits": 4, "group_size": 32, "mode": "nvfp4" }));
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.json: quantization.mode = \"nvfp4\""), "{error}");
    assert!(error.contains("before it was quantized"), "{error}");
    let (folder, _) = folder_of(Value::Null);
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("a part of quantized weights"), "{error}");
}

#[test]
fn a_plain_folder_of_mlx_is_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = write(folder.path(), &family(Architecture::Qwen2));
    let stored: Vec<Stored> = tensors.iter().map(floats).collect();
    put(&folder.path().join("model.safetensors"), &stored);
    let opened = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(opened.weights().read_f32(&tensors[3].name).unwrap(), tensors[3].data);
}
