//! What the book names of the repository exists: files, and functions and types as `path::name`.

use std::fs;

use super::{markdown, name, prose, root, source};

/// The spans in backticks of a line.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether a Rust file defines `name`.
fn defines(code: &str, name: &str) -> bool {
    const KEYWORDS: [&str; 8] =
        ["fn", "struct", "enum", "trait", "const", "static", "type", "macro_rules!"];
    code.lines().any(|line| {
        let words = line.split(|c: char| !(c.is_alphanumeric() || "_!".contains(c)));
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        !line.trim_start().starts_with("//")
            && words.windows(2).any(|pair| KEYWORDS.contains(&pair[0]) && pair[1] == name)
    })
}

/// Whether a span names a file of the repository: a path with a folder and one of our endings.
fn is_path(span: &str) -> bool {
    let ending = span.rsplit_once('.').map(|(_, ending)| ending);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_-.".contains(c);
    span.contains('/')
        && span.chars().all(plain)
        && matches!(ending, Some("rs" | "ts" | "py" | "sh" | "c"))
}

#[test]
fn the_code_that_the_book_names_exists() {
    let (mut missing, mut found) = (Vec::new(), 0);
    for page in markdown(&source()) {
        let text = fs::read_to_string(&page).unwrap();
        for (line, content) in prose(&text) {
            for span in spans(content) {
                let (path, item) =
                    span.split_once("::").map_or((span, None), |(p, i)| (p, Some(i)));
                if !is_path(path) {
                    continue;
                }
                found += 1;
                let code = fs::read_to_string(root().join(path));
                let exists = code.is_ok_and(|code| item.is_none_or(|item| defines(&code, item)));
                if !exists {
                    missing.push(format!("{}:{line}: {span}", name(&page)));
                }
            }
        }
    }
    assert!(missing.is_empty(), "named but not there:\n{}", missing.join("\n"));
    assert!(found > 100, "{found} names: the pattern finds too few");
}

#[test]
fn a_definition_is_found_and_a_use_is_not() {
    let code = "pub(crate) fn pack(x: u8) {}\nlet y = unpack(x);\n// fn gone()\nstruct Grid<T>;";
    assert!(defines(code, "pack") && defines(code, "Grid"));
    assert!(!defines(code, "unpack") && !defines(code, "gone") && !defines(code, "pac"));
}
