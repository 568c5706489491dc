//! Two trainings in one folder: the second is refused until the first has ended.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]
#![cfg(unix)]

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use super::common::{Fixture, failure, train};

#[test]
fn the_second_training_is_told_who_has_the_folder_and_may_go_on_when_it_is_killed() {
    let mut fixture = Fixture::new();
    fixture.run_file.train.epochs = 10_000;
    fixture.run_file.train.max_steps = Some(50_000);
    let config = fixture.config_file(&fixture.run_file);
    let mut first = crate::program::stage("train")
        .arg("--config")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let dir = fixture.run_file.run.dir.clone();
    while !dir.join("latest").exists() {
        assert!(first.try_wait().unwrap().is_none(), "ended before it was stopped");
        std::thread::sleep(Duration::from_millis(5));
    }
    let holder = format!("train (process {})", first.id());
    let error = failure(&fixture.run_file);
    assert!(error.contains("in use by") && error.contains(&holder), "{error}");
    for flag in ["--force", "--resume"] {
        let second =
            crate::program::stage("train").arg("--config").arg(&config).arg(flag).output().unwrap();
        let message = String::from_utf8_lossy(&second.stderr);
        assert_eq!(second.status.code(), Some(2), "{message}");
        assert!(message.contains(&holder), "{message}");
    }
    assert!(first.try_wait().unwrap().is_none(), "the first one goes on");

    first.kill().unwrap();
    first.wait().unwrap();
    // The file stays and names its last holder, not a current one.
    assert!(fs::read_to_string(dir.join(".lock")).unwrap().contains(&holder));
    let options = train::Options { overwrite: true, ..train::Options::default() };
    fixture.run_file.train.max_steps = Some(8);
    assert_eq!(train::train(&fixture.run_file, &options).unwrap().steps, 8);
    assert_eq!(train(&fixture.run_file).resumed_from, Some(8));
}
