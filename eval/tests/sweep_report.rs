//! A sweep's report in all its formats, compared with files that were reviewed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use eval::SweepReport;

fn report() -> SweepReport {
    serde_json::from_str(include_str!("golden/sweep.json")).unwrap()
}

#[test]
fn the_tables_are_those_of_the_golden_files() {
    let report = report();
    assert_eq!(report.markdown(), include_str!("golden/sweep.md"));
    assert_eq!(format!("{report}\n"), include_str!("golden/sweep.txt"));
}

#[test]
fn a_row_without_logits_is_a_gate_that_failed() {
    let mut report = report();
    assert_eq!(
        report.check().unwrap_err().to_string(),
        "gate failed: broken: window 3: logit NaN at position 1, token 17"
    );
    report.rows.pop();
    assert!(report.check().is_ok());
}

#[test]
fn a_page_is_drawn_with_and_without_speed() {
    let mut report = report();
    let whole = report.pdf().unwrap();
    assert!(whole.starts_with(b"%PDF-"));
    report.rows.iter_mut().for_each(|row| row.speed = None);
    let quality = report.pdf().unwrap();
    assert!(quality.starts_with(b"%PDF-") && quality.len() < whole.len());
    report.rows.clear();
    assert!(report.pdf().is_ok() && report.markdown().contains("| variant |"));
}
