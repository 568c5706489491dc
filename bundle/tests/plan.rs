//! Which variant fits which device.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use bundle::{Candidate, candidates, plan};
use common::{Fixture, tiny};

fn candidate(recipe: &str, weights: u64) -> Candidate {
    Candidate { recipe: recipe.to_owned(), weights, estimated: false }
}

#[test]
fn each_device_takes_the_largest_that_fits() {
    let gib = 1 << 30;
    let all =
        [candidate("Q4_K_M", gib / 4), candidate("F32", 3 * gib), candidate("Q8_0", gib / 4 * 3)];
    let report = plan(&tiny(), &all, 48);
    let choices: Vec<Option<&str>> =
        report.devices.iter().map(|device| device.choice.as_deref()).collect();
    assert_eq!(choices, [Some("Q4_K_M"), Some("Q8_0"), Some("Q8_0"), Some("Q8_0"), Some("F32")]);
    assert_eq!(report.variants[0].recipe, "F32");
    let none = plan(&tiny(), &all[1..2], 48);
    assert_eq!(none.devices[0].choice, None);
    assert!(none.to_string().contains("none fits"));
}

#[test]
fn a_run_file_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    std::fs::write(&path, "[model]\n").unwrap();
    let (config, all) = candidates(&path, None).unwrap();
    assert_eq!(config.parameter_count(), 124_439_808);
    let weights = |recipe: &str| all.iter().find(|c| c.recipe == recipe).unwrap().weights;
    assert_eq!(weights("F32"), 124_439_808 * 4);
    // Matrices at 8.5 bits; 786,432 positions and 121,344 weights of norms and biases in F32.
    assert_eq!(weights("Q8_0"), (124_439_808 - 907_776) / 32 * 34 + 907_776 * 4);
    let bits = weights("Q4_K_M") as f64 * 8.0 / 124_439_808.0;
    assert!((5.0..6.2).contains(&bits), "{bits}");
    assert_eq!(plan(&config, &all, 1024).devices[0].choice.as_deref(), Some("F16"));

    std::fs::write(&path, "[data]\ntokenizer = \"simple\"\n").unwrap();
    assert!(candidates(&path, None).unwrap_err().to_string().contains("--vocab-size"));
    for size in [0, usize::MAX] {
        let error = candidates(&path, Some(size)).unwrap_err().to_string();
        assert!(error.contains("expected 1 to 67108864"), "{error}");
    }
    assert_eq!(candidates(&path, Some(100)).unwrap().0.vocab_size, 100);
}

#[test]
fn files_fragments_and_bundles_are_measured() {
    let fixture = Fixture::packed();
    let (config, found) = candidates(&fixture.path("Q8_0.gguf"), None).unwrap();
    assert_eq!(config, tiny());
    assert!(!found[0].estimated);
    let (_, all) = candidates(&fixture.output(), None).unwrap();
    assert_eq!(all.len(), 2);
    assert!(all.iter().any(|one| one.recipe == "Q8_0" && one.weights == found[0].weights));
    let manifest = fixture.output().join("model/Q8_0.manifest.json");
    assert_eq!(candidates(&manifest, None).unwrap().1[0].weights, found[0].weights);
    assert!(candidates(&fixture.path("nothing.gguf"), None).is_err());
}
