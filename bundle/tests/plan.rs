//! Which variant fits which device.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use crate::common::{Fixture, tiny};
use bundle::{Candidate, Planned, candidates, plan};

fn candidate(recipe: &str, weights: u64) -> Candidate {
    Candidate { recipe: recipe.to_owned(), weights, estimated: false }
}

#[test]
fn each_device_takes_what_the_web_chat_proposes() {
    let gib = 1 << 30;
    let all =
        [candidate("Q4_K_M", gib / 4), candidate("F32", 3 * gib), candidate("Q8_0", gib / 4 * 3)];
    let planned =
        |all: &[Candidate]| Planned { config: tiny(), candidates: all.to_vec(), training: None };
    let report = plan(&planned(&all), 48);
    let choices: Vec<Option<&str>> =
        report.devices.iter().map(|device| device.choice.as_deref()).collect();
    let (four, eight) = (Some("Q4_K_M"), Some("Q8_0"));
    assert_eq!(choices, [four, four, four, eight, eight, eight]);
    assert_eq!(report.devices[4].fits, ["F32", "Q8_0", "Q4_K_M"]);
    assert!(report.to_string().lines().any(|line| {
        line.starts_with("8 GB") && line.contains("Q8_0") && line.ends_with("F32, Q4_K_M")
    }));
    assert_eq!(report.variants[0].recipe, "F32");
    let none = plan(&planned(&all[1..2]), 48);
    assert_eq!(none.devices[0].choice, None);
    assert!(none.to_string().contains("none fits"));
}

#[derive(serde::Deserialize)]
struct Proposal {
    what: String,
    memory_gib: u64,
    addressable: Option<u64>,
    variants: Vec<Size>,
    proposed: Option<String>,
}

#[derive(serde::Deserialize)]
struct Size {
    recipe: String,
    total: u64,
}

/// `bundle/app/tests/choose.test.ts` reads the same cases.
#[test]
fn the_web_chat_and_the_plan_propose_the_same() {
    let cases: Vec<Proposal> = serde_json::from_str(include_str!("golden/proposals.json")).unwrap();
    for case in cases {
        let sizes: Vec<(&str, u64)> =
            case.variants.iter().map(|size| (size.recipe.as_str(), size.total)).collect();
        let budget = bundle::budget(case.memory_gib).min(case.addressable.unwrap_or(u64::MAX));
        let found = bundle::proposed(&sizes, case.memory_gib, budget);
        assert_eq!(found, case.proposed.as_deref(), "{}", case.what);
    }
}

/// The sizes that the run file `text` comes to.
fn sizes(text: &str, vocab_size: Option<usize>) -> anyhow::Result<Planned> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    std::fs::write(&path, text).unwrap();
    candidates(&path, vocab_size)
}

fn weights(planned: &Planned, recipe: &str) -> u64 {
    planned.candidates.iter().find(|c| c.recipe == recipe).unwrap().weights
}

#[test]
fn a_run_file_is_enough() {
    let found = sizes("[model]\n", None).unwrap();
    assert_eq!(found.config.parameter_count(), 124_439_808);
    assert_eq!(weights(&found, "F32"), 124_439_808 * 4);
    // Matrices at 8.5 bits; 786,432 positions and 121,344 weights of norms and biases in F32.
    assert_eq!(weights(&found, "Q8_0"), (124_439_808 - 907_776) / 32 * 34 + 907_776 * 4);
    let bits = weights(&found, "Q4_K_M") as f64 * 8.0 / 124_439_808.0;
    assert!((5.0..6.2).contains(&bits), "{bits}");
    assert_eq!(plan(&found, 1024).devices[0].choice.as_deref(), Some("Q4_K_M"));
    assert!(plan(&found, 1024).to_string().contains("training 124,439,808 parameters"));
}

#[test]
fn the_vocabulary_is_the_tokenizers() {
    let trained = "[data]\ntokenizer = \"trained\"\nvocab_size = 4096\n";
    assert_eq!(sizes(trained, None).unwrap().config.vocab_size, 4096);
    for open in [
        "[data]\ntokenizer = \"simple\"\n",
        "[train]\ninit_from = \"not-there\"\n",
        "[data]\ntokenizer = \"huggingface\"\ntokenizer_path = \"not-there\"\n",
    ] {
        let error = cli::one_line(&sizes(open, None).unwrap_err());
        assert!(error.contains("--vocab-size"), "{error}");
        assert_eq!(sizes(open, Some(100)).unwrap().config.vocab_size, 100);
        for size in [0, usize::MAX] {
            let error = cli::one_line(&sizes(open, Some(size)).unwrap_err());
            assert!(error.contains("expected 1 to 16777216"), "{error}");
        }
    }
}

/// The file sizes of TinyLlama 1.1B that llama-quantize is known to make, header and padding
/// aside: 1.17 GB in Q8_0 and 668 MB in Q4_K_M.
#[test]
fn computed_sizes_are_those_of_real_files() {
    let text = "[model]\narchitecture = \"llama\"\ncontext_length = 2048\nn_layer = 22\n\
        n_head = 32\nn_kv_head = 4\nn_embd = 2048\nn_inner = 5632\ntie_embeddings = false\n\
        [data]\ntokenizer = \"trained\"\nvocab_size = 32000\n";
    let found = sizes(text, None).unwrap();
    assert_eq!(weights(&found, "F32"), 1_100_048_384 * 4);
    assert!((1.168e9..1.170e9).contains(&(weights(&found, "Q8_0") as f64)));
    assert!((0.666e9..0.669e9).contains(&(weights(&found, "Q4_K_M") as f64)));
}

#[test]
fn files_fragments_and_bundles_are_measured() {
    let fixture = Fixture::packed();
    let file = candidates(&fixture.path("Q8_0.gguf"), None).unwrap();
    assert_eq!(file.config, tiny());
    assert!(!file.candidates[0].estimated);
    assert_eq!(file.training, None);
    let all = candidates(&fixture.output(), None).unwrap();
    assert_eq!(all.candidates.len(), 2);
    assert_eq!(weights(&all, "Q8_0"), file.candidates[0].weights);
    let manifest = fixture.output().join("model/Q8_0.manifest.json");
    let pieces = candidates(&manifest, None).unwrap();
    assert_eq!(pieces.candidates[0].weights, file.candidates[0].weights);
    assert!(candidates(&fixture.path("nothing.gguf"), None).is_err());
}
