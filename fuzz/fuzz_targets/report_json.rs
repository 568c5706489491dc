//! Any bytes as `report.json`: refused, or every gate of it was met.
#![no_main]

use bundle::Measured;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::with_files(&[("report.json", bytes)], |folder| {
        let load = || Measured::load(&folder.join("report.json"));
        let Ok(report) = fuzz::bounded(bytes.len(), 64, 1 << 20, load) else { return };
        let text: serde_json::Value = serde_json::from_slice(bytes).expect("accepted: JSON");
        let gates = text["gates"].as_array().expect("accepted: gates");
        assert!(gates.iter().all(|gate| gate["passed"] == true));
        for file in text["files"].as_array().into_iter().flatten() {
            let recipe = file["recipe"].as_str().expect("accepted: a recipe");
            assert!(report.file(recipe).is_ok());
            let _ = report.quality(recipe);
        }
    });
});
