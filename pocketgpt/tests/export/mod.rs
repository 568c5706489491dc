//! The `export` command.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

#[path = "../../../export/tests/common/mod.rs"]
mod common;
mod convert;
mod inspect;
mod kill;
mod lora;
mod nanogpt;
mod refusals;
mod stories260k;
mod tokenizers;

use std::path::Path;
use std::process::Output;

/// Runs the command in `folder`.
fn export(folder: &Path, args: &[&str]) -> Output {
    crate::program::stage("export").args(args).current_dir(folder).output().unwrap()
}

/// Runs a command that must be refused: exit code 2, one line, and nothing on stdout.
fn refusal(folder: &Path, args: &[&str]) -> String {
    let output = export(folder, args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    assert!(output.stdout.is_empty());
    error
}
