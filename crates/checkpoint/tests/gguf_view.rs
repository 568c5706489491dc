//! A checkpoint read as a GGUF: names, order, orientation, types and keys.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use crate::common;
use std::path::Path;

use crate::common::{Altered, config, write};
use checkpoint::{Checkpoint, GgufView, gguf_config, open_source, transpose};
use config::ModelConfig;
use gguf::{GgufFile, TensorSource, TensorType, Writer};
use half::{bf16, f16};

fn view(dir: &Path, tensor_type: TensorType) -> GgufView {
    GgufView::new(Checkpoint::open(dir).unwrap(), tensor_type, "a name").unwrap()
}

fn f32s(source: &dyn TensorSource, name: &str) -> Vec<f32> {
    let tensor = source.tensor(name).unwrap();
    assert_eq!(tensor.tensor_type, TensorType::F32, "{name}");
    let bytes = source.read(tensor).unwrap();
    assert_eq!(bytes.len() as u64, tensor.size);
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Conv1D stores `[in, out]`; llama.cpp multiplies rows of `[out, in]`. Embeddings and the head are
/// stored as rows in both.
#[test]
fn matrices_that_are_not_square_are_turned_and_rows_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let weights = write(folder.path(), &config());
    let view = view(folder.path(), TensorType::F32);
    let stored = |name: &str| &weights.iter().find(|tensor| tensor.name == name).unwrap().data;

    let up = view.tensor("blk.1.ffn_up.weight").unwrap();
    assert_eq!(up.shape, [4, 6]);
    let fc = stored("transformer.h.1.mlp.c_fc.weight");
    let transposed = f32s(&view, "blk.1.ffn_up.weight");
    for (input, output) in [(0, 0), (0, 5), (3, 0), (2, 4)] {
        assert_eq!(transposed[output * 4 + input], fc[input * 6 + output]);
    }
    assert_eq!(transposed, transpose(fc, 4, 6));
    assert_eq!(f32s(&view, "token_embd.weight"), *stored("transformer.wte.weight"));
    assert_eq!(f32s(&view, "position_embd.weight"), *stored("transformer.wpe.weight"));
    assert_eq!(f32s(&view, "output.weight"), *stored("lm_head.weight"));
    assert_eq!(f32s(&view, "blk.0.attn_qkv.bias"), *stored("transformer.h.0.attn.c_attn.bias"));
}

/// More weights than are read at a time, in sizes without common divisors.
#[test]
fn a_large_matrix_is_turned_piece_by_piece() {
    let config = ModelConfig { n_layer: 1, n_embd: 1102, n_inner: 4099, ..config() };
    let folder = tempfile::tempdir().unwrap();
    let weights = write(folder.path(), &config);
    let view = view(folder.path(), TensorType::F32);
    for (gguf, hugging_face, rows) in [
        ("blk.0.ffn_up.weight", "transformer.h.0.mlp.c_fc.weight", 1102),
        ("blk.0.ffn_down.weight", "transformer.h.0.mlp.c_proj.weight", 4099),
    ] {
        let stored = &weights.iter().find(|tensor| tensor.name == hugging_face).unwrap().data;
        let expected = transpose(stored, rows, stored.len() / rows);
        assert!(f32s(&view, gguf) == expected, "{gguf}");
    }
}

#[test]
fn only_matrices_are_narrowed() {
    let folder = tempfile::tempdir().unwrap();
    let weights = write(folder.path(), &config());
    let wte = &weights[0].data;
    for (tensor_type, expected) in [
        (TensorType::F16, wte.iter().map(|&x| f16::from_f32(x).to_bits()).collect::<Vec<_>>()),
        (TensorType::BF16, wte.iter().map(|&x| bf16::from_f32(x).to_bits()).collect()),
    ] {
        let view = view(folder.path(), tensor_type);
        for tensor in view.tensors() {
            let is_matrix = tensor.shape.len() == 2 && tensor.name != "position_embd.weight";
            let expected = if is_matrix { tensor_type } else { TensorType::F32 };
            assert_eq!(tensor.tensor_type, expected, "{}", tensor.name);
        }
        let bytes = view.read(view.tensor("token_embd.weight").unwrap()).unwrap();
        let bits: Vec<u16> =
            bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        assert_eq!(bits, expected);
    }
}

#[test]
fn weights_that_no_file_should_hold_are_refused() {
    for (value, tensor_type, expected) in [
        (f32::NAN, TensorType::F32, "NaN at position 20; training went wrong"),
        (1e5, TensorType::F16, "100000 at position 20; F16 ends at 65504"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut weights = common::weights(&config());
        let fc = weights.iter_mut().find(|t| t.name.ends_with("h.1.mlp.c_fc.weight")).unwrap();
        fc.data[20] = value;
        let files = checkpoint::HuggingFaceFiles {
            config: &config(),
            weights: &weights,
            tokenizer_json: Some(common::TOKENIZER),
            tokenizer_folder: None,
        };
        checkpoint::save_hugging_face(folder.path(), false, files).unwrap();
        let view = view(folder.path(), tensor_type);
        let error = view.read(view.tensor("blk.1.ffn_up.weight").unwrap()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("transformer.h.1.mlp.c_fc.weight"), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_settings_come_back_out_of_the_keys() {
    for tie_embeddings in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let config = ModelConfig { tie_embeddings, qkv_bias: false, ..config() };
        write(folder.path(), &config);
        let view = view(folder.path(), TensorType::F32);
        let found = gguf_config(&view).unwrap();
        // In a GGUF, zeros for a bias count as a bias, and dropout is not stored.
        assert_eq!(found, ModelConfig { qkv_bias: true, dropout: 0.0, ..config });
        assert_eq!(f32s(&view, "blk.0.attn_qkv.bias"), [0.0; 12]);
    }
}

#[test]
fn keys_and_tensors_that_contradict_each_other_are_refused() {
    use gguf::Value;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config());
    let view = view(folder.path(), TensorType::F32);
    for (key, value, expected) in [
        ("general.architecture", Value::String("mamba".into()), "architecture mamba"),
        ("gpt2.block_count", Value::U32(3), "tensor blk.2.attn_norm.weight is missing"),
        ("gpt2.block_count", Value::U32(1), "blk.1.attn_norm.bias belongs to no part"),
        ("gpt2.block_count", Value::U32(u32::MAX), "gpt2.block_count = 4294967295, expected 1 to"),
        ("gpt2.attention.head_count", Value::U32(3), "expected a divisor of"),
        ("gpt2.feed_forward_length", Value::U32(7), "has shape [6, 4], expected [7, 4]"),
        ("gpt2.context_length", Value::Bool(true), "gpt2.context_length"),
    ] {
        let mut altered = Altered::new(&view);
        altered.metadata.set(key, value);
        let error = gguf_config(&altered).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_written_view_is_the_view() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("a name");
    write(&dir, &config());
    let view = view(&dir, TensorType::F32);
    let plan: Vec<_> =
        view.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), t.tensor_type)).collect();
    let mut writer = Writer::new(Vec::new(), view.metadata(), &plan).unwrap();
    for tensor in view.tensors() {
        writer.write_tensor(&tensor.name, &view.read(tensor).unwrap()).unwrap();
    }
    let path = folder.path().join("a.gguf");
    std::fs::write(&path, writer.finish().unwrap()).unwrap();

    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.layout(), view.layout());
    // A folder and the file made of it open as the same source.
    for source in [open_source(&path).unwrap(), open_source(&dir).unwrap()] {
        assert_eq!(source.metadata(), view.metadata());
        assert_eq!(source.tensors(), view.tensors());
        for tensor in source.tensors() {
            assert_eq!(source.read(tensor).unwrap(), view.read(tensor).unwrap());
        }
    }
}

#[test]
fn a_quantized_view_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config());
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let error = GgufView::new(checkpoint, TensorType::Q4_K, "a").unwrap_err().to_string();
    assert!(error.contains("tensor type = Q4_K") && error.contains("use quantize"), "{error}");
}

/// As for a file and for a folder of fragments: a description from another file does not match.
#[test]
fn a_tensor_of_another_file_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config());
    let view = view(folder.path(), TensorType::F32);
    let own = view.tensors()[0].clone();
    assert!(view.read(&own).is_ok());
    let foreign = gguf::TensorInfo { tensor_type: TensorType::F16, size: own.size / 2, ..own };
    for error in [view.read(&foreign).unwrap_err(), view.read_matrix(&foreign, 0).unwrap_err()] {
        assert!(matches!(error, gguf::GgufError::MissingTensor { .. }), "{error}");
    }
}
