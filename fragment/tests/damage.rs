//! Folders that are not as they were written: each kind of damage is refused for its own reason.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use crate::common::Fixture;
use fragment::{FragmentFolder, JoinJob, ProblemKind, join, verify};
use gguf::TensorSource;

fn join_error(fixture: &Fixture) -> String {
    let output = fixture.folder.path().join("joined.gguf");
    let job = JoinJob { input: fixture.pieces(), output: output.clone(), force: false };
    let error = join(&job).unwrap_err();
    assert!(!output.exists(), "a damaged file must not appear");
    format!("{error:#}")
}

/// The one problem that `verify` finds, as its kind and text.
fn only_problem(fixture: &Fixture) -> (ProblemKind, String) {
    let report = verify(&fixture.pieces()).unwrap();
    assert_eq!(report.problems.len(), 1, "{report}");
    assert!(report.require_sound().is_err());
    (report.problems[0].kind, report.problems[0].what.clone())
}

fn name(fixture: &Fixture, id: usize) -> String {
    fixture.manifest().fragments[id].file.clone()
}

#[test]
fn a_missing_piece_is_named() {
    let fixture = Fixture::new();
    std::fs::remove_file(fixture.piece(2)).unwrap();
    let (kind, what) = only_problem(&fixture);
    assert_eq!(kind, ProblemKind::Missing);
    assert!(what.contains(&name(&fixture, 2)), "{what}");
    assert!(join_error(&fixture).contains("is missing"));
    assert!(FragmentFolder::open(&fixture.pieces()).unwrap_err().to_string().contains("missing"));
}

#[test]
fn a_flipped_bit_is_found() {
    let fixture = Fixture::new();
    let mut bytes = std::fs::read(fixture.piece(3)).unwrap();
    bytes[100] ^= 1;
    std::fs::write(fixture.piece(3), &bytes).unwrap();
    let (kind, what) = only_problem(&fixture);
    assert_eq!(kind, ProblemKind::Damaged);
    assert!(what.contains(&name(&fixture, 3)) && what.contains("BLAKE3"), "{what}");
    assert!(join_error(&fixture).contains("is damaged"));

    let source = FragmentFolder::open(&fixture.pieces()).unwrap();
    let tensors = source.tensors().to_vec();
    assert!(source.read(&tensors[0]).is_ok(), "tensors in sound pieces still read");
    let error = source.read(&tensors[2]).unwrap_err();
    assert!(cli::one_line(&error.into()).contains("is damaged"));
}

#[test]
fn a_truncated_piece_is_found() {
    let fixture = Fixture::new();
    let file = std::fs::OpenOptions::new().write(true).open(fixture.piece(1)).unwrap();
    file.set_len(5).unwrap();
    let (kind, what) = only_problem(&fixture);
    assert_eq!(kind, ProblemKind::Damaged);
    assert!(what.contains("has 5 bytes: expected 4096"), "{what}");
    assert!(join_error(&fixture).contains("has 5 bytes"));
}

#[test]
fn a_foreign_file_is_named() {
    let fixture = Fixture::new();
    let stray = format!("{}.dat", "0".repeat(64));
    std::fs::write(fixture.pieces().join(&stray), b"x").unwrap();
    let (kind, what) = only_problem(&fixture);
    assert_eq!(kind, ProblemKind::Foreign);
    assert!(what.contains(&stray), "{what}");
}

#[test]
fn every_problem_is_listed() {
    let fixture = Fixture::new();
    std::fs::remove_file(fixture.piece(0)).unwrap();
    std::fs::write(fixture.piece(1), b"short").unwrap();
    std::fs::write(fixture.pieces().join("notes.txt"), b"x").unwrap();
    let report = verify(&fixture.pieces()).unwrap();
    let kinds: Vec<ProblemKind> = report.problems.iter().map(|problem| problem.kind).collect();
    for kind in [ProblemKind::Missing, ProblemKind::Damaged, ProblemKind::Foreign] {
        assert_eq!(kinds.iter().filter(|&&found| found == kind).count(), 1, "{report}");
    }
    let error = report.require_sound().unwrap_err().to_string();
    assert!(error.contains("1 damaged, 1 missing, 1 foreign of 5 pieces"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_link_is_not_followed() {
    let fixture = Fixture::new();
    let outside = fixture.folder.path().join("outside.dat");
    std::fs::rename(fixture.piece(1), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, fixture.piece(1)).unwrap();
    let (kind, what) = only_problem(&fixture);
    assert_eq!(kind, ProblemKind::Damaged);
    assert!(what.contains("no plain file"), "{what}");
    assert!(join_error(&fixture).contains("no plain file"));
}

#[test]
fn a_wrong_sha256_of_a_piece_is_found() {
    let fixture = Fixture::new();
    let mut manifest = fixture.manifest();
    manifest.fragments[0].sha256 = "a".repeat(64);
    std::fs::write(fixture.manifest_path(), manifest.to_json().unwrap()).unwrap();
    let (kind, what) = only_problem(&fixture);
    assert_eq!(kind, ProblemKind::Damaged);
    assert!(what.contains("SHA-256"), "{what}");
}

#[test]
fn a_wrong_hash_of_the_whole_is_found() {
    let fixture = Fixture::new();
    let mut manifest = fixture.manifest();
    manifest.file.sha256 = "a".repeat(64);
    std::fs::write(fixture.manifest_path(), manifest.to_json().unwrap()).unwrap();
    let (_, what) = only_problem(&fixture);
    assert!(what.contains("the manifest was altered"), "{what}");
    assert!(join_error(&fixture).contains("the manifest was altered"));
}

#[test]
fn a_manifest_that_contradicts_the_header_is_refused() {
    let fixture = Fixture::new();
    let mut manifest = fixture.manifest();
    manifest.tensors[1].tensor_name = "blk.9.attn_qkv.bias".into();
    std::fs::write(fixture.manifest_path(), manifest.to_json().unwrap()).unwrap();
    let error = FragmentFolder::open(&fixture.pieces()).unwrap_err();
    assert!(cli::one_line(&error).contains("differ between the manifest and the header"));
    assert!(only_problem(&fixture).1.contains("blk.9.attn_qkv.bias"));
}

#[test]
fn a_folder_without_a_manifest_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(verify(folder.path()).unwrap_err().to_string().contains("holds no manifest.json"));
    assert!(FragmentFolder::open(folder.path()).unwrap_err().to_string().contains("is missing"));
}

#[test]
fn a_tensor_of_another_file_is_refused() {
    let fixture = Fixture::new();
    let source = FragmentFolder::open(&fixture.pieces()).unwrap();
    let mut tensor = source.tensors()[0].clone();
    tensor.size = u64::MAX / 2;
    assert!(source.read(&tensor).is_err());
}
