//! A disk that is full while a checkpoint is written: the old one stays, and training goes on.
//!
//! A limit on the size of a file stands for the disk: a write beyond it fails as one to a full
//! disk does, in the middle of the file.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use checkpoint::Checkpoint;
use common::{Fixture, assert_same_end, metrics, resume, train};
use config::RunFile;

/// A model whose weights take more than the limit, and everything else far less.
fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.run_file.model.n_embd = 64;
    fixture.run_file.train.max_steps = Some(3);
    fixture
}

/// The real command where no file may become larger than 200 blocks (of 512 or 1024 bytes).
fn limited(fixture: &Fixture, run_file: &RunFile) -> Child {
    let script = r#"trap '' XFSZ; ulimit -S -f 200; exec "$0" --resume --config "$1""#;
    Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_train")])
        .arg(fixture.config_file(run_file))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
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
    let output = limited(&fixture, &run_file).wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
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
    if Command::new("prlimit").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!(
            "a_checkpoint_that_failed_is_written_at_the_next_interval skipped: prlimit not found"
        );
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
    let mut line = String::new();
    while !line.contains("tries again") {
        line.clear();
        assert!(messages.read_line(&mut line).unwrap() > 0, "ended without a warning");
    }
    let room = Command::new("prlimit")
        .args(["--pid", &child.id().to_string(), "--fsize=unlimited"])
        .status()
        .unwrap();
    assert!(room.success());
    let mut rest = String::new();
    messages.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
    let last = checkpoint::latest(&run_file.run.dir).unwrap();
    assert!(last.ends_with("step-000150"), "{}", last.display());
}
