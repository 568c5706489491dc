//! Files of `torch.save`: read like PyTorch without running any code, or refused.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use crate::pickle_invariant;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::torch::{archive, entries, text};
use crate::common::{family, write};
use checkpoint::{Checkpoint, Dictionary, NamedTensor, TorchFile, Weights, pickle};
use config::Architecture;
use proptest::prelude::*;
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torch").join(name)
}

/// Names, shapes and values as PyTorch has them.
fn expected() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let text = fs::read_to_string(golden("values.json")).unwrap();
    let values: Value = serde_json::from_str(&text).unwrap();
    let tensors = values["tensors"].as_object().unwrap();
    let numbers = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let tensor = |(name, value): (&String, &Value)| {
        let shape = numbers(&value["shape"]).into_iter().map(|size| size as usize).collect();
        let values = numbers(&value["values"]).into_iter().map(|x| x as f32).collect();
        (name.clone(), shape, values)
    };
    tensors.iter().map(tensor).collect()
}

#[test]
fn every_view_is_read_as_pytorch_reads_it() {
    let expected = expected();
    for file in ["views.bin", "stream.bin"] {
        let weights = Weights::open(&golden(file)).unwrap();
        assert_eq!(weights.names().len(), expected.len());
        for (name, shape, values) in &expected {
            assert_eq!(weights.shape(name).unwrap(), shape, "{file}: {name}");
            assert_eq!(&weights.read_f32(name).unwrap(), values, "{file}: {name}");
            // In parts with arbitrary boundaries.
            for first in 0..values.len() {
                for length in [1, 3, 13, values.len() - first] {
                    let length = length.min(values.len() - first);
                    let mut part = vec![0.0; length];
                    weights.read_f32_at(name, first, &mut part).unwrap();
                    assert_eq!(part, values[first..first + length], "{file}: {name}");
                }
            }
        }
    }
}

/// A small model with `pytorch_model.bin` instead of `model.safetensors`.
fn folder_of(
    architecture: Architecture,
    transposed: bool,
) -> (tempfile::TempDir, Vec<NamedTensor>) {
    let folder = tempfile::tempdir().unwrap();
    let tensors = write(folder.path(), &family(architecture));
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let bytes = archive(&entries(&tensors, transposed));
    fs::write(folder.path().join("pytorch_model.bin"), bytes).unwrap();
    (folder, tensors)
}

#[test]
fn a_folder_with_pytorch_weights_is_a_checkpoint() {
    for architecture in Architecture::ALL {
        for transposed in [false, true] {
            let (folder, tensors) = folder_of(architecture, transposed);
            let opened = Checkpoint::open(folder.path()).unwrap();
            for tensor in &tensors {
                assert_eq!(opened.weights().read_f32(&tensor.name).unwrap(), tensor.data);
                let bytes: Vec<u8> = tensor.data.iter().flat_map(|x| x.to_le_bytes()).collect();
                assert_eq!(opened.weights().bytes(&tensor.name).unwrap(), bytes);
            }
            assert!(opened.consists_of(&folder.path().join("pytorch_model.bin")));
        }
    }
}

/// The order of preference of transformers (`modeling_utils.py`).
#[test]
fn safetensors_come_before_pytorch_weights() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &family(Architecture::Llama));
    fs::write(folder.path().join("pytorch_model.bin"), "not read").unwrap();
    let opened = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(opened.weights().path().file_name().unwrap(), "model.safetensors");
}

#[test]
fn shards_of_pytorch_are_one_model() {
    let (folder, tensors) = folder_of(Architecture::Qwen2, false);
    let dir = folder.path();
    fs::remove_file(dir.join("pytorch_model.bin")).unwrap();
    let shards = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
    let (first, second) = tensors.split_at(7);
    for (name, part) in shards.iter().zip([first, second]) {
        fs::write(dir.join(name), archive(&entries(part, false))).unwrap();
    }
    let map: serde_json::Map<String, Value> = tensors
        .iter()
        .enumerate()
        .map(|(i, tensor)| (tensor.name.clone(), shards[usize::from(i >= 7)].into()))
        .collect();
    let index = serde_json::json!({ "weight_map": map });
    let path = dir.join("pytorch_model.bin.index.json");
    fs::write(&path, index.to_string()).unwrap();
    let opened = Checkpoint::open(dir).unwrap();
    for tensor in &tensors {
        assert_eq!(opened.weights().read_f32(&tensor.name).unwrap(), tensor.data);
    }
    fs::remove_file(dir.join(shards[1])).unwrap();
    let error = Checkpoint::open(dir).unwrap_err().to_string();
    assert!(error.contains(&format!("shard {} is not there", shards[1])), "{error}");
    fs::write(&path, index.to_string().replace(shards[1], "model-2-of-2.safetensors")).unwrap();
    let error = Checkpoint::open(dir).unwrap_err().to_string();
    assert!(error.contains("expected one like pytorch_model-00001-of-00002.bin"), "{error}");
}

#[test]
fn archives_that_are_not_plain_weights_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = [NamedTensor { name: "a".into(), shape: vec![2, 3], data: vec![0.5; 6] }];
    let plain = entries(&tensors, false);
    let refusal = |bytes: &[u8]| {
        let path = folder.path().join("pytorch_model.bin");
        fs::write(&path, bytes).unwrap();
        let error = Weights::open(&path).unwrap_err().to_string();
        assert!(error.contains("pytorch_model.bin: "), "{error}");
        error
    };
    type Change = fn(&mut Vec<(String, Vec<u8>)>);
    let cases: [(Change, &str); 9] = [
        (|e| e[1].1 = b"big".to_vec(), "big-endian, expected little-endian"),
        (|e| e[1].1 = b"middle".to_vec(), "neither little nor big"),
        (|e| drop(e.remove(2)), "storage 0 is not there"),
        (|e| e[2].1.truncate(20), "storage 0 has 20 bytes, expected 6 elements of F32"),
        (|e| e[0].0 = "archive/other.pkl".into(), "without data.pkl"),
        (|e| e.push(("other/data.pkl".into(), b".".to_vec())), "several data.pkl"),
        (|e| e.push(("archive/constants.pkl".into(), Vec::new())), "a TorchScript archive"),
        (|e| e[0].1 = b"\x80\x02cposix\nsystem\n)R.".to_vec(), "it refers to posix.system"),
        (|e| e[0].1 = b"\x80\x02]q\x00.".to_vec(), "it is a list, expected a dictionary"),
    ];
    for (change, expected) in cases {
        let mut entries = plain.clone();
        change(&mut entries);
        let error = refusal(&archive(&entries));
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let nested = b"\x80\x02}X\x05\x00\x00\x00model}s.".to_vec();
    let error = refusal(&archive(&[("archive/data.pkl".into(), nested)]));
    assert!(error.contains("model is a dictionary, expected a tensor"), "{error}");
    let same = [tensors[0].clone(), tensors[0].clone()];
    assert!(refusal(&archive(&entries(&same, false))).contains("tensor a is there twice"));

    let whole = archive(&plain);
    assert!(refusal(&whole[..whole.len() - 40]).contains("a damaged zip archive"));
    let mut tar = vec![0; 600];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(refusal(&tar).contains("a tar archive, as PyTorch wrote before version 0.1.10"));
    assert!(refusal(b"").contains("no file of torch.save"));
    let stream = fs::read(golden("stream.bin")).unwrap();
    assert!(refusal(&stream[..stream.len() - 1]).contains("the file ends before it does"));
    assert!(refusal(&[stream.as_slice(), b"x"].concat()).contains("bytes behind the last storage"));
}

#[test]
fn a_dictionary_below_the_root_can_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = [NamedTensor { name: "_orig_mod.a".into(), shape: vec![2], data: vec![1., 2.] }];
    let mut entries = entries(&tensors, false);
    let inner = &entries[0].1[2..];
    let inner = &inner[..inner.len() - 1];
    entries[0].1 =
        [b"\x80\x02}(", text("step").as_slice(), b"K\x07", &text("model"), inner, b"u."].concat();
    let path = folder.path().join("ckpt.pt");
    fs::write(&path, archive(&entries)).unwrap();
    let file = TorchFile::open(&path).unwrap();
    let pickle = file.parse().unwrap();
    assert_eq!(pickle.get(pickle.root(), "step"), Some(pickle::Value::Int(7)));
    drop(pickle);
    let weights = file.into_weights(Dictionary::Entry("model")).unwrap();
    assert_eq!(weights.read_f32("a").unwrap(), [1.0, 2.0]);
    let file = TorchFile::open(&path).unwrap();
    let error = file.into_weights(Dictionary::Entry("other")).unwrap_err().to_string();
    assert!(error.contains("other is nothing, expected a dictionary of tensors"), "{error}");
}

/// For any change of a file: it is refused, or every tensor can be read.
#[test]
fn damaged_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    for name in ["views.bin", "stream.bin"] {
        let whole = fs::read(golden(name)).unwrap();
        let changes = proptest::collection::vec((0..whole.len(), any::<u8>()), 1..6);
        proptest!(ProptestConfig::with_cases(500), |(changes in changes, cut in 0..4_usize)| {
            let mut bytes = whole.clone();
            changes.iter().for_each(|&(at, byte)| bytes[at] = byte);
            bytes.truncate(whole.len() - cut / 3);
            fs::write(&path, bytes).unwrap();
            if let Ok(weights) = Weights::open(&path) {
                for name in weights.names() {
                    if weights.check_float(name).is_ok() {
                        weights.read_f32(name).unwrap();
                    }
                }
            }
        });
    }
}

/// Instructions in any order: refused, or a value whose tensors are inside of their storages.
#[test]
fn any_instructions_are_refused_or_read() {
    let storage = [b"(".as_slice(), &text("storage"), b"ctorch\nFloatStorage\n", &text("0")];
    let storage = [&storage.concat(), text("cpu").as_slice(), b"K\x09tQ"].concat();
    let known: [&[u8]; 27] = [
        b"(",
        b"N",
        b"\x88",
        b")",
        b"t",
        b"\x85",
        b"\x86",
        b"]",
        b"}",
        b"a",
        b"e",
        b"s",
        b"u",
        b"q\x00",
        b"h\x00",
        b"q\x01",
        b"h\x01",
        b"R",
        b"b",
        b"Q",
        b"K\x03",
        b"0",
        b".",
        b"ccollections\nOrderedDict\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ctorch\nSize\n",
    ];
    let mut known: Vec<Vec<u8>> = known.map(<[u8]>::to_vec).to_vec();
    let view = b"ctorch._utils\n_rebuild_tensor_v2\n(";
    let whole = [view.as_slice(), &storage, b"K\x01K\x03K\x02\x86K\x01K\x03\x86NNtR"].concat();
    known.extend([storage, text("a"), whole]);
    let instructions = proptest::collection::vec(proptest::sample::select(known), 0..60);
    proptest!(ProptestConfig::with_cases(2000), |(instructions in instructions)| {
        pickle_invariant::check(&[b"\x80\x02".as_slice(), &instructions.concat(), b"."].concat());
    });
    proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..200))| {
        pickle_invariant::check(&bytes);
    });
}
