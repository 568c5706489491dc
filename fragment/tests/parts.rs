//! A model in several GGUFs is cut as the one file that its parts make up.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use crate::common;
use std::path::{Path, PathBuf};

use crate::common::{content, metadata, write};
use fragment::{JoinJob, SplitJob, join, split};
use gguf::{Metadata, TensorType, Value, Writer};

const NAMES: [&str; 5] = ["a.weight", "b.weight", "c.bias", "d.weight", "e.weight"];
const LENGTHS: [u64; 5] = [500, 40, 2500, 300, 7];

fn described(range: std::ops::Range<usize>) -> Vec<common::Described> {
    range.map(|i| (NAMES[i].to_owned(), vec![LENGTHS[i]], TensorType::F32)).collect()
}

/// Writes part `number` of three with these tensors, as `gguf-split` does: keys in the first.
fn part(folder: &Path, number: u16, keys: &Metadata, range: std::ops::Range<usize>) -> PathBuf {
    let mut keys = keys.clone();
    keys.set("split.no", Value::U16(number));
    keys.set("split.count", Value::U16(3));
    keys.set("split.tensors.count", Value::I32(NAMES.len() as i32));
    let described = described(range.clone());
    let mut writer = Writer::new(Vec::new(), &keys, &described).unwrap();
    for (i, (name, shape, tensor_type)) in range.zip(&described) {
        writer.write_tensor(name, &content(i, tensor_type.size_of(shape).unwrap())).unwrap();
    }
    let path = folder.join(format!("model-{:05}-of-00003.gguf", number + 1));
    std::fs::write(&path, writer.finish().unwrap()).unwrap();
    path
}

fn three_parts(folder: &Path) -> [PathBuf; 3] {
    let none = Metadata::new();
    [
        part(folder, 0, &metadata(100), 0..0),
        part(folder, 1, &none, 0..3),
        part(folder, 2, &none, 3..5),
    ]
}

fn job(input: &Path, output: &Path) -> SplitJob {
    SplitJob { input: input.to_owned(), output: output.to_owned(), max_bytes: 4096, force: false }
}

#[test]
fn whichever_part_is_named_all_of_them_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("parts")).unwrap();
    let bytes = write(&at("model.gguf"), &metadata(100), &described(0..5));
    split(&job(&at("model.gguf"), &at("of-whole"))).unwrap();
    let expected = fragment::read_manifest(&at("of-whole/manifest.json")).unwrap();
    for (i, part) in three_parts(&at("parts")).iter().enumerate() {
        let pieces = at(&format!("of-part-{i}"));
        let report = split(&job(part, &pieces)).unwrap();
        assert_eq!(report.size, bytes.len() as u64);
        assert_eq!(fragment::read_manifest(&pieces.join("manifest.json")).unwrap(), expected);
        assert!(fragment::verify(&pieces).unwrap().problems.is_empty());
        let joined = at(&format!("joined-{i}.gguf"));
        join(&JoinJob { input: pieces, output: joined.clone(), force: false }).unwrap();
        assert!(std::fs::read(joined).unwrap() == bytes);
        let digests = checkpoint::hash::hash_bytes(&bytes);
        assert_eq!(fragment::digests(part).unwrap(), digests);
    }
    assert_eq!(fragment::digests(&at("model.gguf")).unwrap().size, bytes.len() as u64);
}

#[test]
fn a_missing_part_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, _] = three_parts(folder.path());
    std::fs::remove_file(&second).unwrap();
    let output = folder.path().join("pieces");
    let error = format!("{:#}", split(&job(&first, &output)).unwrap_err());
    assert!(error.contains("model-00002-of-00003.gguf is missing"), "{error}");
    assert!(!output.exists());

    let lonely = folder.path().join("renamed.gguf");
    std::fs::rename(&first, &lonely).unwrap();
    let error = format!("{:#}", split(&job(&lonely, &output)).unwrap_err());
    assert!(error.contains("one of 3 parts") && error.contains("is not called"), "{error}");
    assert!(!output.exists());
}

#[test]
fn pieces_do_not_replace_the_folder_of_another_part() {
    let folder = tempfile::tempdir().unwrap();
    let parts = folder.path().join("parts");
    std::fs::create_dir(&parts).unwrap();
    let [first, ..] = three_parts(&parts);
    let error = split(&job(&first, &parts)).unwrap_err().to_string();
    assert!(error.contains("parts"), "{error}");
    assert_eq!(std::fs::read_dir(&parts).unwrap().count(), 3);
}
