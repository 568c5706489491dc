//! The real binary: what it prints to stdout and stderr, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Output;

use super::tiny::{tiny, write};

fn generate(folder: &Path, args: &[&str]) -> Output {
    crate::program::stage("generate").current_dir(folder).args(args).output().unwrap()
}

/// A folder with `tiny.gguf` in it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&tiny(), folder.path());
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The JSON of a run that must succeed.
fn json(folder: &Path, args: &[&str]) -> serde_json::Value {
    let output = generate(folder, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn text_goes_to_stdout_and_speed_to_stderr() {
    let folder = folder();
    let args = ["--model", "tiny.gguf", "--prompt", "the end", "--max-tokens", "12", "--greedy"];
    let output = generate(folder.path(), &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(stdout.starts_with("the end"), "{stdout}");
    assert!(stderr.contains("tokens, the first after"), "{stderr}");
    assert!(stderr.contains("tokens/s"), "{stderr}");

    let report = json(folder.path(), &args);
    assert_eq!(report["prompt"], "the end");
    let written = format!("the end{}\n", report["text"].as_str().unwrap());
    assert_eq!(stdout, written, "what was streamed is what was reported");
    assert_eq!(report["prompt_tokens"], 6, "th is one token");
    assert_eq!(report["engine"], "reference");
}

#[test]
fn equal_seeds_write_equal_texts() {
    let folder = folder();
    let write = |seed: &str| {
        let args = ["--model", "tiny.gguf", "--prompt", "a", "--max-tokens", "30", "--seed", seed];
        json(folder.path(), &args)["tokens"].clone()
    };
    assert_eq!(write("7"), write("7"));
    assert_ne!(write("7"), write("8"));
}

#[test]
fn llama_writes_too() {
    let folder = folder();
    let args = ["--model", "tiny.gguf", "--prompt", "a", "--max-tokens", "5", "--engine", "llama"];
    let report = json(folder.path(), &args);
    assert_eq!(report["engine"], "llama");
    assert!(report["tokens"].as_array().unwrap().len() <= 5);
}

#[test]
fn a_full_context_ends_the_text_with_a_note() {
    let folder = folder();
    let args = ["--model", "tiny.gguf", "--prompt", "aaaa", "--max-tokens", "500", "--temperature"];
    let output = generate(folder.path(), &[&args[..], &["3", "--top-k", "0"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let stderr = text(&output.stderr);
    let ended = stderr.contains("the model's context is full") || stderr.contains("ended the text");
    assert!(ended, "{stderr}");
}

#[test]
fn strategies_stand_side_by_side() {
    let folder = folder();
    let args = ["compare", "--model", "tiny.gguf", "--prompt", "th", "--max-tokens", "20"];
    let output = generate(folder.path(), &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for column in ["strategy", "distinct-1", "repeated-4", "tokens/s", "greedy", "top-k=40"] {
        assert!(table.contains(column), "{column} is not in:\n{table}");
    }
    assert!(text(&output.stderr).contains("6 texts"));

    let two = ["--strategy", "greedy", "--strategy", "temperature=0.5,top-p=0.8"];
    let report = json(folder.path(), &[&args[..], &two].concat());
    assert_eq!(report["texts"].as_array().unwrap().len(), 2);
    assert_eq!(report["texts"][1]["strategy"], "temperature=0.5,top-p=0.8");
    assert!(report["texts"][0]["distinct_2"].as_f64().is_some());
}

#[test]
fn the_picture_is_a_pdf_and_is_not_overwritten() {
    let folder = folder();
    let args = ["temperature-plot", "--model", "tiny.gguf", "--prompt", "th"];
    let args = [&args[..], &["--output", "t.pdf", "--temperatures", "0.5,2"]].concat();
    let report = json(folder.path(), &args);
    let pdf = std::fs::read(folder.path().join("t.pdf")).unwrap();
    assert!(pdf.starts_with(b"%PDF-"));
    let tokens = report["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 10);
    let (cold, hot) = (&tokens[0]["probabilities"][0], &tokens[0]["probabilities"][1]);
    assert!(cold.as_f64() > hot.as_f64(), "cold is sharper: {cold} {hot}");

    let again = generate(folder.path(), &args);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("--force"), "{}", text(&again.stderr));
    json(folder.path(), &[&args[..], &["--force"]].concat());
}

#[test]
fn bad_input_is_one_line_and_exit_code_2() {
    let folder = folder();
    std::fs::write(folder.path().join("cut.gguf"), b"GGUF\x03\0\0\0").unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let long = "a ".repeat(40);
    for (args, expected) in [
        (&["--model", "none.gguf", "--prompt", "a"][..], "none.gguf: not found"),
        (&["--model", "tiny.gguf", "--prompt", ""], "the prompt is empty"),
        (&["--model", "tiny.gguf", "--prompt", "a", "--top-p", "1.5"], "top-p = 1.5: expected"),
        (&["--model", "tiny.gguf", "--prompt", "a", "--temperature=-1"], "temperature = -1"),
        (&["--model", "tiny.gguf", "--prompt", &long], "do not fit in the model's context of 64"),
        (&["--model", "cut.gguf", "--prompt", "a"], "cut.gguf"),
        (&["--model", "empty", "--prompt", "a"], "empty"),
        (&["--model", "empty", "--prompt", "a", "--engine", "llama"], "empty"),
        (&["--model", "tiny.gguf", "--prompt", "a", "--tokenizer", "no.json"], "no.json"),
        (
            &["compare", "--model", "tiny.gguf", "--prompt", "a", "--strategy", "beam=4"],
            "strategy beam=4: expected greedy",
        ),
        (
            &[
                "temperature-plot",
                "--model",
                "tiny.gguf",
                "--prompt",
                "a",
                "--output",
                "t.pdf",
                "--temperatures",
                "0",
            ],
            "temperature = 0: expected more than 0",
        ),
        (&["--prompt", "a"], "--model"),
    ] {
        let output = generate(folder.path(), args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}: nothing on stdout");
    }
}
