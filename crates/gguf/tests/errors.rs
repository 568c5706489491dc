//! One invalid file for every reason of refusal, for reading and, where it applies, for writing.

#![allow(clippy::unwrap_used, reason = "where a test cannot go on, it fails")]

use crate::common;
use std::path::Path;

use crate::common::raw::Raw;
use gguf::{Array, GgufError, GgufFile, Layout, Metadata, TensorType, Value, Writer, parse_header};

/// Asserts that the bytes are refused for the given reason, with a message that contains `hint`.
macro_rules! refused {
    ($raw:expr, $pattern:pat, $hint:expr) => {{
        let error = parse_header(&$raw.0).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, $pattern), "another reason: {text}");
        assert!(text.contains($hint), "no {:?} in: {text}", $hint);
    }};
}

/// The same for a plan.
macro_rules! unplannable {
    ($metadata:expr, $tensors:expr, $pattern:pat) => {{
        let error = Layout::plan(&$metadata, &$tensors).unwrap_err();
        assert!(matches!(error, $pattern), "another reason: {error}");
    }};
}

fn tensor(name: &str, shape: &[u64], tensor_type: TensorType) -> common::Described {
    (name.to_owned(), shape.to_vec(), tensor_type)
}

fn metadata(key: &str, value: Value) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set(key, value);
    metadata
}

/// Writes `bytes` to a file and opens it.
fn open(bytes: &[u8]) -> Result<GgufFile, GgufError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    GgufFile::open(&path)
}

#[test]
fn io() {
    let missing = GgufFile::open(Path::new("no/such/model.gguf")).unwrap_err();
    assert!(matches!(missing, GgufError::Io { .. }));
    assert!(missing.to_string().starts_with("no/such/model.gguf: "), "{missing}");
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(GgufFile::open(folder.path()).unwrap_err(), GgufError::Io { .. }));
}

#[test]
fn in_file_names_the_file() {
    let error = open(b"nonsense").unwrap_err();
    assert!(matches!(&error, GgufError::InFile { source, .. }
        if matches!(**source, GgufError::NotGguf { .. })));
    assert!(error.to_string().contains("model.gguf: this is no GGUF"), "{error}");
}

#[test]
fn write_fails() {
    let full: &mut [u8] = &mut [];
    let error = Writer::new(full, &Metadata::new(), &[]).unwrap_err();
    assert!(matches!(error, GgufError::Write { .. }));
}

#[test]
fn not_gguf_says_what_it_is() {
    let safetensors = b"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}".to_vec();
    refused!(Raw(safetensors), GgufError::NotGguf { .. }, "safetensors");
    refused!(Raw(b"PK\x03\x04....".to_vec()), GgufError::NotGguf { .. }, "zip");
    refused!(Raw(b"\x80\x02}q\0.".to_vec()), GgufError::NotGguf { .. }, "pickle");
    refused!(Raw(b"{\"model_type\"".to_vec()), GgufError::NotGguf { .. }, "JSON");
    refused!(Raw(b"version https://git-lfs.".to_vec()), GgufError::NotGguf { .. }, "git lfs pull");
    refused!(Raw(b"<!DOCTYPE html>".to_vec()), GgufError::NotGguf { .. }, "download failed");
    refused!(Raw(b"tjgg\x03\0\0\0".to_vec()), GgufError::NotGguf { .. }, "before GGUF");
    refused!(Raw(vec![0; 100]), GgufError::NotGguf { .. }, "unfinished download");
    refused!(Raw(b"Once upon a time".to_vec()), GgufError::NotGguf { .. }, "another kind");
    refused!(Raw(b"GGU?".to_vec()), GgufError::NotGguf { .. }, "another kind");
}

#[test]
fn version() {
    for version in [0, 1, 2, 4, u32::MAX] {
        let raw = Raw(b"GGUF".to_vec()).u32(version).u64(0).u64(0);
        refused!(raw, GgufError::Version { .. }, "expected version 3");
    }
}

#[test]
fn big_endian() {
    let raw = Raw(b"GGUF\0\0\0\x03".to_vec()).u64(0).u64(0);
    refused!(raw, GgufError::BigEndian, "gguf_convert_endian.py");
}

#[test]
fn truncated_at_every_byte() {
    let whole = Raw::new(2, 2)
        .key("list", 9)
        .u32(8)
        .u64(2)
        .text(b"one")
        .text(b"")
        .key_u32("n", 7)
        .tensor("a", &[32, 2], 8, 0)
        .tensor("b", &[3], 0, 96)
        .data(96 + 12);
    let header_end = whole.0.len() - (96 + 12);
    let described = parse_header(&whole.0).unwrap().1;
    for length in 0..whole.0.len() {
        let part = &whole.0[..length];
        match parse_header(part) {
            Ok((_, layout)) => assert_eq!(layout, described),
            Err(error) => {
                assert!(matches!(error, GgufError::Truncated { .. }), "{length}: {error}");
                assert!(length < header_end);
            }
        }
        let error = open(part).unwrap_err();
        assert!(
            matches!(&error, GgufError::InFile { source, .. }
            if matches!(**source, GgufError::Truncated { .. })),
            "{length}: {error}"
        );
    }
    assert!(open(&whole.0).is_ok());
}

#[test]
fn truncated_names_the_tensor() {
    let error = open(&Raw::new(1, 0).tensor("a", &[8], 0, 0).data(31).0).unwrap_err();
    assert!(error.to_string().contains("tensor a starts at byte 64"), "{error}");
    assert!(error.to_string().contains("needs at least 32 bytes, 31 are left"), "{error}");
}

#[test]
fn trailing_bytes() {
    let raw = Raw::new(1, 0).tensor("a", &[8], 0, 0).data(33);
    let error = open(&raw.0).unwrap_err();
    assert!(error.to_string().contains("1 bytes follow the last tensor"), "{error}");
    assert!(matches!(&error, GgufError::InFile { source, .. }
        if matches!(**source, GgufError::TrailingBytes { expected: 96, extra: 1 })));
}

#[test]
fn absurd_counts() {
    refused!(Raw::new(u64::MAX, 0), GgufError::TooMany { .. }, "tensors");
    refused!(Raw::new(0, u64::MAX), GgufError::TooMany { .. }, "keys");
    // Within the limit, but more than the file has bytes for.
    refused!(Raw::new(1_000_000, 0), GgufError::Truncated { .. }, "1000000 tensors");
    refused!(Raw::new(0, 100_000), GgufError::Truncated { .. }, "100000 keys");
}

#[test]
fn absurd_lengths() {
    for length in [1 << 20, 1 << 40, u64::MAX] {
        let key = Raw::new(0, 1).u64(length).bytes(&[b'k'; 32]);
        refused!(key, GgufError::NameTooLong { .. }, "key 0");
        let name = Raw::new(1, 0).u64(length).bytes(&[b't'; 64]);
        refused!(name, GgufError::NameTooLong { .. }, "tensor 0");
    }
    refused!(Raw::new(0, 1).key("k", 8).u64(1 << 20), GgufError::Truncated { .. }, "key k");
    refused!(Raw::new(0, 1).key("k", 9).u32(0).u64(1 << 20), GgufError::Truncated { .. }, "key k");
    refused!(Raw::new(0, 1).key("k", 9).u32(8).u64(1 << 20), GgufError::Truncated { .. }, "key k");
    // A text in an array with a length as large as the rest of the address space.
    let inner = Raw::new(0, 1).key("k", 9).u32(8).u64(1).u64(1 << 27).bytes(b"short");
    refused!(inner, GgufError::Truncated { .. }, "key k");
}

#[test]
fn value_too_large() {
    for length in [1 << 40, u64::MAX] {
        let text = Raw::new(0, 1).key("k", 8).u64(length);
        refused!(text, GgufError::ValueTooLarge { .. }, "key k");
        for element in [0, 7, 8, 12] {
            let array = Raw::new(0, 1).key("k", 9).u32(element).u64(length);
            refused!(array, GgufError::ValueTooLarge { .. }, "key k");
        }
    }
    let large = metadata("k", Value::Array(Array::U8(vec![0; 12_000_000])));
    unplannable!(large, [], GgufError::ValueTooLarge { .. });
}

#[test]
fn names() {
    for name in ["", "a\0b", "line\nbreak", "\u{1b}[2J"] {
        refused!(Raw::new(0, 1).key_u32(name, 1).u32(0), GgufError::BadName { .. }, "key 0");
        let raw = Raw::new(1, 0).tensor(name, &[1], 0, 0).u32(0);
        refused!(raw, GgufError::BadName { .. }, "tensor 0");
        let escaped = parse_header(&Raw::new(0, 1).key_u32(name, 1).u32(0).0).unwrap_err();
        assert!(!escaped.to_string().chars().any(char::is_control));
        unplannable!(metadata(name, Value::U8(1)), [], GgufError::BadName { .. });
        let tensors = [tensor(name, &[1], TensorType::F32)];
        unplannable!(Metadata::new(), tensors, GgufError::BadName { .. });
    }
}

#[test]
fn name_too_long() {
    let (longest, too_long) = ("n".repeat(63), "n".repeat(64));
    assert!(parse_header(&Raw::new(1, 0).tensor(&longest, &[1], 0, 0).0).is_ok());
    let raw = Raw::new(1, 0).tensor(&too_long, &[1], 0, 0);
    refused!(raw, GgufError::NameTooLong { .. }, "64 bytes, expected at most 63");
    let tensors = [tensor(&too_long, &[1], TensorType::F32)];
    unplannable!(Metadata::new(), tensors, GgufError::NameTooLong { .. });
    let key = metadata(&"k".repeat(65_536), Value::U8(1));
    unplannable!(key, [], GgufError::NameTooLong { .. });
}

#[test]
fn name_not_utf8() {
    let key = Raw::new(0, 1).text(b"\xff\xfe").u32(4).u32(0);
    refused!(key, GgufError::NameNotUtf8 { .. }, "key 0");
    let name = Raw::new(1, 0).text(b"\xff\xfe").bytes(&[0; 24]);
    refused!(name, GgufError::NameNotUtf8 { .. }, "tensor 0");
}

#[test]
fn duplicate_key() {
    let raw = Raw::new(0, 3).key_u32("k", 1).key_u32("l", 1).key_u32("k", 1);
    refused!(raw, GgufError::DuplicateKey { .. }, "key k is there twice");
}

#[test]
fn unknown_value_type() {
    let raw = Raw::new(0, 1).key("k", 13).u32(0);
    refused!(raw, GgufError::UnknownValueType { id: 13, .. }, "key k");
    let element = Raw::new(0, 1).key("k", 9).u32(99).u64(0);
    refused!(element, GgufError::UnknownValueType { id: 99, .. }, "key k");
}

#[test]
fn nested_array() {
    let mut raw = Raw::new(0, 1).key("k", 9);
    for _ in 0..100_000 {
        raw = raw.u32(9).u64(1);
    }
    refused!(raw, GgufError::NestedArray { .. }, "key k");
}

#[test]
fn malformed_value() {
    let text = Raw::new(0, 1).key("k", 8).text(b"\xff");
    refused!(text, GgufError::Malformed { .. }, "key k is malformed");
    let truth = Raw::new(0, 1).key("k", 7).bytes(&[2]);
    refused!(truth, GgufError::Malformed { .. }, "key k is malformed");
    let inner = Raw::new(0, 1).key("k", 9).u32(7).u64(2).bytes(&[1, 2]);
    refused!(inner, GgufError::Malformed { .. }, "key k is malformed");
}

#[test]
fn bad_alignment() {
    for bytes in [0, 24, 33, 1 << 21, u32::MAX] {
        let raw = Raw::new(0, 1).key_u32("general.alignment", bytes);
        refused!(raw, GgufError::BadAlignment { .. }, "expected a u32 power of two");
        let planned = metadata("general.alignment", Value::U32(bytes));
        unplannable!(planned, [], GgufError::BadAlignment { .. });
    }
    let wide = Raw::new(0, 1).key("general.alignment", 10).u64(32);
    refused!(wide, GgufError::BadAlignment { .. }, "is u64 32");
    for bytes in [1, 8, 64, 1 << 20] {
        let raw = Raw::new(0, 1).key_u32("general.alignment", bytes);
        assert_eq!(parse_header(&raw.0).unwrap().1.alignment, u64::from(bytes));
    }
}

#[test]
fn duplicate_tensor() {
    let raw = Raw::new(2, 0).tensor("a", &[8], 0, 0).tensor("a", &[8], 0, 32);
    refused!(raw, GgufError::DuplicateTensor { .. }, "tensor a is there twice");
    let twice = [tensor("a", &[8], TensorType::F32), tensor("a", &[1], TensorType::F16)];
    unplannable!(Metadata::new(), twice, GgufError::DuplicateTensor { .. });
}

#[test]
fn dimension_count() {
    let none = Raw::new(1, 0).tensor("a", &[], 0, 0).bytes(&[0; 16]);
    refused!(none, GgufError::DimensionCount { count: 0, .. }, "tensor a");
    let five = Raw::new(1, 0).tensor("a", &[1; 5], 0, 0);
    refused!(five, GgufError::DimensionCount { count: 5, .. }, "expected 1 to 4");
    let many = Raw::new(1, 0).text(b"a").u32(u32::MAX).bytes(&[0; 64]);
    refused!(many, GgufError::DimensionCount { .. }, "tensor a");
    let tensors = [tensor("a", &[], TensorType::F32)];
    unplannable!(Metadata::new(), tensors, GgufError::DimensionCount { .. });
}

#[test]
fn empty_tensor() {
    let raw = Raw::new(1, 0).tensor("a", &[4, 0], 0, 0);
    refused!(raw, GgufError::EmptyTensor { .. }, "[4, 0]");
}

#[test]
fn tensor_too_large() {
    for shape in [vec![1 << 63], vec![u64::MAX], vec![1 << 32, 1 << 31], vec![1 << 62, 1, 1, 4]] {
        let raw = Raw::new(1, 0).tensor("a", &shape, 0, 0);
        refused!(raw, GgufError::TensorTooLarge { .. }, "expected a size below 2^63");
    }
    // Fewer than 2^63 weights, more bytes than that.
    let raw = Raw::new(1, 0).tensor("a", &[1 << 62], 0, 0);
    refused!(raw, GgufError::TensorTooLarge { .. }, "tensor a");
}

#[test]
fn file_too_large() {
    let raw = Raw::new(2, 0).tensor("a", &[1 << 60], 0, 0).tensor("b", &[1 << 60], 0, 1 << 62);
    refused!(raw, GgufError::FileTooLarge, "2^63");
}

#[test]
fn unknown_tensor_type() {
    let iq3_s = Raw::new(1, 0).tensor("a", &[256], 21, 0);
    refused!(iq3_s, GgufError::UnknownTensorType { id: 21, .. }, "stored as IQ3_S (type 21)");
    for id in [4, 43, 1000, u32::MAX] {
        let raw = Raw::new(1, 0).tensor("a", &[256], id, 0);
        refused!(raw, GgufError::UnknownTensorType { .. }, "an unknown format");
    }
}

#[test]
fn partial_block() {
    let raw = Raw::new(1, 0).tensor("a", &[48, 2], 8, 0);
    refused!(raw, GgufError::PartialBlock { .. }, "rows of 48 weights");
    let tensors = [tensor("a", &[128], TensorType::Q4_K)];
    unplannable!(Metadata::new(), tensors, GgufError::PartialBlock { block: 256, .. });
}

#[test]
fn overlap() {
    let same = Raw::new(2, 0).tensor("a", &[16], 0, 0).tensor("b", &[1], 0, 0);
    refused!(same, GgufError::Overlap { expected: 64, .. }, "tensor b");
    let partly = Raw::new(2, 0).tensor("a", &[16], 0, 0).tensor("b", &[1], 0, 32);
    refused!(partly, GgufError::Overlap { offset: 32, .. }, "overlaps");
}

#[test]
fn gap() {
    let late = Raw::new(1, 0).tensor("a", &[1], 0, 32);
    refused!(late, GgufError::Gap { expected: 0, .. }, "tensor a");
    let unaligned = Raw::new(2, 0).tensor("a", &[1], 0, 0).tensor("b", &[1], 0, 33);
    refused!(unaligned, GgufError::Gap { expected: 32, .. }, "tensor b");
    let far = Raw::new(1, 0).tensor("a", &[1], 0, u64::MAX);
    refused!(far, GgufError::Gap { .. }, "no file with gaps");
}

#[test]
fn foreign_metadata() {
    let layout = Layout::plan(&Metadata::new(), &[]).unwrap();
    let other = metadata("general.name", Value::String("another model".to_owned()));
    let error = layout.header(&other).unwrap_err();
    assert!(matches!(error, GgufError::ForeignMetadata { expected: 32, .. }));
}

#[test]
fn out_of_turn() {
    let tensors = [tensor("a", &[1], TensorType::F32), tensor("b", &[1], TensorType::F32)];
    let mut writer = Writer::new(Vec::new(), &Metadata::new(), &tensors).unwrap();
    let error = writer.write_tensor("b", &[0; 4]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor b was written where a is due: expected the planned order"
    );
    writer.write_tensor("a", &[0; 4]).unwrap();
    writer.write_tensor("b", &[0; 4]).unwrap();
    let error = writer.write_tensor("b", &[0; 4]).unwrap_err();
    assert!(matches!(error, GgufError::OutOfTurn { .. }));
    assert!(error.to_string().contains("no further tensor is due"), "{error}");
}

#[test]
fn wrong_size() {
    let tensors = [tensor("a", &[32], TensorType::Q8_0)];
    let mut writer = Writer::new(Vec::new(), &Metadata::new(), &tensors).unwrap();
    let error = writer.write_tensor("a", &[0; 32]).unwrap_err();
    assert!(matches!(error, GgufError::WrongSize { expected: 34, found: 32, .. }));
}

#[test]
fn unfinished() {
    let tensors = [tensor("a", &[1], TensorType::F32), tensor("b", &[1], TensorType::F32)];
    let writer = Writer::new(Vec::new(), &Metadata::new(), &tensors).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(matches!(&error, GgufError::Unfinished { next, more: 1 } if next == "a"), "{error}");
}

#[test]
fn asked_and_not_there() {
    use gguf::TensorSource;
    let file = open(&Raw::new(1, 1).key_u32("k", 1).tensor("a", &[8], 0, 0).data(32).0).unwrap();
    assert!(matches!(file.tensor("b").unwrap_err(), GgufError::MissingTensor { .. }));
    let missing = file.metadata().string("no.such").unwrap_err();
    assert!(matches!(missing, GgufError::MissingKey { .. }));
    let wrong = file.metadata().string("k").unwrap_err();
    assert!(matches!(wrong, GgufError::WrongValueType { .. }));
    // A tensor of another file.
    let mut foreign = file.tensor("a").unwrap().clone();
    foreign.offset = 32;
    assert!(matches!(file.read(&foreign).unwrap_err(), GgufError::MissingTensor { .. }));
    assert!(matches!("Q9_X".parse::<TensorType>(), Err(GgufError::UnknownTypeName { .. })));
}
