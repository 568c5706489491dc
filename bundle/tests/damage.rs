//! Bundles that are not as they were packed: each kind of damage is found for its own reason.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::io::Write;

use crate::common::Fixture;
use bundle::{PackJob, VerifyReport, pack, verify};
use fragment::ProblemKind;
use proptest::prelude::*;
use serde_json::{Value, json};

fn only_problem(fixture: &Fixture) -> (String, ProblemKind) {
    let report: VerifyReport = verify(&fixture.output()).unwrap();
    assert_eq!(report.problems.len(), 1, "{report}");
    assert!(report.self_test.is_empty(), "no damaged model may run");
    let error = report.require_sound().unwrap_err();
    assert!(error.downcast_ref::<cli::GateFailed>().is_none(), "damage is bad input");
    (report.problems[0].file.clone(), report.problems[0].kind)
}

fn bundle_json(fixture: &Fixture) -> Value {
    let text = std::fs::read(fixture.output().join("bundle.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// What is said of the bundle with `value` put at `pointer` of `bundle.json`.
fn refusal(fixture: &Fixture, pointer: &str, value: Value) -> String {
    let mut manifest = bundle_json(fixture);
    *manifest.pointer_mut(pointer).expect(pointer) = value;
    let error = bundle::BundleManifest::parse(manifest.to_string().as_bytes()).expect_err(pointer);
    cli::one_line(&error)
}

#[test]
fn a_flipped_bit_in_any_file_is_found() {
    let fixture = Fixture::packed();
    let manifest = bundle::read_manifest(&fixture.output()).unwrap();
    for entry in &manifest.files {
        let path = fixture.output().join(&entry.path);
        let sound = std::fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(only_problem(&fixture), (entry.path.clone(), ProblemKind::Damaged));
        std::fs::write(&path, sound).unwrap();
    }
}

#[test]
fn texts_that_garble_a_terminal_are_refused_and_shown_harmless() {
    let fixture = Fixture::packed();
    for pointer in ["/name", "/license", "/architecture", "/provenance/program_version"] {
        let error = refusal(&fixture, pointer, json!("pocket\u{1b}]0;owned\u{7}"));
        assert!(error.contains("control characters") && !error.contains('\u{1b}'), "{error}");
    }
}

#[test]
fn sampling_out_of_its_range_is_refused_with_key_value_and_range() {
    let fixture = Fixture::packed();
    for (key, value, expected) in [
        ("temperature", -5.0, "temperature is -5: expected a number from 0 to 100"),
        ("temperature", 101.0, "temperature is 101: expected a number from 0 to 100"),
        ("top_p", 9.0, "top_p is 9: expected a number from 0 to 1"),
        ("top_p", -0.5, "top_p is -0.5: expected a number from 0 to 1"),
        ("repetition_penalty", 0.0, "repetition_penalty is 0: expected a number from 0.01 to 100"),
    ] {
        let error = refusal(&fixture, &format!("/generation/{key}"), json!(value));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn names_that_windows_has_for_devices_are_refused() {
    let fixture = Fixture::packed();
    for (pointer, name) in [
        ("/files/0/path", "model/NUL.dat"),
        ("/files/0/path", "con"),
        ("/files/0/path", "model/ends."),
        ("/variants/0/recipe", "CON"),
    ] {
        let error = refusal(&fixture, pointer, json!(name));
        assert!(error.contains("CON, NUL"), "{error}");
    }
}

#[test]
fn more_variants_than_anybody_makes_are_refused() {
    let fixture = Fixture::packed();
    for pointer in ["/variants", "/self_test/expected"] {
        let one = bundle_json(&fixture).pointer(pointer).unwrap()[0].clone();
        let error = refusal(&fixture, pointer, vec![one; 65].into());
        assert!(error.contains("expected at most 64"), "{error}");
    }
}

#[test]
fn missing_short_and_foreign_files_are_named() {
    let fixture = Fixture::packed();
    let license = fixture.output().join("LICENSE");
    let text = std::fs::read(&license).unwrap();
    std::fs::remove_file(&license).unwrap();
    assert_eq!(only_problem(&fixture), ("LICENSE".to_owned(), ProblemKind::Missing));
    std::fs::write(&license, &text[..9]).unwrap();
    assert_eq!(only_problem(&fixture), ("LICENSE".to_owned(), ProblemKind::Damaged));
    std::fs::write(&license, &text).unwrap();
    std::fs::write(fixture.output().join("model/extra.js"), b"x").unwrap();
    assert_eq!(only_problem(&fixture), ("model/extra.js".to_owned(), ProblemKind::Foreign));
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    let fixture = Fixture::packed();
    let license = fixture.output().join("LICENSE");
    std::fs::rename(&license, fixture.path("outside")).unwrap();
    std::os::unix::fs::symlink(fixture.path("outside"), &license).unwrap();
    assert!(verify(&fixture.output()).unwrap_err().to_string().contains("no plain file"));
    std::fs::remove_file(&license).unwrap();
    std::fs::rename(fixture.path("outside"), &license).unwrap();
    let model = fixture.output().join("model");
    std::fs::rename(&model, fixture.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(fixture.path("elsewhere"), &model).unwrap();
    assert!(verify(&fixture.output()).unwrap_err().to_string().contains("no plain file"));
}

#[test]
fn other_tokens_fail_the_self_test_as_a_gate() {
    let fixture = Fixture::packed();
    let mut manifest = bundle_json(&fixture);
    manifest["self_test"]["expected"][0]["tokens"][7] = json!(63);
    manifest["self_test"]["expected"][0]["tokens"][6] = json!(63);
    std::fs::write(fixture.output().join("bundle.json"), manifest.to_string()).unwrap();
    let report = verify(&fixture.output()).unwrap();
    assert!(report.problems.is_empty());
    let error = report.require_sound().unwrap_err();
    let gate = error.downcast_ref::<cli::GateFailed>().expect("a gate");
    assert_eq!(gate.missed.len(), 1, "{gate}");
    assert!(gate.missed[0].contains("self-test of Q8_0: 6 of 8 tokens as packed"), "{gate}");
}

#[test]
fn a_manifest_of_another_file_is_found() {
    let fixture = Fixture::packed();
    let mut manifest = bundle_json(&fixture);
    manifest["variants"][0]["sha256"] = json!("0".repeat(64));
    std::fs::write(fixture.output().join("bundle.json"), manifest.to_string()).unwrap();
    let problem = only_problem(&fixture);
    assert_eq!(problem, ("model/Q8_0.manifest.json".to_owned(), ProblemKind::Damaged));
}

/// Nothing but the manifest's own hash holds: it names a SHA-256 that its piece does not have.
#[test]
fn a_manifest_that_describes_its_pieces_wrong_is_found() {
    let fixture = Fixture::packed();
    let place = "model/Q8_0.manifest.json";
    let path = fixture.output().join(place);
    let mut pieces: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let piece = pieces["fragments"][1]["file"].as_str().unwrap().to_owned();
    pieces["fragments"][1]["sha256"] = json!("0".repeat(64));
    std::fs::write(&path, pieces.to_string()).unwrap();
    let mut manifest = bundle_json(&fixture);
    let found = checkpoint::hash::hash_file(&path).unwrap();
    let files = manifest["files"].as_array_mut().unwrap();
    let entry = files.iter_mut().find(|file| file["path"] == place).unwrap();
    *entry = json!({ "path": place, "size": found.size, "sha256": found.sha256,
        "blake3": found.blake3 });
    std::fs::write(fixture.output().join("bundle.json"), manifest.to_string()).unwrap();
    let report = verify(&fixture.output()).unwrap();
    assert_eq!(report.problems.len(), 1, "{report}");
    let what = &report.problems[0].what;
    assert!(what.contains(&format!("does not list model/{piece}")), "{what}");
}

#[test]
fn paths_that_lead_outside_are_refused() {
    let fixture = Fixture::packed();
    for path in ["../x", "/etc/passwd", "a/../../x", "a//b", "", ".hidden", "a\\b", "C:x", "a b"] {
        let error = refusal(&fixture, "/files/0/path", json!(path));
        assert!(error.contains(&format!("path {path:?}")), "{error}");
    }
    let error = refusal(&fixture, "/variants/0/manifest", json!("../x.manifest.json"));
    assert!(error.contains("expected \"model/Q8_0.manifest.json\""), "{error}");
    assert!(refusal(&fixture, "/variants/0/recipe", json!("../Q8_0")).contains("recipe"));
}

#[test]
fn contradictions_are_refused() {
    let fixture = Fixture::packed();
    let files = bundle_json(&fixture)["files"].clone();
    let twice = json!([files[0], files[0]]);
    assert!(refusal(&fixture, "/files", twice).contains("is listed twice"));
    assert!(refusal(&fixture, "/files", json!([])).contains("is not listed"));
    assert!(refusal(&fixture, "/files/0/sha256", json!("xyz")).contains("is no hash"));
    assert!(
        refusal(&fixture, "/files/0/path", json!("bundle.json")).contains("cannot list itself")
    );
    assert!(refusal(&fixture, "/variants", json!([])).contains("at least one variant"));
    let variant = bundle_json(&fixture)["variants"][0].clone();
    assert!(refusal(&fixture, "/variants/1", variant).contains("is listed twice"));
    assert!(refusal(&fixture, "/self_test/expected", json!([])).contains("no answer for Q8_0"));
    let endless = json!(vec![1; 100_000]);
    assert!(refusal(&fixture, "/self_test/expected/0/tokens", endless).contains("100000 tokens"));
    assert!(refusal(&fixture, "/self_test/prompt_tokens", json!([])).contains("no prompt"));
    assert!(refusal(&fixture, "/context_length", json!(0)).contains("expected at least 1"));
}

#[test]
fn other_versions_formats_and_fields_are_refused() {
    let fixture = Fixture::packed();
    assert!(refusal(&fixture, "/version", json!(2)).contains("take a newer one"));
    assert!(refusal(&fixture, "/format", json!("zip")).contains("expected \"pocketgpt-bundle\""));
    let mut manifest = bundle_json(&fixture);
    manifest["variants"][0]["extra"] = json!(1);
    let error = bundle::BundleManifest::parse(manifest.to_string().as_bytes()).unwrap_err();
    assert!(cli::one_line(&error).contains("unknown field `extra`"));
    for text in [&b""[..], b"{", b"[]", b"\xff"] {
        assert!(bundle::BundleManifest::parse(text).is_err());
    }
}

#[test]
fn a_folder_or_file_that_is_no_bundle_is_refused() {
    let fixture = Fixture::new();
    assert!(verify(fixture.folder.path()).unwrap_err().to_string().contains("is missing"));
    let error = verify(&fixture.path("F16.gguf")).unwrap_err();
    assert!(cli::one_line(&error).contains("no zip archive"), "{}", cli::one_line(&error));
}

#[test]
fn hostile_archives_are_refused() {
    let fixture = Fixture::new();
    let path = fixture.path("evil.zip");
    for name in ["../evil", "/evil", "a/../../evil", ".evil"] {
        let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        archive.start_file(name, options).unwrap();
        archive.write_all(b"evil").unwrap();
        archive.finish().unwrap();
        let error = cli::one_line(&verify(&path).unwrap_err());
        assert!(error.contains("expected names of letters"), "{name}: {error}");
    }
    pack(&PackJob { zip: true, ..fixture.job() }).unwrap();
    let bytes = std::fs::read(fixture.path("pocket.zip")).unwrap();
    for cut in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(verify(&path).is_err(), "cut at {cut}");
    }
}

/// An archive of stored entries.
fn zipped(path: &std::path::Path, entries: &[(&str, &[u8])]) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in entries {
        archive.start_file(*name, options).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap();
}

/// One reader would show the first of two entries, another one the second.
#[test]
fn archives_with_a_path_twice_are_refused() {
    let fixture = Fixture::new();
    let path = fixture.path("evil.zip");
    zipped(&path, &[("bundle.json", b"{}"), ("bundle.jsox", b"[]")]);
    let mut bytes = std::fs::read(&path).unwrap();
    while let Some(at) = bytes.windows(11).position(|name| name == b"bundle.jsox") {
        bytes[at + 10] = b'n';
    }
    std::fs::write(&path, bytes).unwrap();
    let error = cli::one_line(&verify(&path).unwrap_err());
    assert!(error.contains("a path is listed twice"), "{error}");

    zipped(&path, &[("bundle.json", b"{}"), ("Bundle.json", b"[]")]);
    let error = cli::one_line(&verify(&path).unwrap_err());
    assert!(error.contains("Bundle.json: another entry differs from it in case only"), "{error}");
}

/// Many entries that lie in the same bytes: a folder much larger than the archive.
#[test]
fn archives_whose_entries_share_bytes_are_refused() {
    let fixture = Fixture::new();
    let path = fixture.path("evil.zip");
    zipped(&path, &[("a", b"0123456789"), ("b", b"0123456789")]);
    let mut bytes = std::fs::read(&path).unwrap();
    // The second central header (46 bytes and the name) says where its entry begins, 42 bytes in.
    let headers: Vec<usize> =
        (0..bytes.len() - 4).filter(|at| bytes[*at..].starts_with(b"PK\x01\x02")).collect();
    let offset = headers[1] + 42;
    assert_ne!(bytes[offset..offset + 4], [0; 4]);
    bytes[offset..offset + 4].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let error = cli::one_line(&verify(&path).unwrap_err());
    assert!(error.contains("two entries share bytes"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// What is accepted, written again and read again is equal.
    #[test]
    fn what_is_accepted_reads_the_same_again(
        quality in prop::collection::vec(prop::option::of(prop::num::f64::POSITIVE), 4),
        name in ".*",
        size in 0..=bundle::manifest::MAX_COUNT,
        tokens in prop::collection::vec(any::<u32>(), 0..60),
    ) {
        let mut sample: Value = serde_json::from_str(include_str!("golden/bundle.json")).unwrap();
        sample["name"] = json!(name);
        sample["files"][0]["size"] = json!(size);
        sample["self_test"]["expected"][0]["tokens"] = json!(tokens);
        for (key, value) in ["mean_kl", "top1_agreement", "perplexity", "reference_perplexity"]
            .iter()
            .zip(quality)
        {
            sample["variants"][0]["quality"][*key] = json!(value);
        }
        if let Ok(manifest) = bundle::BundleManifest::parse(sample.to_string().as_bytes()) {
            let text = manifest.to_json().unwrap();
            let again = bundle::BundleManifest::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(&again, &manifest);
            prop_assert_eq!(again.to_json().unwrap(), text);
        }
    }
}

/// Python's `json` is the independent writer: `golden/make_bundle.py`.
#[test]
fn golden_bytes() {
    let golden = include_str!("golden/bundle.json");
    let manifest = bundle::BundleManifest::parse(golden.as_bytes()).unwrap();
    assert_eq!(manifest.to_json().unwrap(), golden);
}
