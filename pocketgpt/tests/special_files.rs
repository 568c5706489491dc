//! What is no file where a file is expected: every command says so at once and never waits.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::os::unix::fs::FileTypeExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Far more than any of these commands takes.
const LONGEST: Duration = Duration::from_secs(30);

fn run(folder: &std::path::Path, arguments: &str) -> Output {
    let mut child = crate::program::command()
        .args(arguments.split(' '))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > LONGEST {
            child.kill().unwrap();
            panic!("{arguments}: still running after {LONGEST:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

fn is_refused(folder: &std::path::Path, arguments: &str, name: &str) {
    let output = run(folder, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments}: {error}");
    assert!(error.contains(name), "{arguments}: {error}");
}

fn make_pipe(path: &std::path::Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_pipe_as_an_input_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    make_pipe(&at("pipe.gguf"));
    make_pipe(&at("pipe.txt"));
    std::fs::write(at("text.txt"), "some words to read, again and again").unwrap();
    for folder in ["pieces", "model", "run", "bundle"] {
        std::fs::create_dir(at(folder)).unwrap();
    }
    make_pipe(&at("pieces/manifest.json"));
    make_pipe(&at("model/config.json"));
    make_pipe(&at("run/config.toml"));
    make_pipe(&at("bundle/bundle.json"));
    for (arguments, name) in [
        ("run --config pipe.txt", "pipe.txt"),
        ("train --config pipe.txt", "pipe.txt"),
        ("data encode pipe.txt --tokenizer gpt2 --output t.bin", "pipe.txt"),
        ("data encode text.txt --tokenizer pipe.txt --output t.bin", "pipe.txt"),
        ("data inspect pipe.txt", "pipe.txt"),
        ("export --input pipe.gguf --output out.gguf", "pipe.gguf"),
        ("export --input model --output out.gguf", "model"),
        ("quantize --input pipe.gguf --type Q8_0 --output out.gguf", "pipe.gguf"),
        ("fragment split --input pipe.gguf --output out", "pipe.gguf"),
        ("fragment verify --input pieces", "pieces"),
        ("fragment join --input pieces --output out.gguf", "pieces"),
        ("generate --model pipe.gguf --prompt x", "pipe.gguf"),
        ("generate --model model --prompt x", "model"),
        ("eval --run run", "run"),
        ("eval sweep --base pipe.gguf --text text.txt pipe.gguf", "pipe.gguf"),
        ("bundle verify --input pipe.gguf", "pipe.gguf"),
        ("bundle verify --input bundle", "bundle"),
        ("bundle pack --run run", "config.toml"),
        ("bundle plan --input pipe.gguf", "pipe.gguf"),
    ] {
        is_refused(folder.path(), arguments, name);
    }
}

#[test]
fn an_output_is_never_put_in_the_place_of_a_pipe_or_a_device() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("text.txt"), "some words to read, again and again").unwrap();
    make_pipe(&at("pipe"));
    std::os::unix::fs::symlink("/dev/full", at("device")).unwrap();
    for name in ["pipe", "device"] {
        let encode = "data encode text.txt --tokenizer simple --force --output";
        is_refused(folder.path(), &format!("{encode} {name}"), name);
        is_refused(folder.path(), &format!("bundle keygen --force --output {name}"), name);
    }
    assert!(at("pipe").symlink_metadata().unwrap().file_type().is_fifo());
    assert!(at("device").symlink_metadata().unwrap().is_symlink());
}
