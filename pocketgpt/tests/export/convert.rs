//! The `export` command as a user meets it.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use super::common;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{export, refusal};
use checkpoint::hash::hash_file;
use checkpoint::{Checkpoint, GgufView};
use gguf::{GgufFile, TensorSource, TensorType};

fn model(folder: &Path, name: &str) {
    common::write_checkpoint(&folder.join(name), &common::config(2, 8, 12));
}

#[test]
fn a_run_folder_gives_a_file_in_its_gguf_folder() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path(), "runs/story/checkpoints/step-000090");
    fs::write(folder.path().join("runs/story/latest"), "step-000090\n").unwrap();
    let output = export(folder.path(), &["--input", "runs/story", "--type", "bf16", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let path = folder.path().canonicalize().unwrap().join("runs/story/gguf/story-BF16.gguf");
    assert_eq!(report["output"], path.to_str().unwrap());
    let digests = hash_file(&path).unwrap();
    assert_eq!(report["size"], digests.size);
    assert_eq!(report["sha256"], digests.sha256.as_str());
    assert_eq!(report["blake3"], digests.blake3.as_str());
    let file = GgufFile::open(&path).unwrap();
    assert_eq!(report["tensors"], file.tensors().len());
    assert_eq!(file.metadata().string("general.name").unwrap(), "story");
}

#[test]
fn the_file_is_the_view_of_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path(), "model");
    let output = export(folder.path(), &["--input", "model", "--name", "A/B"]);
    assert!(output.status.success(), "{output:?}");
    let file = GgufFile::open(&folder.path().join("A-B-F32.gguf")).unwrap();
    let checkpoint = Checkpoint::open(&folder.path().join("model")).unwrap();
    let view = GgufView::new(checkpoint, TensorType::F32, "A/B").unwrap();
    assert_eq!(file.metadata(), view.metadata());
    assert_eq!(file.layout(), view.layout());
    for tensor in view.tensors() {
        assert_eq!(file.read(tensor).unwrap(), view.read(tensor).unwrap(), "{}", tensor.name);
    }
}

#[test]
fn hugging_face_round_trip_is_exact() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path(), "model");
    for (input, output) in [("model", "a"), ("a", "b")] {
        let args = ["--input", input, "--to", "huggingface", "--output", output];
        let output = export(folder.path(), &args);
        assert!(output.status.success(), "{output:?}");
    }
    let names = |folder: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let expected = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names(&folder.path().join("a")), expected);
    for name in expected {
        let read = |dir: &str| fs::read(folder.path().join(dir).join(name)).unwrap();
        assert_eq!(read("a"), read("b"), "{name}");
        assert_eq!(read("a"), read("model"), "{name}");
    }
}

#[test]
fn nothing_is_replaced_without_force() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path(), "model");
    fs::write(folder.path().join("a.gguf"), "precious").unwrap();
    let args = ["--input", "model", "--output", "a.gguf"];
    assert!(refusal(folder.path(), &args).contains("a.gguf exists already; use --force"));
    assert_eq!(fs::read(folder.path().join("a.gguf")).unwrap(), b"precious");
    assert!(export(folder.path(), &[&args[..], &["--force"]].concat()).status.success());
    assert!(GgufFile::open(&folder.path().join("a.gguf")).is_ok());
}

#[test]
fn a_checkpoint_named_from_inside_gets_its_file_in_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let step = folder.path().join("runs/story/checkpoints/step-000090");
    common::write_checkpoint(&step, &common::config(2, 8, 12));
    let before = fs::read_dir(&step).unwrap().count();
    for input in [".", "../step-000090"] {
        let output = export(&step, &["--input", input, "--force"]);
        assert!(output.status.success(), "{output:?}");
        let path = folder.path().join("runs/story/gguf/story-F32.gguf");
        fs::remove_file(path).unwrap();
    }
    assert_eq!(fs::read_dir(&step).unwrap().count(), before);
}

#[test]
fn a_checkpoint_is_never_exported_over_itself() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    model(dir, "models/a");
    let weights = hash_file(dir.join("models/a/model.safetensors")).unwrap();
    for output in ["models/a", "models/a/", "models", "models/a/inner", "models/b/../a"] {
        let hugging_face = ["--to", "huggingface", "--input", "models/a", "--force", "--output"];
        let error = refusal(dir, &[&hugging_face[..], &[output]].concat());
        assert!(error.contains("name another output"), "{error}");
    }
    let gguf = ["--input", "models/a", "--force", "--output", "models/a/../a/model.safetensors"];
    let error = refusal(dir, &gguf);
    assert!(error.contains("part of the checkpoint itself"), "{error}");
    assert_eq!(hash_file(dir.join("models/a/model.safetensors")).unwrap(), weights);
    assert!(dir.join("models/a/trainer.json").exists());
}

#[test]
fn bad_input_gets_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    model(dir, "model");
    model(dir, "other");
    let config = dir.join("other/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"gpt2\"", "\"mamba\"")).unwrap();
    model(dir, "bare");
    fs::remove_file(dir.join("bare/tokenizer.json")).unwrap();
    model(dir, "cut");
    let weights = fs::read(dir.join("cut/model.safetensors")).unwrap();
    fs::write(dir.join("cut/model.safetensors"), &weights[..weights.len() - 4]).unwrap();
    fs::write(dir.join("file"), "").unwrap();

    for (args, expected) in [
        (vec!["--input", "nowhere"], "nowhere: no config.json here"),
        (
            vec!["--input", "file"],
            "a llama2.c model has no tokenizer inside; name it with --tokenizer",
        ),
        (vec!["--input", "other"], "architecture mamba is not supported"),
        (vec!["--input", "bare"], "with --tokenizer none the GGUF goes without"),
        (vec!["--input", "cut"], "not a whole safetensors file"),
        (vec!["--input", "model", "--type", "Q4_K"], "for smaller files use quantize"),
        (vec!["--input", "model", "--output", "file/a.gguf"], "cannot write in the folder file"),
        (vec!["--input", "model", "--output", "model"], "model is a folder; name a file"),
        (vec!["--input", "model", "--to", "huggingface"], "needs --output FOLDER"),
        (vec!["--input", "model", "--to", "huggingface", "--output", "other"], "use --force"),
    ] {
        let error = refusal(dir, &args);
        assert!(error.contains(expected), "{error}");
    }
}

/// A limit on the size of files makes a write fail halfway, as a full disk does.
#[cfg(unix)]
#[test]
fn a_write_that_fails_halfway_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    common::write_checkpoint(&dir.join("model"), &common::config(2, 64, 4096));
    fs::write(dir.join("a.gguf"), "precious").unwrap();
    let script =
        "trap '' XFSZ; ulimit -f 64; exec \"$0\" export --input model --output a.gguf --force";
    let output = Command::new("sh")
        .args(["-c", script, crate::program::PATH])
        .current_dir(dir)
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.starts_with("error: cannot export model: "), "{error}");
    assert!(error.contains(": cannot write a.gguf: "), "{error}");
    assert_eq!(fs::read(dir.join("a.gguf")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(dir).unwrap().count(), 2, "nothing is left behind");
}
