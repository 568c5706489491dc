//! The manifest's exact bytes, and one refusal for each rule that it can break.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use crate::invariant;
use fragment::{Manifest, ManifestError};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Hashes of nothing: BLAKE3's test vectors, FIPS 180-4. A manifest's rules do not look at content.
const BLAKE3: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn shard(fragment_id: u64, index: u64, total: u64, offset: u64, length: u64) -> Value {
    json!({"fragment_id": fragment_id, "shard_index": index, "total_shards": total,
           "offset": offset, "length": length})
}

fn piece(id: u64, offset: u64, size: u64) -> Value {
    let blake3 = format!("{}{id}", &BLAKE3[..63]);
    json!({"id": id, "file": format!("{blake3}.dat"), "offset": offset, "size": size,
           "sha256": SHA256, "blake3": blake3})
}

/// 100 bytes of header, a matrix over two pieces, a bias behind it.
fn sample() -> Value {
    json!({
        "format": "pocketgpt-fragments", "version": 1,
        "file": {"name": "a.gguf", "size": 300, "sha256": SHA256, "blake3": BLAKE3},
        "fragments": [piece(0, 0, 128), piece(1, 128, 128), piece(2, 256, 44)],
        "tensors": [
            {"tensor_name": "a.weight", "tensor_type": "weight", "shape": [8, 5], "dtype": "F32",
             "shards": [shard(0, 0, 2, 96, 32), shard(1, 1, 2, 0, 128)]},
            {"tensor_name": "a.bias", "tensor_type": "bias", "shape": [11], "dtype": "F32",
             "shards": [shard(2, 0, 1, 0, 44)]},
        ],
    })
}

fn parse(value: &Value) -> Result<Manifest, ManifestError> {
    Manifest::parse(value.to_string().as_bytes())
}

/// What is said of the sample with `value` put at `pointer`.
fn refusal(pointer: &str, value: Value) -> String {
    let mut manifest = sample();
    *manifest.pointer_mut(pointer).expect(pointer) = value;
    parse(&manifest).expect_err(pointer).to_string()
}

#[test]
fn the_sample_is_sound() {
    let manifest = parse(&sample()).unwrap();
    assert_eq!(manifest.header_size(), 96);
    assert_eq!(manifest.covering(100, 130).len(), 2);
    assert_eq!(manifest.covering(128, 256).len(), 1);
}

/// Python's `json` is the independent writer: `golden/make_manifest.py`.
#[test]
fn golden_bytes() {
    let manifest = parse(&sample()).unwrap();
    assert_eq!(manifest.to_json().unwrap(), include_str!("golden/manifest.json"));
}

#[test]
fn a_path_for_a_piece_is_refused() {
    for path in ["../x.dat", "/etc/passwd", "x.dat", "C:\\x.dat", "", ".dat"] {
        let error = refusal("/fragments/1/file", json!(path));
        assert!(error.contains(&format!("fragment 1 has the file {path:?}")), "{error}");
    }
    // A hash that climbs would make a matching name: hashes are hexadecimal digits only.
    let mut manifest = sample();
    let climbing = format!("../{}", &BLAKE3[3..]);
    manifest["fragments"][1]["file"] = json!(format!("{climbing}.dat"));
    manifest["fragments"][1]["blake3"] = json!(climbing);
    assert!(matches!(parse(&manifest), Err(ManifestError::Digest { .. })));
}

#[test]
fn a_path_for_the_file_is_refused() {
    for name in ["../a.gguf", "/a.gguf", "a/b", "a\\b", "..", ".", "", "a\nb", "C:a"] {
        assert!(refusal("/file/name", json!(name)).contains("expected a plain name"));
    }
}

#[test]
fn gaps_and_overlaps_are_refused() {
    let gap = refusal("/fragments/1/offset", json!(129));
    assert_eq!(gap, "fragment 1 starts at byte 129: expected 128, where the one before it ends");
    assert!(refusal("/fragments/1/offset", json!(127)).contains("expected 128"));
    assert!(refusal("/fragments/0/offset", json!(1)).contains("expected 0"));
    assert!(refusal("/file/size", json!(301)).contains("cover 300 bytes of a file of 301"));
    assert!(refusal("/fragments", json!([])).contains("cover 0 bytes"));
}

#[test]
fn pieces_that_share_a_file_must_agree() {
    let mut manifest = sample();
    manifest["fragments"][1]["file"] = sample()["fragments"][0]["file"].clone();
    manifest["fragments"][1]["blake3"] = sample()["fragments"][0]["blake3"].clone();
    assert!(parse(&manifest).is_ok());
    manifest["fragments"][1]["sha256"] = json!("a".repeat(64));
    assert!(matches!(parse(&manifest), Err(ManifestError::SharedFile { id: 1 })));
}

#[test]
fn absurd_numbers_are_refused() {
    assert!(refusal("/file/size", json!(u64::MAX)).contains("expected 1 to"));
    assert!(refusal("/file/size", json!(0)).contains("expected 1 to"));
    assert!(refusal("/fragments/2/size", json!(u64::MAX)).contains("fragment 2 has"));
    assert!(refusal("/fragments/2/size", json!(0)).contains("fragment 2 has 0 bytes"));
    assert!(refusal("/fragments/1/id", json!(7)).contains("fragment 7 stands where fragment 1"));
    assert!(refusal("/tensors/0/shape", json!([u64::MAX, u64::MAX])).contains("tensor a.weight"));
    assert!(refusal("/tensors/0/shape", json!([0])).contains("tensor a.weight"));
    assert!(refusal("/tensors/0/shape", json!([])).contains("tensor a.weight"));
    assert!(refusal("/tensors/0/shape", json!([1, 1, 1, 1, 40])).contains("1 to 4 dimensions"));
    assert!(refusal("/tensors/0/shape", json!([8, 6])).contains("its shape needs 192"));
}

#[test]
fn absurd_counts_are_refused() {
    let tensor = sample()["tensors"][1].clone();
    let mut manifest: Manifest = parse(&sample()).unwrap();
    let tensor: fragment::Tensor = serde_json::from_value(tensor).unwrap();
    manifest.tensors = vec![tensor; fragment::manifest::MAX_ENTRIES + 1];
    assert!(matches!(manifest.to_json(), Err(ManifestError::TooMany { what: "tensors", .. })));
}

#[test]
fn a_manifest_beyond_any_size_is_refused_unread() {
    let text = vec![b' '; fragment::manifest::MAX_MANIFEST_BYTES as usize + 1];
    assert!(matches!(Manifest::parse(&text), Err(ManifestError::TooLarge { .. })));
}

#[test]
fn other_versions_and_formats_are_refused_before_their_fields() {
    let mut newer = sample();
    newer["version"] = json!(2);
    newer["peers"] = json!([]);
    assert!(matches!(parse(&newer), Err(ManifestError::WrongVersion { found: 2 })));
    assert!(refusal("/format", json!("zip")).contains("expected \"pocketgpt-fragments\""));
}

#[test]
fn unknown_missing_and_doubled_fields_are_refused() {
    for pointer in ["", "/file", "/fragments/0", "/tensors/0", "/tensors/0/shards/0"] {
        let mut manifest = sample();
        let place = manifest.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
        place.insert("extra".into(), json!(1));
        assert!(parse(&manifest).unwrap_err().to_string().contains("unknown field `extra`"));
    }
    let mut manifest = sample();
    manifest["file"].as_object_mut().unwrap().remove("sha256");
    assert!(parse(&manifest).unwrap_err().to_string().contains("missing field `sha256`"));
    let doubled = sample().to_string().replacen("\"size\":", "\"size\":1,\"size\":", 1);
    let error = Manifest::parse(doubled.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("duplicate field"), "{error}");
}

#[test]
fn hashes_are_lower_case_hexadecimal() {
    for hash in ["", &BLAKE3[1..], &BLAKE3.to_uppercase(), &format!("{}g", &BLAKE3[1..])] {
        assert!(refusal("/file/sha256", json!(hash)).contains("sha256 of the file"));
        assert!(refusal("/fragments/0/sha256", json!(hash)).contains("sha256 of fragment 0"));
        assert!(refusal("/fragments/0/blake3", json!(hash)).contains("blake3 of fragment 0"));
    }
}

#[test]
fn shards_must_follow_one_another_inside_their_pieces() {
    let shards = "/tensors/0/shards";
    let outside = "offset and length lie outside";
    assert!(refusal(&format!("{shards}/0/length"), json!(33)).contains(outside));
    assert!(refusal(&format!("{shards}/0/offset"), json!(u64::MAX)).contains(outside));
    assert!(refusal(&format!("{shards}/1/length"), json!(0)).contains(outside));
    assert!(refusal(&format!("{shards}/1/offset"), json!(1)).contains("shard 1"));
    assert!(refusal(&format!("{shards}/0/length"), json!(31)).contains("does not follow"));
    assert!(refusal(&format!("{shards}/0/fragment_id"), json!(9)).contains("names no fragment"));
    assert!(refusal(&format!("{shards}/1/shard_index"), json!(0)).contains("do not count"));
    assert!(refusal(&format!("{shards}/1/total_shards"), json!(3)).contains("do not count"));
    assert!(refusal(shards, json!([])).contains("at least one shard"));
}

#[test]
fn tensors_must_not_overlap_or_repeat() {
    let swapped = json!([sample()["tensors"][1], sample()["tensors"][0]]);
    assert!(refusal("/tensors", swapped).contains("overlaps the tensor before it"));
    let twice = json!([sample()["tensors"][0], sample()["tensors"][0]]);
    assert!(refusal("/tensors", twice).contains("listed twice"));
}

#[test]
fn names_that_garble_a_terminal_are_refused_and_shown_harmless() {
    for pointer in ["/tensors/0/tensor_name", "/file/name"] {
        let error = refusal(pointer, json!("a\u{1b}[31m"));
        assert!(error.contains(r#"a\u{1b}[31m"#) && !error.contains('\u{1b}'), "{error}");
    }
}

#[test]
fn tensors_are_what_their_names_say() {
    assert!(refusal("/tensors/1/tensor_type", json!("weight")).contains("tensor_type Bias"));
    assert!(refusal("/tensors/1/tensor_type", json!("scale")).contains("unknown variant"));
    assert!(refusal("/tensors/1/dtype", json!("IQ3_S")).contains("unknown tensor type IQ3_S"));
    assert!(refusal("/tensors/1/dtype", json!("f32")).contains("unknown dtype f32"));
    assert!(refusal("/tensors/1/dtype", json!("Q8_0")).contains("whole blocks"));
    assert!(refusal("/tensors/0/tensor_name", json!("x".repeat(64))).contains("1 to 63 bytes"));
}

#[test]
fn what_is_no_json_is_refused() {
    for text in [&b""[..], b"{", b"[]", b"\xff\xfe", b"null"] {
        assert!(matches!(Manifest::parse(text), Err(ManifestError::Json(_))));
    }
}

/// A change somewhere in the sample: a number, a text or a whole part of it replaced.
fn mutation() -> impl Strategy<Value = Value> {
    let pointers = prop::sample::select(vec![
        "/version",
        "/file/name",
        "/file/size",
        "/file/sha256",
        "/fragments/1/id",
        "/fragments/1/file",
        "/fragments/1/offset",
        "/fragments/1/size",
        "/fragments/2",
        "/tensors/0/tensor_name",
        "/tensors/0/tensor_type",
        "/tensors/0/shape/1",
        "/tensors/0/dtype",
        "/tensors/0/shards/0",
        "/tensors/0/shards/1/offset",
        "/tensors/0/shards/1/length",
        "/tensors/1/shards/0/fragment_id",
        "/tensors/1",
        "/tensors",
        "/fragments",
    ]);
    let values = prop_oneof![
        any::<u64>().prop_map(|n| json!(n)),
        (0_u64..400).prop_map(|n| json!(n)),
        ".{0,70}".prop_map(|text| json!(text)),
        Just(json!([])),
        Just(json!(null)),
    ];
    prop::collection::vec((pointers, values), 0..4).prop_map(|changes| {
        let mut manifest = sample();
        for (pointer, value) in changes {
            if let Some(place) = manifest.pointer_mut(pointer) {
                *place = value;
            }
        }
        manifest
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The invariant of the fuzz target, on inputs that are almost right.
    #[test]
    fn what_is_accepted_reads_the_same_again(value in mutation()) {
        invariant::check(value.to_string().as_bytes());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        invariant::check(&bytes);
    }
}
