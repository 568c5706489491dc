//! Compares exact bytes with a file made by llama.cpp's own Python package, with one built by hand,
//! and with a real vocabulary.

#![allow(clippy::unwrap_used, reason = "where a test cannot go on, it fails")]

use crate::common;
use std::path::Path;

use crate::common::raw::Raw;
use gguf::{Array, GgufFile, Metadata, TensorSource, TensorType, Value, Writer, parse_header};

fn tiny_path() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny.gguf"))
}

/// The content that `golden/make_tiny.py` writes to `tiny.gguf`.
fn tiny_metadata() -> Metadata {
    let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect();
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::String("tiny".to_owned()));
    metadata.set("scalar.u8", Value::U8(200));
    metadata.set("scalar.i8", Value::I8(-100));
    metadata.set("scalar.u16", Value::U16(60_000));
    metadata.set("scalar.i16", Value::I16(-30_000));
    metadata.set("scalar.u32", Value::U32(4_000_000_000));
    metadata.set("scalar.i32", Value::I32(-2_000_000_000));
    metadata.set("scalar.f32", Value::F32(1e-5));
    metadata.set("scalar.bool", Value::Bool(true));
    metadata.set("scalar.string", Value::String("Grüße\n".to_owned()));
    metadata.set("scalar.u64", Value::U64(1 << 63));
    metadata.set("scalar.i64", Value::I64(-(1 << 62)));
    metadata.set("scalar.f64", Value::F64(0.1));
    metadata.set("array.string", Value::Array(Array::String(texts(&["a", "", "Ġthe"]))));
    metadata.set("array.i32", Value::Array(Array::I32(vec![1, -2, 3])));
    metadata.set("array.f32", Value::Array(Array::F32(vec![0.5, -1.5])));
    metadata.set("array.bool", Value::Array(Array::Bool(vec![true, false])));
    metadata
}

fn tiny_tensors() -> Vec<(common::Described, Vec<u8>)> {
    let vector = [1.0_f32, -2.0, 0.5].iter().flat_map(|x| x.to_le_bytes()).collect();
    let matrix = (0..8).flat_map(|n| half::f16::from_f32(n as f32).to_le_bytes()).collect();
    let block = [0x00, 0x3c].into_iter().chain(0..32).collect();
    vec![
        (("vector".to_owned(), vec![3], TensorType::F32), vector),
        (("matrix".to_owned(), vec![4, 2], TensorType::F16), matrix),
        (("blocks".to_owned(), vec![32, 1], TensorType::Q8_0), block),
    ]
}

#[test]
fn reads_what_the_python_package_wrote() {
    let file = GgufFile::open(tiny_path()).unwrap();
    assert_eq!(*file.metadata(), tiny_metadata());
    assert_eq!(file.tensors().len(), 3);
    for (tensor, ((name, shape, tensor_type), data)) in file.tensors().iter().zip(tiny_tensors()) {
        assert_eq!((&tensor.name, &tensor.shape), (&name, &shape));
        assert_eq!(tensor.tensor_type, tensor_type);
        assert_eq!(*file.read(tensor).unwrap(), data);
    }
    assert!(file.is_canonical());
}

#[test]
fn writes_what_the_python_package_wrote() {
    let (described, data): (Vec<_>, Vec<_>) = tiny_tensors().into_iter().unzip();
    let mut writer = Writer::new(Vec::new(), &tiny_metadata(), &described).unwrap();
    for ((name, ..), data) in described.iter().zip(&data) {
        writer.write_tensor(name, data).unwrap();
    }
    let written = writer.finish().unwrap();
    assert_eq!(written, std::fs::read(tiny_path()).unwrap());
}

#[test]
fn writes_what_the_hand_wrote() {
    let mut metadata = Metadata::new();
    metadata.set("general.alignment", Value::U32(8));
    metadata.set("array.u8", Value::Array(Array::U8(vec![7, 8])));
    metadata.set("array.u64", Value::Array(Array::U64(vec![])));
    let tensors = [
        ("a".to_owned(), vec![1], TensorType::F32),
        ("b".to_owned(), vec![1, 3], TensorType::BF16),
    ];
    let by_hand = Raw::new(2, 3)
        .key_u32("general.alignment", 8)
        .key("array.u8", 9)
        .u32(0)
        .u64(2)
        .bytes(&[7, 8])
        .key("array.u64", 9)
        .u32(10)
        .u64(0)
        .tensor("a", &[1], 0, 0)
        .tensor("b", &[1, 3], 30, 8);
    let mut expected = by_hand.0;
    expected.resize(expected.len().next_multiple_of(8), 0);
    expected.extend([0, 1, 2, 3, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0]);
    assert_eq!(common::write(&metadata, &tensors), expected);
}

#[test]
fn keys_keep_the_order_of_the_file() {
    let raw = Raw::new(0, 3).key_u32("z", 1).key_u32("a-b", 2).key_u32("m", 3);
    let (metadata, _) = parse_header(&raw.0).unwrap();
    assert_eq!(metadata.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["z", "a-b", "m"]);
}

#[test]
fn gpt2_vocabulary_reads_and_writes_equal() {
    let name = "gpt2_vocabulary_reads_and_writes_equal";
    let Some(path) = common::test_data(name, "tokenizer/ggml-vocab-gpt-2.gguf") else { return };
    let file = GgufFile::open(&path).unwrap();
    let metadata = file.metadata();
    assert_eq!(metadata.string("general.architecture").unwrap(), "gpt2");
    assert_eq!(metadata.strings("tokenizer.ggml.tokens").unwrap().len(), 50_257);
    assert_eq!(metadata.strings("tokenizer.ggml.merges").unwrap().len(), 50_000);
    // It has no tensors, and its writer did not pad it.
    assert!(file.tensors().is_empty() && !file.is_canonical());

    let folder = tempfile::tempdir().unwrap();
    let copy_path = folder.path().join("copy.gguf");
    let written = common::write(metadata, &[]);
    assert!(written.starts_with(file.bytes()));
    std::fs::write(&copy_path, &written).unwrap();
    let copy = GgufFile::open(&copy_path).unwrap();
    assert_eq!(copy.metadata(), metadata);
    assert!(copy.is_canonical());
}

#[test]
fn missing_final_padding_is_accepted() {
    let whole = std::fs::read(tiny_path()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unpadded.gguf");
    let end = whole.len() - 30;
    std::fs::write(&path, &whole[..end]).unwrap();
    let file = GgufFile::open(&path).unwrap();
    assert!(!file.is_canonical());
    let last = file.tensor("blocks").unwrap();
    assert_eq!(*file.read(last).unwrap(), whole[end - 34..end]);
}

#[test]
fn padding_that_is_not_zero_is_not_canonical() {
    let mut bytes = std::fs::read(tiny_path()).unwrap();
    let (_, layout) = parse_header(&bytes).unwrap();
    bytes[layout.data_start as usize + 12] = 1;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("padding.gguf");
    std::fs::write(&path, &bytes).unwrap();
    assert!(!GgufFile::open(&path).unwrap().is_canonical());
}

#[test]
fn tensors_at_odd_addresses_read_equal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.gguf");
    let mut metadata = Metadata::new();
    metadata.set("general.alignment", Value::U32(1));
    let tensors = [("blocks", 32, TensorType::Q8_0), ("odd", 3, TensorType::F32)]
        .map(|(name, row, tensor_type)| (name.to_owned(), vec![row], tensor_type));
    // One more key byte at a time, so that every residue of the address occurs.
    for length in 1..=4 {
        metadata.set("pad", Value::String("x".repeat(length)));
        let mut writer = Writer::new(Vec::new(), &metadata, &tensors).unwrap();
        writer.write_tensor("blocks", &[0; 34]).unwrap();
        writer.write_tensor("odd", &[0, 0, 128, 63, 0, 0, 0, 192, 0, 0, 0, 63]).unwrap();
        std::fs::write(&path, writer.finish().unwrap()).unwrap();
        let file = GgufFile::open(&path).unwrap();
        let odd = file.tensor("odd").unwrap();
        assert_eq!(gguf::read_f32(&file, odd).unwrap(), [1.0, -2.0, 0.5]);
        assert_eq!(gguf::read_f32(&file, &file.tensors()[0]).unwrap(), [0.0; 32]);
    }
}

#[test]
fn values_read_well() {
    let tokens = (0..9).map(|n| format!("t{n}")).collect();
    assert_eq!(
        Value::Array(Array::String(tokens)).to_string(),
        r#"[9 string: "t0", "t1", "t2", "t3", "t4", "t5", ...]"#
    );
    assert_eq!(Value::Array(Array::F32(vec![])).to_string(), "[0 f32]");
    assert_eq!(Value::String("\u{1b}[2J".to_owned()).to_string(), r#""\u{1b}[2J""#);
    assert_eq!(Value::String("é".repeat(61)).to_string(), format!("{:?}...", "é".repeat(60)));
    let tiny = tiny_metadata().to_string();
    assert!(tiny.contains("f32    scalar.f32           1e-5\n"), "{tiny}");
}
