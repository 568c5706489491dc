//! The licences of what is in the program and in the web chat go along with them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Names and versions in the tables of a file.
fn named(path: &str) -> BTreeSet<(String, String)> {
    let text = read(path);
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    let packages = cells.filter(|cells| cells.len() == 5 && cells[0] != "name");
    packages.map(|cells| (cells[0].to_owned(), cells[1].to_owned())).collect()
}

/// Crates of others that the program is linked from, on any platform.
fn crates() -> BTreeSet<(String, String)> {
    let arguments = "tree --offline --locked --package pocketgpt --edges normal --target all \
                     --prefix none --format {p}";
    let output = Command::new(env!("CARGO"))
        .args(arguments.split_whitespace())
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let foreign = lines.lines().filter(|line| !line.is_empty() && !line.contains(" (/"));
    let package = |line: &str| {
        let mut words = line.split(' ');
        let (name, version) = (words.next().unwrap(), words.next().unwrap());
        (name.to_owned(), version.strip_prefix('v').unwrap().to_owned())
    };
    foreign.filter(|line| !line.contains(":\\")).map(package).collect()
}

/// Packages that the web chat is made of.
fn npm_packages() -> BTreeSet<(String, String)> {
    let lock: Value = serde_json::from_str(&read("bundle/app/package-lock.json")).unwrap();
    let packages = lock["packages"].as_object().unwrap().iter();
    let production = packages.filter(|(path, package)| !path.is_empty() && package["dev"] != true);
    production
        .map(|(path, package)| {
            let (_, name) = path.rsplit_once("node_modules/").unwrap();
            (name.to_owned(), package["version"].as_str().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn every_crate_and_package_is_in_the_notices() {
    let (crates, packages) = (crates(), npm_packages());
    assert!(crates.len() > 100 && packages.len() >= 4, "{} {}", crates.len(), packages.len());
    let all: BTreeSet<_> = crates.union(&packages).cloned().collect();
    for (path, expected) in
        [("THIRD_PARTY.md", all), ("bundle/app/public/THIRD_PARTY.txt", packages)]
    {
        let found = named(path);
        let missing: Vec<_> = expected.difference(&found).collect();
        let gone: Vec<_> = found.difference(&expected).collect();
        assert!(
            missing.is_empty() && gone.is_empty(),
            "{path}: missing {missing:?}, gone {gone:?}: run `make notices`"
        );
    }
}

/// Licences of which copies have to go along, by a sentence of each.
#[test]
fn the_texts_go_along() {
    let program = read("THIRD_PARTY.md");
    for sentence in [
        "Apache License",
        "The ggml authors",
        "Mozilla Public License",
        "SIL OPEN FONT LICENSE",
        "UBUNTU FONT LICENCE",
        "Meta Platforms",
    ] {
        assert!(program.contains(sentence), "{sentence}");
    }
    let chat = read("bundle/app/public/THIRD_PARTY.txt");
    for sentence in ["The ggml authors", "Paul Miller", "Jason Miller", "Permission is hereby"] {
        assert!(chat.contains(sentence), "{sentence}");
    }
}
