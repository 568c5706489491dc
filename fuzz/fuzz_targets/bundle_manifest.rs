//! Any bytes as `bundle.json`: refused, or what is written and read again is equal; memory is bounded.
#![no_main]

use bundle::BundleManifest;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let parsed = fuzz::bounded(bytes.len(), 64, 1 << 20, || BundleManifest::parse(bytes));
    let Ok(manifest) = parsed else { return };
    let text = manifest.to_json().expect("what is read can be written");
    let again = BundleManifest::parse(text.as_bytes()).expect("what is written is read");
    assert_eq!(again, manifest);
    assert_eq!(again.to_json().expect("twice"), text);
    for file in &manifest.files {
        let path = std::path::Path::new(&file.path);
        assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
    }
});
