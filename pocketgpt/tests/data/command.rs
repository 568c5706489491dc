//! The real binary: exit codes, stdout and stderr, one line for each error.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

fn data(folder: &Path, args: &[&str]) -> Output {
    crate::program::stage("data").args(args).current_dir(folder).output().unwrap()
}

fn refused(folder: &Path, args: &[&str], expected: &str) {
    let output = data(folder, args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty());
    assert!(stderr.starts_with("error: ") && stderr.contains(expected), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn encode_and_inspect() {
    let folder = tempfile::tempdir().unwrap();
    let output = data(folder.path(), &["encode", "builtin", "--output", "tokens.bin", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["text_bytes"], data::BUILTIN_STORY.len());
    let inspected = data(folder.path(), &["inspect", "tokens.bin", "--json", "--show", "2"]);
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["tokens"], report["tokens"]);
    assert_eq!(inspected["tokens_blake3"], report["tokens_blake3"]);
    assert_eq!(inspected["top"].as_array().unwrap().len(), 2);

    refused(folder.path(), &["encode", "builtin", "-o", "tokens.bin"], "--force");
    refused(folder.path(), &["encode", "nothing.txt", "-o", "a.bin"], "nothing.txt");
    refused(folder.path(), &["encode", "the-verdict", "-o", "a.bin"], "data fetch the-verdict");
    refused(
        folder.path(),
        &["encode", "builtin", "-o", "a.bin", "--tokenizer", "b"],
        "tokenizer b",
    );
    refused(folder.path(), &["inspect", "tokens.bin", "--tokenizer", "simple"], "tokenizer.json");
}

/// What the user pipes in.
fn data_with_input(folder: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = crate::program::stage("data")
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn records_come_from_files_patterns_and_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let lines = b"{\"body\": \"the sea\"}\n{\"body\": \"the other sea\"}\n";
    std::fs::write(folder.path().join("a.jsonl"), lines).unwrap();
    let hash = |output: Output| {
        assert!(output.status.success(), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&report["documents"], &report["text_bytes"]), (&2.into(), &20.into()));
        report["tokens_blake3"].as_str().unwrap().to_owned()
    };
    fn encode<'a>(input: &[&'a str]) -> Vec<&'a str> {
        let options = ["--text-field", "body", "--json", "--force", "-o", "t.bin"];
        [&["encode"], input, &options].concat()
    }
    let of_file = hash(data(folder.path(), &encode(&["a.jsonl"])));
    assert_eq!(of_file, hash(data(folder.path(), &encode(&["*.jsonl"]))));
    let piped = encode(&["-", "--format", "jsonl"]);
    assert_eq!(of_file, hash(data_with_input(folder.path(), &piped, lines)));
    refused(folder.path(), &encode(&["-"]), "--format");
    let simple = encode(&["-", "--format", "jsonl", "--tokenizer", "simple"]);
    refused(folder.path(), &simple, "can be read only once");

    let inspected = data(folder.path(), &["inspect", "t.bin"]);
    let table = String::from_utf8(inspected.stdout).unwrap();
    assert!(table.contains("documents   2, of 3 to 4 tokens, 3.5 on average"), "{table}");
    assert!(table.contains("\"the sea<|endoftext|>\""), "{table}");
    let inspected = data(folder.path(), &["inspect", "a.jsonl", "--text-field", "body"]);
    let table = String::from_utf8(inspected.stdout).unwrap();
    assert!(table.contains("documents   2, of 2 to 3 tokens"), "{table}");
    assert!(table.contains("\"the other sea\""), "{table}");
    let train = ["train-tokenizer", "--input", "a.jsonl", "--text-field", "body", "-o", "t.json"];
    assert!(data(folder.path(), &train).status.success());
    refused(folder.path(), &["encode", "a.jsonl", "-o", "b.bin"], "field \"text\" is missing");
}

#[test]
fn a_simple_vocabulary_is_saved_and_used_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("text"), "the sea, the sea").unwrap();
    let encode =
        ["encode", "text", "-o", "t.bin", "--tokenizer", "simple", "--save-tokenizer", "t.json"];
    assert!(data(folder.path(), &encode).status.success());
    let inspected = data(folder.path(), &["inspect", "t.bin", "--tokenizer", "t.json"]);
    let table = String::from_utf8(inspected.stdout).unwrap();
    assert!(table.contains("simple, 5 tokens") && table.contains("\"sea\""), "{table}");
    refused(folder.path(), &["inspect", "t.bin"], "another tokenizer");
}

#[test]
fn a_vocabulary_is_learnt_saved_and_used() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("model")).unwrap();
    let output = "model/tokenizer.json";
    let train =
        ["train-tokenizer", "--input", "builtin", "--vocab-size", "500", "--output", output];
    let report = data(folder.path(), &[&train[..], &["--json"]].concat());
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!((&report["asked"], &report["vocab_size"]), (&500.into(), &500.into()));
    for tokenizer in [output, "model"] {
        let encode = ["encode", "builtin", "-o", "t.bin", "--tokenizer", tokenizer, "--force"];
        let table = data(folder.path(), &encode);
        let table = String::from_utf8(table.stdout).unwrap();
        assert!(table.contains("byte-level BPE, 500 tokens"), "{table}");
    }
    refused(folder.path(), &train, "--force");
    let few = data(folder.path(), &[&train[..4], &["300000", "-o", "all.json"]].concat());
    let table = String::from_utf8(few.stdout).unwrap();
    assert!(table.contains("of the 300,000 asked for"), "{table}");
    refused(
        folder.path(),
        &["train-tokenizer", "--input", "builtin", "--vocab-size", "9", "-o", "a.json"],
        "a vocabulary of 9",
    );
    std::fs::write(folder.path().join("text"), "a text").unwrap();
    refused(
        folder.path(),
        &["train-tokenizer", "--input", "text", "--output", "text", "--force"],
        "text is an input and the output at once",
    );
}

#[test]
fn a_saved_tokenizer_goes_over_nothing_and_comes_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("text"), "the sea, the sea").unwrap();
    let encode = |text: &'static str, save: &'static str| {
        let args = ["encode", text, "-o", "t.bin", "--tokenizer", "simple", "--save-tokenizer"];
        [&args[..], &[save]].concat()
    };
    let forced = |save| [&encode("text", save)[..], &["--force"]].concat();
    refused(folder.path(), &forced("./text"), "is an input and the output");
    refused(folder.path(), &forced("./t.bin"), "at once; name another file");
    assert_eq!(std::fs::read(path("text")).unwrap(), b"the sea, the sea");

    std::fs::write(path("old.json"), "precious").unwrap();
    refused(folder.path(), &encode("text", "old.json"), "old.json exists already; use --force");
    assert!(!path("t.bin").exists(), "refused before anything is written");

    std::fs::write(path("broken"), b"the sea \xff").unwrap();
    let broken =
        ["encode", "broken", "-o", "t.bin", "--tokenizer", "gpt2", "--save-tokenizer", "t.json"];
    refused(folder.path(), &broken, "broken");
    assert!(!path("t.json").exists() && !path("t.bin").exists());
}

#[test]
fn wrong_usage_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for args in [
        &["fetch", "no-such-corpus"][..],
        &["encode"],
        &["no-such-verb"],
        &[],
        &["encode", "builtin", "-o", "a.bin", "--threads", "100000"],
    ] {
        assert_eq!(data(folder.path(), args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_filter_says_what_it_left_out_and_a_folder_of_shards_is_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let record = |text: &str| serde_json::json!({ "text": text }).to_string() + "\n";
    let (one, two) = (&data::BUILTIN_STORY[..5000], &data::BUILTIN_STORY[5000..9000]);
    let lines = [record(one), record(two), record(one), record("short")].concat();
    std::fs::write(folder.path().join("a.jsonl"), lines).unwrap();
    let filter = ["filter", "a.jsonl", "--output", "b.jsonl", "--report", "b.json", "--show", "1"];
    let output = data(folder.path(), &filter);
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("duplicate") && shown.contains("a.jsonl: line 3"), "{shown}");
    let report = std::fs::read(folder.path().join("b.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert_eq!((&report["documents"], &report["kept"]), (&4.into(), &2.into()));
    refused(folder.path(), &filter, "--force");
    refused(folder.path(), &["filter", "a.jsonl", "-o", "a.jsonl", "--force"], "another output");
    refused(
        folder.path(),
        &["filter", "b.jsonl", "-o", "c", "--report", "b.jsonl"],
        "another file",
    );
    let unknown = data(folder.path(), &["filter", "b.jsonl", "-o", "c", "--without", "all"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("[possible values: too-short, "));

    let encode = ["encode", "b.jsonl", "--output", "tokens/", "--max-bytes", "4096", "--json"];
    let encoded = data(folder.path(), &encode);
    let encoded: serde_json::Value = serde_json::from_slice(&encoded.stdout).unwrap();
    assert!(encoded["shards"].as_u64().is_some_and(|shards| shards > 1), "{encoded}");
    let inspected = data(folder.path(), &["inspect", "tokens", "--json"]);
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["tokens_blake3"], encoded["tokens_blake3"]);
    assert_eq!(inspected["documents"]["count"], 2);
    refused(folder.path(), &encode, "tokens/ exists already");
    refused(folder.path(), &["encode", "tokens", "-o", "c.bin"], "token");
    refused(folder.path(), &["encode", "b.jsonl", "-o", "d/", "--max-bytes", "9"], "at least 4096");
}
