//! The fields of `report.json`, which `bundle` reads without linking this crate:
//! `bundle/src/quality.rs` reads the same file.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

#[test]
fn the_fields_are_those_of_the_golden_file() {
    let golden = include_str!("golden/report.json");
    let report: eval::Report = serde_json::from_str(golden).unwrap();
    assert_eq!(report.format, eval::FORMAT);
    assert_eq!(report.version, eval::VERSION);
    assert_eq!(serde_json::to_string_pretty(&report).unwrap() + "\n", golden);
}
