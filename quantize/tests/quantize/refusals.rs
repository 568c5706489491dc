//! Refused input, and the name in the message.

use std::path::PathBuf;

use gguf::{Metadata, TensorType, Value, Writer};
use quantize::{QuantizeJob, Recipe, quantize_file};
use tempfile::TempDir;

use crate::models::{GPT2, LLAMA, Model};
use crate::oracle::llama_quantize;
use crate::{job, refusal};

#[test]
fn bad_weights_are_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let (input, output) = (dir.path().join("in.gguf"), dir.path().join("out.gguf"));
    let one = Model { layers: 1, ..GPT2 };
    for (name, value, expected) in [
        ("blk.0.ffn_up.weight", f32::NAN, "tensor blk.0.ffn_up.weight: weight 700 (row 2) is NaN"),
        ("blk.0.ffn_up.weight", 1e9, "tensor blk.0.ffn_up.weight: block 21 of Q8_0 has a scale"),
        (
            "position_embd.weight",
            f32::INFINITY,
            "tensor position_embd.weight: weight 700 is NaN, or",
        ),
    ] {
        one.write_with(&input, 1, |tensor, weights| {
            if tensor == name {
                weights[700] = value;
            }
        });
        let refused = refusal(&job(&input, &output, Recipe::Q8_0));
        assert!(refused.contains(expected), "{refused}");
        assert!(!output.exists());
        assert!(!llama_quantize(&input, &dir.path().join("theirs.gguf"), Recipe::Q8_0));
    }
}

/// A tensor is converted in slabs; the index in an error is counted from the tensor's start.
#[test]
fn bad_weights_are_counted_from_the_start_of_the_tensor() {
    let dir = TempDir::new().unwrap();
    let (input, output) = (dir.path().join("in.gguf"), dir.path().join("out.gguf"));
    let wide = Model { layers: 1, inner: 9984, ..GPT2 };
    let at = 9984 * 256 - 300;
    for (value, expected) in [
        (f32::NAN, format!("weight {at} (row {}) is NaN", at / 256)),
        (1e9, format!("block {} of Q8_0 has a scale", at / 32)),
    ] {
        wide.write_with(&input, 1, |tensor, weights| {
            if tensor == "blk.0.ffn_up.weight" {
                weights[at] = value;
            }
        });
        let refused = refusal(&job(&input, &output, Recipe::Q8_0));
        assert!(refused.contains(&expected), "{refused}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let input = path("in.gguf");
    Model { layers: 1, ..GPT2 }.write(&input, 1);
    let output = path("out.gguf");
    quantize_file(&job(&input, &output, Recipe::Q8_0)).unwrap();

    let refused = refusal(&job(&input, &output, Recipe::Q4_0));
    assert!(refused.contains("exists already; use --force"), "{refused}");
    let onto_itself = QuantizeJob { overwrite: true, ..job(&input, &input, Recipe::Q4_0) };
    assert!(refusal(&onto_itself).contains("is the input itself"));
    assert!(refusal(&job(&path("none.gguf"), &path("x"), Recipe::Q4_0)).contains("none.gguf"));
    std::fs::write(path("text.gguf"), "not a model").unwrap();
    assert!(refusal(&job(&path("text.gguf"), &path("x"), Recipe::Q4_0)).contains("no GGUF"));
    let refused = refusal(&job(&input, &path("x"), Recipe::Q2_K_S));
    assert!(refused.contains("Q2_K_S needs importance data: use --imatrix"), "{refused}");
    assert!(!llama_quantize(&input, &path("x"), Recipe::Q2_K_S));
    assert!(!path("x").exists());
}

#[test]
fn a_run_that_is_asked_to_stop_writes_nothing() {
    let dir = TempDir::new().unwrap();
    let (input, output) = (dir.path().join("in.gguf"), dir.path().join("out.gguf"));
    Model { layers: 1, ..GPT2 }.write(&input, 1);
    let job = job(&input, &output, Recipe::Q4_K_M);
    job.interrupt.request();
    let error = quantize_file(&job).unwrap_err();
    assert!(error.downcast_ref::<cli::Interrupted>().is_some(), "{error}");
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 1, "the input alone");
}

#[test]
fn quantizing_twice_is_refused_unless_nothing_changes() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    Model { layers: 1, ..GPT2 }.write(&path("in.gguf"), 1);
    quantize_file(&job(&path("in.gguf"), &path("once.gguf"), Recipe::Q8_0)).unwrap();
    let refused = refusal(&job(&path("once.gguf"), &path("twice.gguf"), Recipe::Q4_0));
    assert!(refused.contains("is Q8_0 already") && refused.contains("--requantize"), "{refused}");
    assert!(!llama_quantize(&path("once.gguf"), &path("theirs.gguf"), Recipe::Q4_0));
    quantize_file(&job(&path("once.gguf"), &path("same.gguf"), Recipe::Q8_0)).unwrap();
    let read = |name: &str| std::fs::read(path(name)).unwrap();
    assert!(read("once.gguf") == read("same.gguf"));
}

/// A GGUF with these keys and no tensors.
fn keys_only(path: &std::path::Path, keys: &[(&str, &str)]) {
    let mut metadata = Metadata::new();
    for (key, value) in keys {
        metadata.set(*key, Value::String((*value).to_owned()));
    }
    Writer::new(std::fs::File::create(path).unwrap(), &metadata, &[]).unwrap().finish().unwrap();
}

#[test]
fn a_gguf_that_holds_no_model_is_refused_by_what_it_is() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("in.gguf");
    for (keys, expected) in [
        (&[("general.type", "imatrix")][..], "a GGUF of type imatrix: expected a model"),
        (&[("general.type", "adapter"), ("general.architecture", "llama")], "type adapter"),
        (&[("general.type", "model")], "does not say what model it is"),
        (&[("general.architecture", "glm5-next")], "glm5-next keeps other tensors"),
    ] {
        keys_only(&path, keys);
        let refused = refusal(&job(&path, &dir.path().join("x"), Recipe::Q4_0));
        assert!(refused.contains(expected) && refused.contains("in.gguf"), "{refused}");
    }
}

#[test]
fn layers_that_cannot_be_are_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("in.gguf");
    let model = Model { layers: 2, rows: Some(2), matrices: TensorType::F16, ..LLAMA };
    let tensors = model.tensors();
    let mut metadata = model.metadata();
    metadata.set("llama.block_count", Value::U32(1));
    let mut writer =
        Writer::new(std::fs::File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    for (name, shape, tensor_type) in &tensors {
        writer.write_tensor(name, &vec![0; tensor_type.size_of(shape).unwrap() as usize]).unwrap();
    }
    writer.finish().unwrap();
    let refused = refusal(&job(&path, &dir.path().join("x"), Recipe::Q4_0));
    assert!(refused.contains("llama.block_count = 1: expected 2"), "{refused}");
}

#[test]
fn a_search_and_a_target_size_are_refused_for_experts() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    Model { layers: 1, experts: 3, ..LLAMA }.write(&path("in.gguf"), 1);
    std::fs::write(path("text.txt"), "the words of a text ".repeat(30)).unwrap();
    let plain = job(&path("in.gguf"), &path("out.gguf"), Recipe::Q4_0);
    let calibration = Some(quantize::CalibrationText::File(path("text.txt")));
    let search = QuantizeJob { search: true, calibration: calibration.clone(), ..plain.clone() };
    let target = Some(quantize::Target::Bits(4.5));
    for (job, what) in [
        (search, "codes are not searched"),
        (QuantizeJob { target, calibration, ..plain }, "types for a target size are not chosen"),
    ] {
        let refused = refusal(&job);
        assert!(refused.contains("_exps.weight holds 3 experts, for which"), "{refused}");
        assert!(refused.contains(what) && refused.contains("quantize imatrix"), "{refused}");
        assert!(!path("out.gguf").exists());
    }
}
