//! A disk that is full while a checkpoint is written: the old one stays, and training goes on.
//!
//! A limit on the size of a file simulates the disk: a write beyond it fails in the middle of the
//! file, as on a full disk.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use super::common::{Fixture, assert_same_end, metrics, resume, train};
use checkpoint::Checkpoint;
use config::RunFile;

/// A model whose weights exceed the limit, while everything else is far below it.
fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.run_file.model.n_embd = 64;
    fixture.run_file.train.max_steps = Some(3);
    fixture
}

/// The real command with a limit of 200 blocks (of 512 or 1024 bytes) for each file.
fn limited(fixture: &Fixture, run_file: &RunFile) -> Child {
    let script = r#"trap '' XFSZ; ulimit -S -f 200; exec "$0" train --resume --config "$1""#;
    Command::new("sh")
        .args(["-c", script, crate::program::PATH])
        .arg(fixture.config_file(run_file))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads lines up to the first that contains `part`.
fn read_until(messages: &mut impl BufRead, part: &str) -> String {
    let mut text = String::new();
    while !text.contains(part) {
        assert!(messages.read_line(&mut text).unwrap() > 0, "ended without {part:?}: {text}");
    }
    text
}

fn signal(child: &Child, signal: &str) {
    Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
}

/// Lifts the limit.
fn make_room(child: &Child) {
    let room = Command::new("prlimit")
        .args(["--pid", &child.id().to_string(), "--fsize=unlimited"])
        .status()
        .unwrap();
    assert!(room.success());
}

/// Whether the program that lifts the limit is installed; prints a message if it is not.
fn can_make_room(test: &str) -> bool {
    let found = Command::new("prlimit").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        println!("{test} skipped: prlimit not found");
    }
    found
}

#[test]
fn the_old_checkpoint_stays_and_the_run_can_go_on_once_there_is_room() {
    let fixture = fixture();
    let mut whole = fixture.other("whole");
    whole.train.max_steps = Some(8);
    train(&whole);
    let mut run_file = fixture.other("limited");
    train(&run_file);

    run_file.train.max_steps = Some(8);
    let mut child = limited(&fixture, &run_file);
    let mut messages = BufReader::new(child.stderr.take().unwrap());
    let mut message = read_until(&mut messages, "in memory only");
    signal(&child, "-INT");
    messages.read_to_string(&mut message).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{message}");
    let tried_again = "training goes on and tries again in 2 steps";
    assert_eq!(message.matches(tried_again).count(), 2, "{message}");
    let last = message.lines().last().unwrap();
    assert!(last.contains("step-000008") && last.contains("too large"), "{message}");

    let kept = checkpoint::latest(&run_file.run.dir).unwrap();
    assert!(kept.ends_with("step-000003"), "{}", kept.display());
    assert_eq!(Checkpoint::open(&kept).unwrap().trainer().unwrap().unwrap().step, 3);
    let entries = fs::read_dir(run_file.run.dir.join("checkpoints")).unwrap().flatten();
    let left: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| *name == *"step-000003" || *name == *"step-000002"), "{left:?}");

    assert_eq!(resume(&run_file).resumed_from, Some(3));
    assert_eq!(metrics(&run_file).len(), metrics(&whole).len());
    assert_same_end(&run_file, &whole);
}

#[test]
fn a_checkpoint_that_failed_is_written_at_the_next_interval() {
    if !can_make_room("a_checkpoint_that_failed_is_written_at_the_next_interval") {
        return;
    }
    let fixture = fixture();
    let mut run_file = fixture.other("recovered");
    train(&run_file);
    run_file.train.epochs = 1000;
    run_file.train.max_steps = Some(150);
    run_file.train.eval_interval = 1000;
    run_file.train.sample_tokens = 0;
    let mut child = limited(&fixture, &run_file);
    let mut messages = BufReader::new(child.stderr.take().unwrap());
    read_until(&mut messages, "tries again");
    make_room(&child);
    let mut rest = String::new();
    messages.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
    let last = checkpoint::latest(&run_file.run.dir).unwrap();
    assert!(last.ends_with("step-000150"), "{}", last.display());
}

/// A run never ends with its weights in memory only: it waits for space, also when it was asked to
/// stop.
#[test]
fn the_last_checkpoint_is_tried_until_there_is_room() {
    if !can_make_room("the_last_checkpoint_is_tried_until_there_is_room") {
        return;
    }
    let fixture = fixture();
    for (name, steps, is_stopped) in [("ended", 8, false), ("stopped", 1_000_000, true)] {
        let mut run_file = fixture.other(name);
        train(&run_file);
        run_file.train.epochs = 1_000_000;
        run_file.train.max_steps = Some(steps);
        run_file.train.eval_interval = 1_000_000;
        run_file.train.checkpoint_interval = 1_000_000;
        let mut child = limited(&fixture, &run_file);
        let mut messages = BufReader::new(child.stderr.take().unwrap());
        if is_stopped {
            read_until(&mut messages, "going on after step 3");
            std::thread::sleep(std::time::Duration::from_millis(300));
            signal(&child, "-INT");
        }
        read_until(&mut messages, "in memory only");
        make_room(&child);
        let mut rest = String::new();
        messages.read_to_string(&mut rest).unwrap();
        let code = if is_stopped { Some(130) } else { Some(0) };
        assert_eq!(child.wait().unwrap().code(), code, "{rest}");
        let last = checkpoint::latest(&run_file.run.dir).unwrap();
        assert!(!last.ends_with("step-000003"), "{}", last.display());
    }
}
