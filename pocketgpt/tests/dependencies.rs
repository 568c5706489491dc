//! `ARCHITECTURE.md` says which crate may use which; Cargo knows which does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What is not ours and in the table, because it is what takes long to compile.
const FOREIGN: [(&str, &[&str]); 2] =
    [("burn", &["burn", "burn-cubecl", "cubecl", "cubek"]), ("llama.cpp", &["llama-cpp-sys-2"])];

/// What a crate uses, and what only its tests and examples use.
#[derive(Debug, Default, PartialEq)]
struct Uses {
    always: BTreeSet<String>,
    in_tests: BTreeSet<String>,
}

type Table = BTreeMap<String, Uses>;

/// A crate's folder: its name without the prefix that it has in the registry.
fn folder(package: &str) -> &str {
    package.strip_prefix("pocketgpt-").unwrap_or(package)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The table of the document: `crate -> used, used; tests: used`, one line for each crate.
fn documented() -> Table {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, section) = text.split_once("\n## Who may use whom\n").expect("the section");
    let block = section.split("```").nth(1).expect("a table in a code block");
    let names = |list: &str| -> BTreeSet<String> {
        list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let row = |line: &str| {
        let (name, uses) = line.split_once("->").unwrap_or_else(|| panic!("{line}: no arrow"));
        let (always, in_tests) = uses.split_once("; tests:").unwrap_or((uses, ""));
        (name.trim().to_owned(), Uses { always: names(always), in_tests: names(in_tests) })
    };
    block.lines().filter(|line| !line.trim().is_empty()).map(row).collect()
}

/// The same from the manifests.
fn actual() -> Table {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    let listed = |name: &str| -> Option<String> {
        let foreign = FOREIGN.iter().find(|(_, crates)| crates.contains(&name));
        foreign
            .map(|(name, _)| (*name).to_owned())
            .or(ours.get(name).map(|&n| folder(n).to_owned()))
    };
    let mut table = Table::new();
    for package in packages {
        let mut uses = Uses::default();
        for dependency in package["dependencies"].as_array().unwrap() {
            let Some(name) = listed(dependency["name"].as_str().unwrap()) else { continue };
            match dependency["kind"].as_str() {
                Some("dev") => uses.in_tests.insert(name),
                _ => uses.always.insert(name),
            };
        }
        uses.in_tests.retain(|name| !uses.always.contains(name));
        table.insert(folder(package["name"].as_str().unwrap()).to_owned(), uses);
    }
    table
}

fn line(name: &str, uses: &Uses) -> String {
    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
    let tests = match uses.in_tests.is_empty() {
        true => String::new(),
        false => format!("; tests: {}", list(&uses.in_tests)),
    };
    format!("{name} -> {}{tests}", list(&uses.always))
}

#[test]
fn the_table_of_the_architecture_is_what_the_manifests_say() {
    let (documented, actual) = (documented(), actual());
    let missing: Vec<&String> =
        documented.keys().filter(|name| !actual.contains_key(*name)).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md lists crates that do not exist: {missing:?}");
    let differing: Vec<String> = actual
        .iter()
        .filter(|&(name, uses)| documented.get(name) != Some(uses))
        .map(|(name, uses)| line(name, uses))
        .collect();
    assert!(
        differing.is_empty(),
        "ARCHITECTURE.md, \"Who may use whom\": expected these lines; if a dependency is wrong, \
         remove it, otherwise write them:\n{}",
        differing.join("\n")
    );
}
