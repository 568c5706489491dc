//! What the program says of itself: version, machine, completions, manual pages.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::process::Command;

fn run(arguments: &[&str]) -> String {
    let output = crate::program::command().args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_version_names_backends_and_libraries() {
    let long = run(&["--version"]);
    let first = format!("pocketgpt {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(long.lines().next(), Some(first.as_str()));
    for expected in ["backends: flex", "Burn 0.", "llama-cpp-sys-2 0."] {
        assert!(long.contains(expected), "{long}");
    }
    assert_eq!(run(&["-V"]).trim_end(), first);
}

#[test]
fn doctor_reports_this_machine() {
    let json: serde_json::Value = serde_json::from_str(&run(&["doctor", "--json"])).unwrap();
    let threads = std::thread::available_parallelism().unwrap().get();
    assert_eq!(json["threads"], threads);
    assert!(
        json["memory_bytes"].as_u64().unwrap() >= json["available_memory_bytes"].as_u64().unwrap()
    );
    assert!(json["available_memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(json["free_disk_bytes"].as_u64().unwrap() > 0);
    assert!(!json["instruction_sets"].as_array().unwrap().is_empty());
    let table = run(&["doctor"]);
    for name in ["processor", "threads", "instructions", "memory", "disk", "backends", "Node.js"] {
        assert!(table.lines().any(|line| line.starts_with(name)), "{name}: {table}");
    }
    let refused = crate::program::stage("doctor").args(["--folder", "/no/such"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("/no/such"));
}

#[test]
fn completions_are_scripts_that_the_shell_takes() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert!(script.contains("checkpoint-interval") || script.contains("quantize"), "{shell}");
        let Ok(mut child) =
            Command::new(shell).arg("-n").stdin(std::process::Stdio::piped()).spawn()
        else {
            println!("{shell} skipped: not installed");
            continue;
        };
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{shell} refuses its script");
    }
}

/// A page for each command that `--help` shows, each with its own synopsis.
#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    run(&["man", pages.to_str().unwrap()]);
    for (page, expected) in [
        ("pocketgpt", "pocketgpt\\-train(1)"),
        ("pocketgpt-train", "\\fB\\-\\-config\\fR"),
        ("pocketgpt-eval-sweep", "pocketgpt eval sweep"),
        ("pocketgpt-quantize", "\\fB\\-\\-bits\\fR"),
    ] {
        let text = std::fs::read_to_string(pages.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(expected), "{page}: {text}");
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    assert!(std::fs::read_dir(&pages).unwrap().count() > 25);
}
