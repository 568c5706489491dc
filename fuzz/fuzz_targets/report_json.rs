//! Any bytes as `report.json`: refused, or every gate of it was met.
#![no_main]

use bundle::Measured;
use serde::Deserialize;

/// What a bundle takes over from a report. Other fields are skipped, as the reader skips them: a
/// text in them may be one that only some readers of JSON take (half of a surrogate pair).
#[derive(Deserialize)]
struct Report {
    gates: Vec<Gate>,
    files: Vec<File>,
}

#[derive(Deserialize)]
struct Gate {
    passed: bool,
}

#[derive(Deserialize)]
struct File {
    recipe: String,
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::with_files(&[("report.json", bytes)], |folder| {
        let load = || Measured::load(&folder.join("report.json"));
        let Ok(report) = fuzz::bounded(bytes.len(), 64, 1 << 20, load) else { return };
        let text: Report = serde_json::from_slice(bytes).expect("accepted: gates and files");
        assert!(text.gates.iter().all(|gate| gate.passed));
        for File { recipe } in &text.files {
            assert!(report.file(recipe).is_ok());
            let _ = report.quality(recipe);
        }
    });
});
