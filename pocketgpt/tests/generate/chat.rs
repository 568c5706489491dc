//! `generate chat` as the real binary, with input from a pipe.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::tiny;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::tiny::write_chat;

fn chat(folder: &Path, args: &[&str], input: &str) -> Output {
    let mut child = crate::program::stage("generate")
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .args(["chat", "--max-tokens", "8", "--temperature", "1.5"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A process that refuses its arguments does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_chat(folder.path());
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn saved(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn roles(conversation: &serde_json::Value) -> Vec<&str> {
    let messages = conversation["messages"].as_array().unwrap();
    messages.iter().map(|message| message["role"].as_str().unwrap()).collect()
}

#[test]
fn turns_are_answered_saved_and_gone_on_with() {
    let folder = folder();
    let args = ["--model", "chat.gguf", "--save", "talk.json", "--system", "hm"];
    let output = chat(folder.path(), &args, "a\n\nb\n");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let first = saved(&folder.path().join("talk.json"));
    assert_eq!(roles(&first), ["system", "user", "assistant", "user", "assistant"]);
    let answers: String = [2, 4]
        .map(|turn| first["messages"][turn]["content"].as_str().unwrap().to_owned() + "\n")
        .concat();
    assert_eq!(text(&output.stdout), answers, "stdout has the answers and nothing else");

    let output = chat(folder.path(), &["--model", "chat.gguf", "--resume", "talk.json"], "c\n");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let second = saved(&folder.path().join("talk.json"));
    assert_eq!(roles(&second).len(), 7);
    assert_eq!(second["messages"][4], first["messages"][4]);

    let output = chat(folder.path(), &args, "a\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("pass --resume"), "{}", text(&output.stderr));
    let forced = chat(folder.path(), &[&args[..], &["--force"]].concat(), "/exit\nb\n");
    assert!(forced.status.success());
    assert_eq!(text(&forced.stdout).trim(), "", "nothing was asked");
}

#[test]
fn keys_and_values_that_are_kept_change_nothing() {
    let folder = folder();
    let args = ["--model", "chat.gguf", "--greedy", "--json"];
    let both = |input: &str, extra: &[&str]| -> serde_json::Value {
        let mut command = crate::program::stage("generate");
        let command = command.current_dir(folder.path()).args(["chat", "--max-tokens", "5"]);
        let mut child = command
            .args(args)
            .args(extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap()
    };
    let at_once = both("a\nb\n", &[]);
    both("a\n", &["--save", "part.json"]);
    let in_parts = both("b\n", &["--resume", "part.json"]);
    assert_eq!(at_once["messages"], in_parts["messages"]);
    assert_eq!(roles(&at_once), ["user", "assistant", "user", "assistant"]);
}

#[test]
fn the_oldest_turns_make_room() {
    let folder = folder();
    let output = chat(folder.path(), &["--model", "chat.gguf"], &"aaaaaaaa\n".repeat(6));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("no longer fit in the context of 64 tokens"), "{stderr}");
    let output = chat(folder.path(), &["--model", "chat.gguf"], &"a".repeat(70));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("say it in fewer words"), "{}", text(&output.stderr));
}

#[test]
fn a_model_without_a_template_says_so_and_can_go_on_from_text() {
    let folder = folder();
    tiny::write(&tiny::tiny(), folder.path());
    let output = chat(folder.path(), &["--model", "tiny.gguf"], "a\n");
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("has no chat template") && stderr.contains("--plain"), "{stderr}");
    let output = chat(folder.path(), &["--model", "tiny.gguf", "--plain"], "th\n");
    assert!(output.status.success(), "{}", text(&output.stderr));

    std::fs::write(folder.path().join("t.jinja"), "{{ raise_exception('not today') }}").unwrap();
    let output = chat(folder.path(), &["--model", "tiny.gguf", "--template", "t.jinja"], "a\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("not today"), "{}", text(&output.stderr));
}

/// While no answer is being generated, Ctrl-C ends the process; the conversation is saved.
#[cfg(unix)]
#[test]
fn ctrl_c_between_answers_leaves_with_130() {
    use std::io::Read;
    let folder = folder();
    let mut child = crate::program::stage("generate")
        .current_dir(folder.path())
        .args(["chat", "--model", "chat.gguf", "--save", "talk.json", "--max-tokens", "3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"a\nb\n").unwrap();
    // The line end before the second answer: the first one is saved by then.
    let mut output = child.stdout.take().unwrap();
    let mut byte = [0];
    while byte != *b"\n" {
        output.read_exact(&mut byte).unwrap();
    }
    while !folder.path().join("talk.json").exists()
        || roles(&saved(&folder.path().join("talk.json"))).len() < 4
    {
        std::thread::yield_now();
    }
    // The state after the save is set within microseconds. A signal before it only stops the answer
    // that has ended, so one of the two signals arrives while the program waits for input.
    for _ in 0..2 {
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(roles(&saved(&folder.path().join("talk.json"))).len(), 4);
}

#[test]
fn bad_input_is_one_line_and_exit_code_2() {
    let folder = folder();
    std::fs::write(folder.path().join("bad.json"), "{}").unwrap();
    std::fs::write(folder.path().join("bad.jinja"), "{% if %}").unwrap();
    for (args, expected) in [
        (&["--resume", "none.json"][..], "none.json"),
        (&["--resume", "bad.json"], "expected a conversation saved by"),
        (&["--template", "bad.jinja"], "the chat template cannot be used"),
        (&["--template", "none.jinja"], "none.jinja"),
        (&["--top-p", "7"], "top-p = 7"),
    ] {
        let output = chat(folder.path(), &[&["--model", "chat.gguf"], args].concat(), "a\n");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(expected), "{args:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_bundle_is_talked_to_through_a_file_in_the_cache() {
    let folder = folder();
    let model = folder.path().join("pocket/model");
    std::fs::create_dir_all(&model).unwrap();
    let gguf = folder.path().join("chat.gguf");
    fragment::split_into(&model, "F32.manifest.json", &gguf, 1 << 20).unwrap();
    let direct = chat(folder.path(), &["--model", "chat.gguf", "--engine", "llama"], "a\n");
    for _ in ["joined", "found again"] {
        let output = chat(folder.path(), &["--bundle", "pocket", "--variant", "F32"], "a\n");
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), text(&direct.stdout));
        std::fs::rename(&model, folder.path().join("away")).ok();
        std::fs::create_dir_all(&model).unwrap();
        let manifest = folder.path().join("away/F32.manifest.json");
        std::fs::copy(manifest, model.join("F32.manifest.json")).unwrap();
    }
}
