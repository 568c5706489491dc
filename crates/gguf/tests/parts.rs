//! A model in several files, and a file that is written in several steps.

#![allow(clippy::unwrap_used, reason = "where a test cannot go on, it fails")]

use std::fs::File;
use std::path::{Path, PathBuf};

use gguf::{
    GgufError, GgufFile, GgufParts, Layout, Metadata, TensorInfo, TensorSource, TensorType, Value,
    Writer,
};
use tempfile::TempDir;

/// Writes part `number` of `count`, with one tensor of eight weights for each name.
fn part(dir: &Path, number: u16, count: u16, names: &[&str], keys: &[(&str, Value)]) -> PathBuf {
    let mut metadata = Metadata::new();
    for (key, value) in keys {
        metadata.set(*key, value.clone());
    }
    metadata.set("split.no", Value::U16(number));
    metadata.set("split.count", Value::U16(count));
    let described: Vec<_> =
        names.iter().map(|name| ((*name).to_owned(), vec![8], TensorType::F32)).collect();
    let path = dir.join(format!("m-{:05}-of-{count:05}.gguf", number + 1));
    let mut writer = Writer::new(File::create(&path).unwrap(), &metadata, &described).unwrap();
    for name in names {
        writer.write_tensor(name, &[name.as_bytes()[0]; 32]).unwrap();
    }
    writer.finish().unwrap();
    path
}

#[test]
fn parts_read_as_the_file_that_was_cut() {
    let dir = TempDir::new().unwrap();
    let keys = [("general.name", Value::String("whole".to_owned()))];
    // The first part may hold keys only.
    let first = part(dir.path(), 0, 3, &[], &keys);
    part(dir.path(), 1, 3, &["a", "b"], &[]);
    let last = part(dir.path(), 2, 3, &["c"], &[]);
    for named in [&first, &last] {
        let model = GgufParts::open(named).unwrap();
        assert_eq!(model.files().len(), 3);
        let mut metadata = Metadata::new();
        metadata.set("general.name", keys[0].1.clone());
        assert_eq!(model.metadata(), &metadata);
        let described = ["a", "b", "c"].map(|name| (name.to_owned(), vec![8], TensorType::F32));
        assert_eq!(model.layout(), &Layout::plan(&metadata, &described).unwrap());
        for tensor in model.tensors() {
            assert_eq!(*model.read(tensor).unwrap(), [tensor.name.as_bytes()[0]; 32]);
            assert_eq!(model.tensor(&tensor.name).unwrap(), tensor);
            model.release(tensor);
            assert_eq!(*model.read(tensor).unwrap(), [tensor.name.as_bytes()[0]; 32]);
        }
        let stranger = TensorInfo { offset: 64, ..model.tensors()[0].clone() };
        assert!(matches!(model.read(&stranger), Err(GgufError::MissingTensor { .. })));
    }
}

#[test]
fn a_whole_file_is_one_part() {
    let dir = TempDir::new().unwrap();
    let path = part(dir.path(), 0, 1, &["a"], &[]);
    let (parts, file) = (GgufParts::open(&path).unwrap(), GgufFile::open(&path).unwrap());
    assert_eq!(parts.tensors(), file.tensors());
    assert_eq!(parts.metadata().len(), 0, "split.no and split.count are the file's own");
}

#[test]
fn parts_of_different_models_are_refused() {
    let dir = TempDir::new().unwrap();
    let first = part(dir.path(), 0, 2, &["a"], &[]);
    let missing = GgufParts::open(&first).unwrap_err();
    assert!(matches!(&missing, GgufError::Parts { .. }), "{missing}");
    assert!(missing.to_string().contains("m-00002-of-00002.gguf is missing"), "{missing}");

    part(dir.path(), 1, 2, &["a"], &[]);
    let twice = GgufParts::open(&first).unwrap_err();
    assert!(matches!(&twice, GgufError::InFile { source, .. }
        if matches!(**source, GgufError::DuplicateTensor { .. })));

    let second = part(dir.path(), 1, 2, &["b"], &[]);
    std::fs::copy(&first, &second).unwrap();
    let number = GgufParts::open(&first).unwrap_err().to_string();
    assert!(number.contains("split.no = 0: expected 1"), "{number}");
}

fn planned() -> Vec<(String, Vec<u64>, TensorType)> {
    vec![("a".to_owned(), vec![3], TensorType::F32), ("b".to_owned(), vec![32], TensorType::Q8_0)]
}

#[test]
fn a_tensor_in_pieces_gives_the_same_file() {
    let (a, b) = ([1; 12], [2; 34]);
    let mut whole = Writer::new(Vec::new(), &Metadata::new(), &planned()).unwrap();
    whole.write_tensor("a", &a).unwrap();
    whole.write_tensor("b", &b).unwrap();
    let whole = whole.finish().unwrap();
    for size in 1..=34 {
        let mut writer = Writer::new(Vec::new(), &Metadata::new(), &planned()).unwrap();
        for (name, bytes) in [("a", &a[..]), ("b", &b[..])] {
            assert!(!writer.is_complete());
            bytes.chunks(size).for_each(|piece| writer.write_part(name, piece).unwrap());
        }
        assert!(writer.is_complete());
        assert!(writer.finish().unwrap() == whole, "pieces of {size}");
    }
}

#[test]
fn a_piece_too_many_or_too_few_is_refused() {
    let mut writer = Writer::new(Vec::new(), &Metadata::new(), &planned()).unwrap();
    writer.write_part("a", &[0; 8]).unwrap();
    let early = writer.write_part("b", &[0; 34]).unwrap_err();
    assert!(matches!(early, GgufError::OutOfTurn { .. }), "{early}");
    let long = writer.write_part("a", &[0; 5]).unwrap_err();
    assert!(matches!(long, GgufError::WrongSize { expected: 12, found: 13, .. }), "{long}");
    let rest = writer.write_tensor("a", &[0; 3]).unwrap_err();
    assert!(matches!(rest, GgufError::WrongSize { expected: 12, found: 11, .. }), "{rest}");
    let unfinished = writer.finish().unwrap_err();
    assert!(matches!(unfinished, GgufError::Unfinished { more: 1, .. }), "{unfinished}");
}
