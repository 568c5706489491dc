//! A `split` that is killed leaves the old folder or the new one, never a half.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use super::common;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use super::common::{metadata, tensors, write};

fn split(input: &Path, output: &Path, max_bytes: u64) -> std::process::Child {
    crate::program::stage("fragment")
        .arg("split")
        .args(["--input".as_ref(), input.as_os_str(), "--output".as_ref(), output.as_os_str()])
        .args(["--max-bytes", &max_bytes.to_string(), "--force"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_split_leaves_the_old_folder_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("a.gguf");
    write(&input, &metadata(1000), &tensors(&[200_000; 24]));
    let output = folder.path().join("pieces");
    let started = Instant::now();
    assert!(split(&input, &output, 1 << 20).wait().unwrap().success());
    let whole = started.elapsed();

    let mut killed = 0;
    for round in 0..24_u32 {
        // Another piece size each time, so that old and new differ.
        let mut child = split(&input, &output, 100_000 + 1000 * u64::from(round));
        // From the first moment to a little after the end.
        std::thread::sleep(whole * 6 / 5 * round / 23);
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        let report = fragment::verify(&output).unwrap();
        assert!(report.problems.is_empty(), "round {round}: {report}");
    }
    assert!(killed > 0, "no round was quick enough to kill anything");

    // Nothing that was killed is in the way of the next run, and what it left is gone after it.
    assert!(split(&input, &output, 1 << 20).wait().unwrap().success());
    let names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn exit_codes_and_streams() {
    let fixture = common::Fixture::new();
    let run = |arguments: &[&str], path: &Path| {
        crate::program::stage("fragment").args(arguments).arg(path).output().unwrap()
    };
    let sound = run(&["verify", "--json", "--input"], &fixture.pieces());
    assert_eq!(sound.status.code(), Some(0));
    std::fs::remove_file(fixture.piece(0)).unwrap();
    let damaged = run(&["verify", "--json", "--input"], &fixture.pieces());
    assert_eq!(damaged.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&damaged.stdout).unwrap();
    assert_eq!(report["problems"][0]["kind"], "missing");
    let stderr = String::from_utf8(damaged.stderr).unwrap();
    assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{stderr}");
    let missing = run(&["inspect", "--input"], Path::new("/no/such/folder"));
    assert_eq!(missing.status.code(), Some(2));
    assert_eq!(String::from_utf8(missing.stderr).unwrap().lines().count(), 1);
}
