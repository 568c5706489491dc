//! Files of other programs, versions and machines.

#![allow(clippy::unwrap_used, reason = "where a test cannot go on, it fails")]

use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::raw::Raw;
use gguf::{Array, ByteOrder, GgufError, GgufFile, RawHeader, RawModel, StoredFormat, Value};
use llama_cpp_sys_2 as ggml;
use serde_json::{Value as Json, json};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/raw").join(name)
}

/// A value as `make_raw.py` writes it: types, then content.
fn described(value: &Value) -> Json {
    match value {
        Value::String(text) => json!(["STRING", text]),
        Value::Bool(bool) => json!(["BOOL", bool]),
        Value::U16(n) => json!(["UINT16", n]),
        Value::U32(n) => json!(["UINT32", n]),
        Value::I32(n) => json!(["INT32", n]),
        Value::F32(x) => json!(["FLOAT32", x]),
        Value::Array(Array::String(all)) => json!(["ARRAY", "STRING", all]),
        Value::Array(Array::I32(all)) => json!(["ARRAY", "INT32", all]),
        other => panic!("{other:?} is in no golden file"),
    }
}

#[test]
fn llama_cpps_python_reader_says_the_same() {
    let text = fs::read_to_string(golden("expected.json")).unwrap();
    let expected: serde_json::Map<String, Json> = serde_json::from_str(&text).unwrap();
    for (name, expected) in expected {
        let header = RawHeader::open(&golden(&name)).unwrap();
        let keys: serde_json::Map<String, Json> =
            header.metadata.iter().map(|(key, value)| (key.to_owned(), described(value))).collect();
        assert_eq!(Json::Object(keys), expected["keys"], "{name}");
        assert_eq!(header.data_start, expected["data_start"], "{name}");
        let tensors = header.tensors.iter().map(|tensor| {
            json!({"name": tensor.name, "shape": tensor.shape, "format": tensor.format.to_string(),
                "size": tensor.size, "at": header.data_start + tensor.offset})
        });
        assert_eq!(Json::Array(tensors.collect()), expected["tensors"], "{name}");
    }
}

#[test]
fn the_head_tells_version_and_byte_order() {
    for (name, version, byte_order) in [
        ("v2.gguf", 2, ByteOrder::Little),
        ("v3.gguf", 3, ByteOrder::Little),
        ("big-endian.gguf", 3, ByteOrder::Big),
    ] {
        let header = RawHeader::open(&golden(name)).unwrap();
        assert_eq!((header.version, header.byte_order), (version, byte_order), "{name}");
        assert!(GgufFile::open(&golden(name)).is_err(), "{name} is for looking only");
    }
}

/// A count or a length took 4 bytes in version 1.
#[test]
fn the_first_version_is_read() {
    let short = |raw: Raw, text: &str| raw.u32(text.len() as u32).bytes(text.as_bytes());
    let raw = Raw(b"GGUF".to_vec()).u32(1).u32(1).u32(2);
    let raw = short(short(raw, "general.architecture").u32(8), "llama");
    let raw = short(raw, "names").u32(9).u32(8).u32(2);
    let raw = short(short(raw, "a"), "bc");
    let raw = short(raw, "token_embd.weight").u32(2).u32(32).u32(5).u32(2).u64(64);
    let header = RawHeader::parse(&raw.0).unwrap();
    assert_eq!(header.version, 1);
    assert_eq!(header.metadata.string("general.architecture").unwrap(), "llama");
    assert_eq!(header.metadata.strings("names").unwrap(), ["a", "bc"]);
    let tensor = &header.tensors[0];
    assert_eq!((tensor.shape.as_slice(), tensor.offset), ([32, 5].as_slice(), 64));
    assert_eq!((tensor.format.known_name(), tensor.size), (Some("Q4_0"), Some(90)));
}

#[test]
fn ggml_knows_the_same_formats() {
    for id in 0..ggml::GGML_TYPE_COUNT {
        // SAFETY: every number below the count has an entry in ggml's table, which may be empty.
        let (weights, bytes, name) = unsafe {
            let name = CStr::from_ptr(ggml::ggml_type_name(id));
            (ggml::ggml_blck_size(id), ggml::ggml_type_size(id), name.to_str().unwrap())
        };
        let format = StoredFormat(id);
        if bytes == 0 {
            // ggml keeps the number of a format that it has removed, with this instead of a name.
            assert!(name.contains("REMOVED") || name.contains("DEPRECATED"), "{id}: {name}");
            continue;
        }
        assert_eq!(format.block(), Some((weights as u64, bytes as u64)), "{name}");
        assert!(format.to_string().eq_ignore_ascii_case(name), "{format} {name}");
    }
    assert_eq!(StoredFormat(ggml::GGML_TYPE_COUNT).known_name(), None);
}

#[test]
fn the_parts_of_a_model_are_found_from_any_of_them() {
    let parts: Vec<PathBuf> =
        (1..=3).map(|i| golden(&format!("split-{i:05}-of-00003.gguf"))).collect();
    for path in &parts {
        let model = RawModel::open(path).unwrap();
        assert!(model.problems.is_empty(), "{:?}", model.problems);
        assert!(model.parts.iter().map(|part| &part.path).eq(&parts));
        let names: Vec<&str> = model.tensors().map(|(_, tensor)| tensor.name.as_str()).collect();
        let expected = ["F32", "F16", "Q3_K", "MXFP4", "TQ1_0"].map(|f| format!("blk.0.{f}"));
        assert_eq!(names, expected);
    }
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        fs::copy(golden(from), folder.path().join(to)).unwrap();
        folder.path().join(to)
    };
    let problems = |path: &Path| RawModel::open(path).unwrap().problems.join("; ");

    let first = copy("split-00001-of-00003.gguf", "split-00001-of-00003.gguf");
    copy("split-00002-of-00003.gguf", "split-00002-of-00003.gguf");
    let found = problems(&first);
    assert!(found.ends_with("split-00003-of-00003.gguf is missing; fetch it, too"), "{found}");

    copy("split-00002-of-00003.gguf", "split-00003-of-00003.gguf");
    let found = problems(&first);
    assert!(found.contains("have 6 tensors, not the 5 of split.tensors.count"), "{found}");

    let renamed = copy("split-00001-of-00003.gguf", "model.gguf");
    assert!(problems(&renamed).contains("the others cannot be found"));

    let cut = copy("v2.gguf", "cut.gguf");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 100]).unwrap();
    assert!(problems(&cut).contains("cut short: 1628 bytes of at least 1"), "{}", problems(&cut));
}

#[test]
fn what_strangers_write_and_ggml_refuses_is_read() {
    let long = "n".repeat(200);
    let raw = Raw::new(3, 1).key("k", 8).text(b"\xff\xfea");
    let raw = raw.tensor(&long, &[2, 3, 4, 5, 6], 0, 4096).tensor("unknown", &[7], 99, 0);
    let header = RawHeader::parse(&raw.tensor("none", &[0], 1, 0).0).unwrap();
    assert_eq!(header.metadata.string("k").unwrap(), "\u{fffd}\u{fffd}a");
    let [first, second, third] = header.tensors.as_slice() else { panic!("three tensors") };
    assert_eq!((first.elements(), first.size), (720, Some(2880)));
    assert_eq!((second.format.to_string().as_str(), second.size), ("type 99", None));
    assert_eq!((third.elements(), third.size), (0, Some(0)));
    assert_eq!(header.data_end(), header.data_start + 4096 + 2880);
}

#[test]
fn what_is_no_header_is_refused() {
    let refusal = |raw: &Raw| RawHeader::parse(&raw.0).unwrap_err().to_string();
    for (raw, expected) in [
        (Raw(b"GGUF".to_vec()).u32(4).u64(0).u64(0), "version 4: expected 1 to 3"),
        (Raw(b"GGUF".to_vec()).u32(0).u64(0).u64(0), "version 0: expected 1 to 3"),
        (Raw(b"GG".to_vec()), "cut short: the header"),
        (Raw(b"GGUF".to_vec()).u32(3).u64(0), "cut short: the header"),
        (Raw(b"PK\x03\x04".to_vec()), "a zip archive"),
        (Raw::new(1 << 40, 0), "tensors: the header counts 1099511627776"),
        (Raw::new(0, 9), "cut short: the section of 9 keys"),
        (Raw::new(0, 1).key("k", 13).u32(0), "key k: value type 13 is unknown"),
        (Raw::new(0, 1).key("k", 9).u32(9).u64(0), "key k: an array of arrays"),
        (Raw::new(0, 1).key("k", 9).u32(8).u64(1 << 60), "cut short: key k"),
        (Raw::new(0, 2).key_u32("k", 1).key_u32("k", 1), "key k is there twice"),
        (Raw::new(0, 1).key_u32("\x1b[31m", 1), "expected a name of printable characters"),
        (Raw::new(1, 0).tensor("t", &[1; 17], 0, 0), "tensor t has 17 dimensions"),
        (Raw::new(0, 1).key_u32("general.alignment", 0), "general.alignment is u32 0"),
    ] {
        let error = refusal(&raw);
        assert!(error.contains(expected), "{error}");
    }
    let twice = Raw::new(2, 0).tensor("t", &[1], 0, 0).tensor("t", &[1], 0, 32);
    let error = RawHeader::parse(&twice.0).unwrap_err();
    assert!(matches!(error, GgufError::DuplicateTensor { .. }), "{error}");
}
