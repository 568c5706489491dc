//! From a run folder, as `pocketgpt run` leaves it, to a bundle.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::path::Path;

use crate::common::{tiny, write_gguf};
use bundle::{PackJob, pack, verify};
use checkpoint::{CheckpointContents, NamedTensor, TrainerState};
use config::ModelConfig;
use gguf::TensorType;
use serde_json::{Value, json};

/// A run folder with one checkpoint, `gguf/tiny-Q8_0.gguf`, `fragments/Q4_0` and a report.
fn run_folder(run: &Path, gates_met: bool) {
    let tokenizer = data::Tokenizer::simple("every effort moves you");
    let config = ModelConfig { vocab_size: tokenizer.vocab_size(), ..tiny() };
    let config_toml = "[quantize]\nrecipes = [\"Q4_0\", \"Q8_0\"]\n\
        [bundle]\nrelease = 4\nexpires = \"9999-12-31\"\nname = \"from a run\"\nlicense = \"MIT\"\nprompt = \"every effort\"\nself_test_tokens = 5\n";
    std::fs::write(run.join("config.toml"), config_toml).unwrap();

    let weights: Vec<NamedTensor> = checkpoint::names::tensors(&config)
        .into_iter()
        .map(|row| NamedTensor {
            data: vec![0.0; row.elements()],
            name: row.hugging_face,
            shape: row.shape,
        })
        .collect();
    let trainer = TrainerState { tokens_hash: "ab".repeat(32), ..TrainerState::default() };
    let contents = CheckpointContents {
        config: &config,
        weights: &weights,
        tokenizer_json: &tokenizer.tokenizer_json().unwrap(),
        tokenizer_folder: None,
        optimizer: None,
        trainer: &trainer,
        golden: None,
    };
    checkpoint::save(&run.join("checkpoints/step-000001"), contents).unwrap();
    std::fs::write(run.join("latest"), "step-000001\n").unwrap();

    let folder = run.join("gguf");
    std::fs::create_dir(&folder).unwrap();
    write_gguf(&folder.join("tiny-Q4_0.gguf"), &config, TensorType::Q4_0);
    write_gguf(&folder.join("tiny-Q8_0.gguf"), &config, TensorType::Q8_0);
    let (input, output) = (folder.join("tiny-Q4_0.gguf"), run.join("fragments/Q4_0"));
    fragment::split(&fragment::SplitJob { input, output, max_bytes: 8192, force: false }).unwrap();
    std::fs::write(run.join("report.json"), report(&folder, gates_met).to_string()).unwrap();
}

fn report(folder: &Path, gates_met: bool) -> Value {
    let file = |recipe: &str| {
        let path = folder.join(format!("tiny-{recipe}.gguf"));
        let found = bundle::candidates(&path, None).unwrap().candidates;
        let sha256 = checkpoint::hash::hash_file(&path).unwrap().sha256;
        json!({"recipe": recipe, "tensor_bytes": found[0].weights, "sha256": sha256})
    };
    let pass = |recipe: &str| json!({"engine": "reference", "recipe": recipe});
    json!({
        "format": "pocketgpt.report", "version": 1,
        "files": [file("Q4_0"), file("Q8_0")],
        "pairs": [{"base": pass("F32"), "candidate": pass("Q8_0"),
                   "metrics": {"kl": {"mean": 0.5}, "top1_agreement": 0.25,
                               "base_perplexity": 3.0, "perplexity": 4.0}}],
        "gates": [{"name": "Q8_0 mean KL", "measured": 0.5, "limit": 0.25, "passed": gates_met}],
    })
}

#[test]
fn a_run_folder_becomes_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    run_folder(folder.path(), true);
    let job = PackJob::from_run(folder.path(), None).unwrap();
    assert_eq!(job.prompt_tokens.len(), 2);
    assert!(job.variants[0].source.ends_with("fragments/Q4_0"), "fragments come first");
    assert!(job.variants[1].source.ends_with("gguf/tiny-Q8_0.gguf"));
    assert_eq!((job.release, job.expires.as_deref()), (Some(4), Some("9999-12-31")));
    let report = pack(&job).unwrap();
    assert_eq!(report.output, folder.path().join("bundle"));
    verify(&report.output).unwrap().require_sound().unwrap();

    let manifest = bundle::read_manifest(&report.output).unwrap();
    assert_eq!(manifest.name, "from a run");
    assert_eq!(manifest.variants[1].quality.mean_kl, Some(0.5));
    assert_eq!(manifest.expected("Q8_0").unwrap().len(), 5);
    assert_eq!(manifest.provenance.data_blake3, Some("ab".repeat(32)));
    assert!(manifest.provenance.run_file.unwrap().contains("from a run"));
}

#[test]
fn a_missed_gate_makes_no_bundle() {
    let folder = tempfile::tempdir().unwrap();
    run_folder(folder.path(), false);
    let error = PackJob::from_run(folder.path(), None).unwrap_err();
    assert!(error.downcast_ref::<cli::GateFailed>().is_some(), "{error}");
    assert!(error.to_string().contains("Q8_0 mean KL"));
}

#[test]
fn a_file_that_changed_after_eval_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    run_folder(folder.path(), true);
    // Same sizes, other weights: only the hash in the report tells.
    let path = folder.path().join("gguf/tiny-Q8_0.gguf");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 40;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let job = PackJob::from_run(folder.path(), None).unwrap();
    let error = cli::one_line(&pack(&job).unwrap_err());
    assert!(error.contains("the report is of another file"), "{error}");
    assert!(!folder.path().join("bundle").exists());
}
