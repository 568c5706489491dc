//! The real binary, killed at random moments: the output is either the old file or the new one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use super::models;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

fn start(input: &Path, output: &Path, recipe: &str) -> Child {
    crate::program::stage("quantize")
        .args(["--force", "--type", recipe, "--input"])
        .arg(input)
        .arg("--output")
        .arg(output)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_run_leaves_the_old_file_or_the_new_one() {
    let dir = TempDir::new().unwrap();
    let (input, output) = (dir.path().join("in.gguf"), dir.path().join("out.gguf"));
    models::GPT2.write(&input, 1);
    let finished = |recipe| {
        assert!(start(&input, &output, recipe).wait().unwrap().success());
        fs::read(&output).unwrap()
    };
    let started = Instant::now();
    let new = finished("Q4_K_M");
    let whole = started.elapsed();
    let old = finished("Q8_0");

    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let (mut killed, mut survived) = (0, 0);
    for _ in 0..30 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let fraction = (state >> 40) as f64 / f64::from(1 << 24);
        let mut child = start(&input, &output, "Q4_K_M");
        std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * 1.2 * fraction));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            survived += 1
        } else {
            killed += 1
        }

        let found = fs::read(&output).unwrap();
        assert!(found == old || found == new, "{} bytes", found.len());
        fs::write(&output, &old).unwrap();
    }
    assert!(killed > 0, "none of {survived} runs was killed in time");
    // The files of the killed runs are removed by a run that finishes.
    finished("Q4_K_M");
    let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["in.gguf", "out.gguf"]);
}
