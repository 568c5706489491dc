//! An encoding into shards that is killed goes on, and gives the bytes of one that was not.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

fn encode(folder: &Path, output: &str) -> Child {
    crate::program::stage("data")
        .args(["encode", "texts", "--output", output, "--max-bytes", "60000"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let named = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    entries.map(named).collect()
}

/// Two files of records, one of them compressed.
fn write_texts(folder: &Path) {
    fs::create_dir(folder.join("texts")).unwrap();
    let mut lines = Vec::new();
    for at in 0..2000_usize {
        let text: String =
            data::BUILTIN_STORY.chars().cycle().skip(at * 7919).take(at * 31 % 3000).collect();
        lines.push(serde_json::json!({ "text": text }).to_string() + "\n");
    }
    fs::write(folder.join("texts/a.jsonl"), lines[..1200].concat()).unwrap();
    let rest = zstd::encode_all(lines[1200..].concat().as_bytes(), 1).unwrap();
    fs::write(folder.join("texts/b.jsonl.zst"), rest).unwrap();
}

#[test]
fn an_encoding_that_is_killed_ten_times_gives_the_same_shards() {
    let folder = tempfile::tempdir().unwrap();
    write_texts(folder.path());
    let started = Instant::now();
    assert!(encode(folder.path(), "whole/").wait().unwrap().success());
    let whole = started.elapsed();
    let expected = contents(&folder.path().join("whole"));
    assert!(expected.len() > 20, "{} shards", expected.len());

    let output = folder.path().join("killed");
    let mut killed = 0;
    for round in 0..10_u32 {
        if output.exists() {
            break;
        }
        let mut child = encode(folder.path(), "killed/");
        // From the first moment to almost the whole time, in an order of no kind.
        std::thread::sleep(whole * (round * 7 % 10) / 10);
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
    }
    assert!(killed > 0, "no round was quick enough to kill anything");
    while !output.exists() {
        let child = encode(folder.path(), "killed/").wait_with_output().unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    }
    assert!(contents(&output) == expected, "other bytes after {killed} kills");
    // Nothing that was killed is left.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

/// Two at once: one of them writes, the other one says so.
#[test]
fn a_second_encoder_of_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_texts(folder.path());
    let partial = folder.path().join("tokens.partial");
    let mut first = encode(folder.path(), "tokens/");
    while !partial.join("journal.jsonl").exists() && first.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    if first.try_wait().unwrap().is_none() {
        // It cannot go on, and keeps its lock.
        stop(first.id(), "-STOP");
        let second = encode(folder.path(), "tokens/").wait_with_output().unwrap();
        stop(first.id(), "-CONT");
        let error = String::from_utf8(second.stderr).unwrap();
        let expected = format!("is being written by data encode (process {})", first.id());
        assert!(error.contains(&expected) && !second.status.success(), "{error}");
    }
    assert!(first.wait().unwrap().success());
}

fn stop(process: u32, signal: &str) {
    let sent = Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
    assert!(sent.success());
}
