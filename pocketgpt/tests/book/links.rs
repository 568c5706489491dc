//! Relative links of all Markdown files lead to files and headings that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{markdown, name, prose, root, source};

/// The text of a page with what it includes in place of `{{#include PATH}}`.
fn expanded(page: &Path) -> String {
    let text = fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", name(page)));
    let line = |line: &str| match included(page, line) {
        Some(path) => fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("{} includes {}: {error}", name(page), name(&path));
        }),
        None => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn included(page: &Path, line: &str) -> Option<PathBuf> {
    let path = line.trim().strip_prefix("{{#include ")?.strip_suffix("}}")?;
    Some(resolved(page, path))
}

/// `link` from the folder of `page`, without `..` in it.
fn resolved(page: &Path, link: &str) -> PathBuf {
    let mut path = page.parent().unwrap().to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{link} leaves the file system"),
            Component::Normal(part) => path.push(part),
            _ => {}
        }
    }
    path
}

/// The anchors of the headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let plain = heading.trim().to_lowercase();
        let kept = plain.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let count = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    anchors
}

/// The targets of the links in a line, without those in code.
fn targets(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("](") {
        let target = &rest[at + 2..];
        let Some(end) = target.find(')') else { break };
        // In code if the backticks up to here do not pair.
        let before = line.len() - target.len();
        if line[..before].matches('`').count().is_multiple_of(2) {
            found.push(&target[..end]);
        }
        rest = &target[end..];
    }
    found
}

/// What is wrong with a link, if anything.
fn objection(page: &Path, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(p, a)| (p, Some(a)));
    let file = if path.is_empty() { page.to_owned() } else { resolved(page, path) };
    if !file.exists() {
        return Some(format!("{} does not exist", name(&file)));
    }
    if page.starts_with(source()) && !file.starts_with(source()) {
        return Some(format!("{} is not in the book; name it without a link", name(&file)));
    }
    let anchor = anchor?;
    let is_there = file.is_file() && anchors(&expanded(&file)).contains(anchor);
    (!is_there).then(|| format!("{} has no heading #{anchor}", name(&file)))
}

fn is_elsewhere(target: &str) -> bool {
    ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme))
}

#[test]
fn links_lead_to_files_and_headings() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for page in markdown(root()) {
        let text = fs::read_to_string(&page).unwrap();
        for (line, content) in prose(&text) {
            for target in targets(content).into_iter().filter(|target| !is_elsewhere(target)) {
                // A chapter that is not written yet.
                if target.is_empty() && page.ends_with("SUMMARY.md") {
                    continue;
                }
                count += 1;
                if let Some(objection) = objection(&page, target) {
                    wrong.push(format!("{}:{line}: ({target}) {objection}", name(&page)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 150, "{count} links: too few are found");
}

#[test]
fn the_summary_lists_every_page_once() {
    let summary = source().join("SUMMARY.md");
    let text = fs::read_to_string(&summary).unwrap();
    let listed = text.lines().flat_map(targets).filter(|target| !target.is_empty());
    let mut listed: Vec<PathBuf> = listed.map(|target| resolved(&summary, target)).collect();
    listed.sort();
    let pages: Vec<PathBuf> =
        markdown(&source()).into_iter().filter(|page| *page != summary).collect();
    assert_eq!(listed, pages);
}

/// A page of the book that includes `/SECURITY.md` has the links of that file, which count from the root.
#[test]
fn links_of_included_files_are_redirected_in_the_book() {
    let book = fs::read_to_string(root().join("docs/book/book.toml")).unwrap();
    let mut missing = BTreeSet::new();
    for page in markdown(&source()) {
        let text = fs::read_to_string(&page).unwrap();
        for file in text.lines().filter_map(|line| included(&page, line)) {
            let text = fs::read_to_string(&file).unwrap();
            let links = prose(&text).flat_map(|(_, line)| targets(line));
            for link in links.filter(|link| !is_elsewhere(link) && !link.starts_with('#')) {
                let path = link.split('#').next().unwrap_or(link);
                let to = path.strip_prefix("docs/book/src/").and_then(|to| to.strip_suffix(".md"));
                let Some(to) = to else {
                    missing.insert(format!("{}: ({link}) is not a page of the book", name(&file)));
                    continue;
                };
                let up = "../".repeat(path.matches('/').count());
                let line = format!("\"/docs/book/src/{to}.html\" = \"{up}{to}.html\"");
                if !book.lines().any(|found| found == line) {
                    missing.insert(format!("book.toml lacks {line}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn headings_and_links_are_read_as_people_see_them() {
    let text = "# `[eval.gates]` of a, b\n## Twice\n```\n# not this\n```\n## Twice\n#nor this\n";
    let expected = ["evalgates-of-a-b", "twice", "twice-1"];
    assert_eq!(anchors(text), expected.map(str::to_owned).into());
    assert_eq!(targets("[a](b.md#c) `[d](e)` ![f](g.png)"), ["b.md#c", "g.png"]);
    let readme = root().join("README.md");
    assert!(objection(&readme, "no-such.md").unwrap().contains("does not exist"));
    assert!(objection(&readme, "SECURITY.md#no-such").unwrap().contains("no heading"));
    assert!(objection(&source().join("security.md"), "../../../README.md").is_some());
    assert_eq!(objection(&readme, "SECURITY.md#the-server"), None);
}
