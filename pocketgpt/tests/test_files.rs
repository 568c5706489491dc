//! Each crate's tests are one program, `tests/main.rs`. A file that it does not name would never run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

/// The manifests of the workspace's members, read as text: `members = ["data", ...]`.
fn members(root: &Path) -> Vec<String> {
    let workspace = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let (_, list) = workspace.split_once("members = [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_test_file_is_part_of_a_test_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut merged = 0;
    for member in members(root) {
        let tests = root.join(&member).join("tests");
        let Ok(main) = fs::read_to_string(tests.join("main.rs")) else { continue };
        let manifest = fs::read_to_string(root.join(&member).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("autotests = false"), "{member}: each file would link alone");
        for entry in fs::read_dir(&tests).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let Some(module) = name.strip_suffix(".rs") else { continue };
            let named = main.contains(&format!("mod {module};"))
                || manifest.contains(&format!("path = \"tests/{name}\""));
            assert!(named, "{member}/tests/{name}: add `mod {module};` to {member}/tests/main.rs");
        }
        merged += 1;
    }
    assert!(merged > 10, "{merged} crates with a test program");
}
