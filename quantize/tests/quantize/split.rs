//! Models in several files.

use std::fs::File;
use std::path::{Path, PathBuf};

use gguf::{GgufFile, Metadata, TensorSource, Value, Writer};
use quantize::{QuantizeJob, Recipe, quantize_file};
use tempfile::TempDir;

use crate::models::{GPT2, Model};
use crate::oracle::llama_quantize;
use crate::{assert_same_model, job, refusal};

/// Splits a file as `gguf-split` does: all keys in the first part, the tensors in sequence.
fn split(file: &Path, parts: usize) -> Vec<PathBuf> {
    let whole = GgufFile::open(file).unwrap();
    let stem = file.file_stem().unwrap().to_str().unwrap();
    let per_part = whole.tensors().len().div_ceil(parts);
    let part = |(i, tensors): (usize, &[gguf::TensorInfo])| {
        let mut metadata = if i == 0 { whole.metadata().clone() } else { Metadata::new() };
        metadata.set("split.no", Value::U16(i as u16));
        metadata.set("split.count", Value::U16(parts as u16));
        metadata.set("split.tensors.count", Value::I32(whole.tensors().len() as i32));
        let name = format!("{stem}-{:05}-of-{parts:05}.gguf", i + 1);
        let path = file.with_file_name(name);
        let described: Vec<_> =
            tensors.iter().map(|t| (t.name.clone(), t.shape.clone(), t.tensor_type)).collect();
        let mut writer = Writer::new(File::create(&path).unwrap(), &metadata, &described).unwrap();
        for tensor in tensors {
            writer.write_tensor(&tensor.name, &whole.read(tensor).unwrap()).unwrap();
        }
        writer.finish().unwrap();
        path
    };
    whole.tensors().chunks(per_part).enumerate().map(part).collect()
}

#[test]
fn a_model_in_parts_gives_the_file_of_the_whole() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    Model { layers: 3, ..GPT2 }.write(&path("tiny-F32.gguf"), 1);
    let parts = split(&path("tiny-F32.gguf"), 3);
    assert_eq!(parts.len(), 3);

    let report = quantize_file(&QuantizeJob::new(&parts[0], Recipe::Q4_K_M)).unwrap();
    assert_eq!(report.output, path("tiny-Q4_K_M.gguf"));
    assert!(llama_quantize(&parts[0], &path("theirs.gguf"), Recipe::Q4_K_M));
    assert_same_model("three parts", &report.output, &path("theirs.gguf"));

    quantize_file(&job(&path("tiny-F32.gguf"), &path("whole.gguf"), Recipe::Q4_K_M)).unwrap();
    // Any part identifies all of them.
    quantize_file(&job(&parts[2], &path("last.gguf"), Recipe::Q4_K_M)).unwrap();
    let read = |path: &Path| std::fs::read(path).unwrap();
    let whole = read(&path("whole.gguf"));
    assert!(whole == read(&report.output) && whole == read(&path("last.gguf")));
}

#[test]
fn parts_that_make_no_whole_are_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    Model { layers: 1, ..GPT2 }.write(&path("tiny.gguf"), 1);
    let parts = split(&path("tiny.gguf"), 3);
    let refused = || refusal(&job(&parts[0], &path("x"), Recipe::Q8_0));

    let onto_part = QuantizeJob { overwrite: true, ..job(&parts[0], &parts[1], Recipe::Q8_0) };
    assert!(refusal(&onto_part).contains("is the input itself or a part of it"));

    let (second, third) = (std::fs::read(&parts[1]).unwrap(), std::fs::read(&parts[2]).unwrap());
    std::fs::remove_file(&parts[1]).unwrap();
    assert!(refused().contains("tiny-00002-of-00003.gguf is missing"), "{}", refused());
    // Another part with its name.
    std::fs::write(&parts[1], &third).unwrap();
    assert!(refused().contains("tiny-000"), "{}", refused());
    std::fs::write(&parts[2], &second).unwrap();
    assert!(refused().contains("split.no = 2: expected 1"), "{}", refused());
    let renamed = path("renamed.gguf");
    std::fs::rename(&parts[0], &renamed).unwrap();
    let alone = refusal(&job(&renamed, &path("x"), Recipe::Q8_0));
    assert!(alone.contains("is not called NAME-00001-of-00003.gguf"), "{alone}");
    assert!(!path("x").exists());
}
