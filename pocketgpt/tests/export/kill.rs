//! After a kill at any moment there is either the old file or the new one, never a partial one.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use super::common;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use checkpoint::hash::{Digests, hash_file};

fn export(input: &Path, output: &Path, tensor_type: &str) -> Child {
    crate::program::stage("export")
        .args(["--type", tensor_type, "--force", "--input"])
        .arg(input)
        .arg("--output")
        .arg(output)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn finished(input: &Path, output: &Path, tensor_type: &str) -> Digests {
    assert!(export(input, output, tensor_type).wait().unwrap().success());
    hash_file(output).unwrap()
}

#[test]
fn a_killed_export_leaves_the_old_file_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("model"), folder.path().join("out/model.gguf"));
    common::write_checkpoint(&input, &common::config(4, 256, 4096));

    let old = finished(&input, &output, "F16");
    let start = Instant::now();
    let new = finished(&input, &output, "F32");
    let duration = start.elapsed();
    assert_ne!(old, new);
    assert_eq!(finished(&input, &output, "F16"), old, "the same input gives the same bytes");

    let mut random = 12345_u64;
    let mut killed = 0;
    for _ in 0..20 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let share = (random >> 33) as f64 / (1_u64 << 31) as f64;
        let mut child = export(&input, &output, "F32");
        std::thread::sleep(Duration::from_secs_f64(duration.as_secs_f64() * share));
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        let found = hash_file(&output).unwrap();
        assert!(found == old || found == new, "half a file: {} bytes", found.size);
    }
    assert!(killed > 0, "no export was killed");

    assert_eq!(finished(&input, &output, "F32"), new);
    let left: Vec<_> = std::fs::read_dir(folder.path().join("out")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "leftovers are removed by the next export: {left:?}");
}
