//! The `eval trace` command: intermediate results beside those of transformers, and the first one
//! that differs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "other tests use the rest of the fixture")]
use std::path::{Path, PathBuf};
use std::process::Output;

use super::common::{Fixture, eval, stderr, stdout};
use serde_json::Value;

/// A Gemma 3 as a Hugging Face folder, with transformers' results (`golden/make_trace.py`).
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../eval/tests/golden/trace")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(output)))
}

#[test]
fn every_stage_is_that_of_transformers() {
    let (model, against) = (golden(), golden().join("trace.safetensors"));
    let output = eval(&[
        &"trace",
        &"--model",
        &model,
        &"--against",
        &against,
        &"--tolerance",
        &"1e-6",
        &"--json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let report = json(&output);
    assert_eq!(report["tokens"], serde_json::json!([3, 17, 5, 39, 0, 22, 8, 31]));
    assert_eq!(report["only_in_model"], serde_json::json!([]));
    assert_eq!(report["only_in_other"], serde_json::json!([]));
    // 20 results in each of three blocks, and the embedding, the last norm and the logits.
    let stages = report["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 3 * 20 + 3);
    assert!(stages.iter().all(|stage| stage["relative_rms"].as_f64().unwrap() < 1e-6));
    let rms = |values: &[f32]| -> f64 {
        let squares: f64 = values.iter().map(|&x| f64::from(x).powi(2)).sum();
        (squares / values.len() as f64).sqrt()
    };
    let recorded = checkpoint::Weights::open(&against).unwrap();
    for stage in stages {
        let expected = rms(&recorded.read_f32(stage["name"].as_str().unwrap()).unwrap());
        assert!((stage["rms"].as_f64().unwrap() / expected - 1.0).abs() < 1e-6, "{stage}");
    }
}

#[test]
fn the_first_stage_that_a_changed_weight_reaches_is_named() {
    let fixture = Fixture::new();
    let ids = fixture.path("ids.txt");
    std::fs::write(&ids, "3, 14 15\n92\n").unwrap();
    for (tensor, first) in [
        ("blk.1.ffn_up.weight", "blk.1.ffn_up"),
        ("blk.0.attn_output.bias", "blk.0.attn_output"),
        ("output_norm.weight", "output_norm"),
    ] {
        let changed = fixture.changed("changed.gguf", |name, weights| {
            if name == tensor {
                weights[5] += 0.5;
            }
        });
        let output = eval(&[
            &"trace",
            &"--model",
            &changed,
            &"--against",
            &fixture.f32(),
            &"--tokens",
            &ids,
        ]);
        assert_eq!(output.status.code(), Some(1), "{tensor}: {}", stdout(&output));
        let error = stderr(&output);
        assert!(error.contains(&format!("{first} is the first that differs")), "{error}");
        let marked: Vec<String> = stdout(&output)
            .lines()
            .filter(|line| line.contains("<- first"))
            .map(|line| line.split_whitespace().next().unwrap().to_owned())
            .collect();
        assert_eq!(marked, [first], "{}", stdout(&output));
    }
}

#[test]
fn a_checkpoint_and_its_gguf_compute_the_same_for_a_text() {
    let fixture = Fixture::new();
    let (model, against) = (fixture.checkpoint(), fixture.f32());
    let output = eval(&[
        &"trace",
        &"--model",
        &model,
        &"--against",
        &against,
        &"--text",
        &"the cat",
        &"--tolerance",
        &"0",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // GPT-2: 13 results in each of two blocks, three embeddings, the last norm and the logits.
    let last = stdout(&output).lines().last().unwrap().to_owned();
    assert_eq!(last, "31 stages compared, none differs by more than 0.0e0");
}

#[test]
fn a_model_alone_is_traced() {
    let fixture = Fixture::new();
    let output = eval(&[&"trace", &"--model", &fixture.f32(), &"--text", &"the cat", &"--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report = json(&output);
    let first = &report["stages"][0];
    assert_eq!(first["name"], "token_embd");
    assert_eq!(first["shape"][1], 64);
    assert!(first["relative_rms"].is_null() && report["tolerance"].is_null());
}

#[test]
fn what_cannot_be_compared_is_refused_with_the_way_out() {
    let fixture = Fixture::new();
    let (f32, golden_folder, trace) = (fixture.f32(), golden(), golden().join("trace.safetensors"));
    let ids = fixture.path("ids.txt");
    let refused = |args: &[&dyn AsRef<std::ffi::OsStr>], code: i32, expected: &str| {
        let output = eval(args);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(expected), "{error}");
    };
    refused(&[&"trace", &"--model", &f32], 2, "nothing to read: give --text TEXT or --tokens FILE");
    std::fs::write(&ids, "1 two").unwrap();
    let with_ids: [&dyn AsRef<std::ffi::OsStr>; 5] =
        [&"trace", &"--model", &f32, &"--tokens", &ids];
    refused(&with_ids, 2, "\"two\" is not a token's id");
    std::fs::write(&ids, " \n").unwrap();
    refused(&with_ids, 2, "no ids; expected at least one");
    std::fs::write(&ids, "1 ".repeat(513)).unwrap();
    refused(&with_ids, 2, "give at most 512");
    std::fs::write(&ids, "1 2").unwrap();
    refused(
        &[&"trace", &"--model", &golden_folder, &"--against", &trace, &"--tokens", &ids],
        2,
        "leave --text and --tokens out",
    );
    // Another family: shapes differ from the first stage on.
    refused(
        &[&"trace", &"--model", &f32, &"--against", &golden_folder, &"--tokens", &ids],
        1,
        "token_embd is the first that differs: shape [2, 64], [2, 16] in the other trace",
    );
    // No trace at all.
    let weights = golden_folder.join("model.safetensors");
    refused(&[&"trace", &"--model", &f32, &"--against", &weights], 2, "tokens");
}
