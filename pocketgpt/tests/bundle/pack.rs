//! `bundle pack`: what its arguments refuse, and a disk that is full.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use super::common::Fixture;

#[test]
fn releases_and_days_that_are_none_are_refused_by_the_command_line() {
    for (flag, value, expected) in [
        ("--release", "0", "not in 1..=9007199254740991"),
        ("--release", "9007199254740992", "not in 1..=9007199254740991"),
        ("--expires", "2027-02-29", "expected a day that exists, as YYYY-MM-DD"),
    ] {
        let arguments = ["pack", "--run", "run", flag, value];
        let output = crate::program::stage("bundle").args(arguments).output();
        let error = String::from_utf8(output.unwrap().stderr).unwrap();
        assert!(error.contains(expected), "{error}");
    }
}

/// Every file fits, and the archive of them does not.
#[cfg(unix)]
#[test]
fn without_room_for_the_archive_there_is_no_folder_either() {
    let fixture = Fixture::packed();
    let sizes: Vec<u64> =
        bundle::read_manifest(&fixture.output()).unwrap().files.iter().map(|f| f.size).collect();
    let blocks = sizes.iter().max().unwrap() / 1024 + 8;
    assert!(sizes.iter().sum::<u64>() > blocks * 1024);
    // The command reads it, which the fixture's own is not made for.
    let tokenizer = fixture.path("words.json");
    let words =
        r#"{"version":"1.0","model":{"type":"WordLevel","vocab":{"a":0,"b":1},"unk_token":"a"}}"#;
    std::fs::write(&tokenizer, words).unwrap();
    let pack = format!(
        "trap '' XFSZ; ulimit -f {blocks}; exec {} bundle pack --no-app --zip --license MIT --prompt 'a b a' \
         --variant F16={} --variant Q8_0={} --tokenizer {} --output {}",
        crate::program::PATH,
        fixture.path("F16.gguf").display(),
        fixture.path("Q8_0.gguf").display(),
        tokenizer.display(),
        fixture.path("new").display()
    );
    let output = std::process::Command::new("bash").args(["-c", &pack]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("File too large"), "{error}");
    assert!(!fixture.path("new").exists() && !fixture.path("new.zip").exists());
}
