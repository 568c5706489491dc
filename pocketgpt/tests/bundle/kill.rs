//! A `pack` that is killed leaves the old bundle or the new one, never a half.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use super::common::Fixture;

fn spawn(fixture: &Fixture, tokenizer: &Path, max_bytes: usize) -> Child {
    let variant =
        |recipe: &str| format!("{recipe}={}", fixture.path(&format!("{recipe}.gguf")).display());
    crate::program::stage("bundle")
        .args(["pack", "--no-app", "--force", "--zip", "--license", "MIT", "--prompt", "a b a"])
        .args(["--variant", &variant("F16"), "--variant", &variant("Q8_0")])
        .args(["--max-bytes", &max_bytes.to_string()])
        .arg("--tokenizer")
        .arg(tokenizer)
        .arg("--output")
        .arg(fixture.output())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_pack_leaves_the_old_bundle_or_the_new_one() {
    let fixture = Fixture::new();
    let tokenizer = fixture.path("tokenizer.json");
    let words = data::Tokenizer::simple("a b c");
    std::fs::write(&tokenizer, words.tokenizer_json().unwrap()).unwrap();
    let started = Instant::now();
    assert!(spawn(&fixture, &tokenizer, 8192).wait().unwrap().success());
    let whole = started.elapsed();
    let archive = fixture.path("pocket.zip");

    let mut killed = 0;
    for round in 0..24_u32 {
        let mut child = spawn(&fixture, &tokenizer, 8192 + 512 * round as usize);
        // From the first moment to a little after the end.
        std::thread::sleep(whole * 6 / 5 * round / 23);
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        bundle::verify(&fixture.output()).unwrap().require_sound().unwrap();
        bundle::verify(&archive).unwrap().require_sound().unwrap();
    }
    assert!(killed > 0, "no round was quick enough to kill anything");
}
