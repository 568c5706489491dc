//! The real command, stopped at any moment, can be resumed.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]
#![cfg(unix)]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::common::{Fixture, assert_same_end, metrics, train};
use checkpoint::Checkpoint;
use config::{Qat, QatStart, RunFile};

fn spawn(fixture: &Fixture, run_file: &RunFile) -> Child {
    crate::program::stage("train")
        .arg("--config")
        .arg(fixture.config_file(run_file))
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn long_run() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.run_file.train.epochs = 100;
    fixture.run_file.train.max_steps = Some(60);
    fixture.run_file.train.checkpoint_interval = 1;
    fixture.run_file.train.eval_interval = 20;
    fixture
}

#[test]
fn killed_at_random_moments_a_run_still_ends_with_the_same_bits() {
    survives_kills(long_run());
}

/// Rounding begins half way.
#[test]
fn killed_at_random_moments_a_run_with_rounding_ends_with_the_same_bits() {
    let mut fixture = long_run();
    fixture.run_file.model.n_embd = 32;
    let start = Some(QatStart::Share(0.5));
    let format = "Q4_0".to_owned();
    fixture.run_file.train.qat = Some(Qat { format, start });
    survives_kills(fixture);
}

fn survives_kills(fixture: Fixture) {
    let whole = fixture.other("whole");
    train(&whole);
    let killed = fixture.other("killed");
    let (mut kills, mut checkpoints) = (0, 0);
    // An odd stride spreads the kills over start, steps and saves. A busy machine needs longer until
    // the first checkpoint, so later rounds wait longer, and there are more of them if need be.
    for round in 0..200_u64 {
        if round >= 40 && checkpoints > 0 {
            break;
        }
        let mut child = spawn(&fixture, &killed);
        std::thread::sleep(Duration::from_millis(
            20 + round * 37 % 150 + 5 * round.saturating_sub(40),
        ));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        if killed.run.dir.join("latest").exists() {
            checkpoints += 1;
            let checkpoint = Checkpoint::open(&checkpoint::latest(&killed.run.dir).unwrap());
            let checkpoint = checkpoint.unwrap();
            assert!(checkpoint.trainer().unwrap().is_some());
            assert!(checkpoint.optimizer().unwrap().is_some());
        }
    }
    assert!(kills > 0, "the run was over before it could be killed");
    assert!(checkpoints > 0, "every kill came before the first checkpoint");
    let output = spawn(&fixture, &killed).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(metrics(&killed), metrics(&whole));
    assert_same_end(&killed, &whole);
    let left = fs::read_dir(killed.run.dir.join("checkpoints")).unwrap().count();
    assert!(left <= 3, "{left} checkpoints and leftovers");
}

/// Returns once a run has taken two steps.
fn wait_for_steps(child: &mut Child, run_file: &RunFile) {
    let log = run_file.run.dir.join("metrics.jsonl");
    while fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < 3 {
        assert!(child.try_wait().unwrap().is_none(), "ended before it was stopped");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn ctrl_c_writes_a_checkpoint_and_the_same_command_goes_on() {
    let fixture = long_run();
    let whole = fixture.other("whole");
    train(&whole);
    let mut stopped = fixture.other("stopped");
    stopped.train.checkpoint_interval = 1000;
    let mut child = spawn(&fixture, &stopped);
    wait_for_steps(&mut child, &stopped);
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("run the command again without --force"), "{message}");
    assert!(checkpoint::latest(&stopped.run.dir).is_ok());

    let output = spawn(&fixture, &stopped).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["resumed_from"].as_u64().unwrap() >= 2);
    assert_eq!(metrics(&stopped), metrics(&whole));
    assert_same_end(&stopped, &whole);
}

/// A terminal that closes sends SIGHUP twice; a supervisor terminates a process just interrupted.
#[test]
fn signals_that_come_together_stop_a_run_once_with_a_checkpoint() {
    let fixture = long_run();
    for signals in [["-HUP", "-HUP"], ["-INT", "-TERM"], ["-INT", "-INT"]] {
        if signals == ["-HUP", "-HUP"] && ignores_hangup() {
            eprintln!("skipped: SIGHUP twice, since these tests run under nohup");
            continue;
        }
        let mut stopped = fixture.other(&signals.concat());
        stopped.train.checkpoint_interval = 1000;
        // Longer than the signals take to arrive, on any machine.
        stopped.train.epochs = 5000;
        stopped.train.max_steps = Some(30_000);
        let mut child = spawn(&fixture, &stopped);
        wait_for_steps(&mut child, &stopped);
        // Both from one shell, so that a busy machine does not delay the second.
        let (id, [first, second]) = (child.id(), signals);
        let both = format!("kill {first} {id}; kill {second} {id}");
        Command::new("sh").args(["-c", &both]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{signals:?}: {message}");
        assert!(checkpoint::latest(&stopped.run.dir).is_ok(), "{signals:?}: {message}");
    }
}

/// Whether SIGHUP is ignored here, and so by every child (bit 0 of `SigIgn`, proc(5)).
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 != 0)
}

#[test]
fn a_run_whose_log_cannot_be_written_goes_on() {
    let fixture = Fixture::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let Ok(full) = full else { return eprintln!("skipped: there is no /dev/full") };
    let status = crate::program::stage("train")
        .arg("--config")
        .arg(fixture.config_file(&fixture.run_file))
        .stdout(Stdio::null())
        .stderr(full)
        .status();
    assert!(status.unwrap().success());
    assert!(checkpoint::latest(&fixture.run_file.run.dir).unwrap().ends_with("step-000008"));
}

#[test]
fn bad_input_is_one_line_and_exit_code_2() {
    let fixture = Fixture::new();
    let config = fixture.path().join("bad.toml");
    fs::write(&config, "[train]\nbatchsize = 2\n").unwrap();
    let output = crate::program::stage("train").arg("--config").arg(&config).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("bad.toml:2: unknown field `batchsize`"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}
