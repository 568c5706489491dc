//! `pocketgpt run` through the real command: what it redoes, removes, and refuses before the first
//! step.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A folder to run in, with a run file that trains in a moment.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/tiny.toml");
        let text = fs::read_to_string(tiny).unwrap();
        let small = "tokenizer = \"trained\"\nvocab_size = 300";
        fs::write(folder.path().join("tiny.toml"), text.replace("tokenizer = \"gpt2\"", small))
            .unwrap();
        Fixture(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Output {
        crate::program::command().args(arguments).current_dir(self.0.path()).output().unwrap()
    }

    /// `pocketgpt run` with some values of the run file set.
    fn run(&self, settings: &[&str]) -> Output {
        let mut arguments = vec!["run", "--config", "tiny.toml", "--set", "run.dir=run"];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", *setting]));
        self.command(&arguments)
    }

    /// The names in `run/FOLDER`, sorted.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path("run").join(folder)).unwrap().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn succeeds(output: &Output) -> String {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{message}");
    message
}

fn is_refused(output: &Output) -> String {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    message
}

#[test]
fn files_of_an_old_name_and_of_recipes_that_are_gone_are_removed() {
    let fixture = Fixture::new();
    let gate = ["bundle.name=old", "quantize.recipes=[\"Q8_0\", \"Q4_0\"]"];
    succeeds(&fixture.run(&gate));
    assert_eq!(fixture.names("gguf"), ["old-F32.gguf", "old-Q4_0.gguf", "old-Q8_0.gguf"]);
    assert_eq!(fixture.names("fragments"), ["Q4_0", "Q8_0"]);
    // What somebody put there is nobody's to remove.
    fs::write(fixture.path("run/gguf/notes.txt"), "mine").unwrap();

    succeeds(&fixture.run(&["bundle.name=new", "quantize.recipes=[\"Q8_0\"]"]));
    assert_eq!(fixture.names("gguf"), ["new-F32.gguf", "new-Q8_0.gguf", "notes.txt"]);
    assert_eq!(fixture.names("fragments"), ["Q8_0"]);
    succeeds(&fixture.command(&["eval", "--run", "run"]));

    // Of two unquantized files the run's own is the base; without it both are named.
    fs::copy(fixture.path("run/gguf/new-F32.gguf"), fixture.path("run/gguf/other-F32.gguf"))
        .unwrap();
    succeeds(&fixture.command(&["eval", "--run", "run"]));
    fs::rename(fixture.path("run/gguf/new-F32.gguf"), fixture.path("run/gguf/a-F32.gguf")).unwrap();
    let message = is_refused(&fixture.command(&["eval", "--run", "run"]));
    assert!(message.contains("a-F32.gguf, other-F32.gguf"), "{message}");
    assert!(message.contains("bundle.name") && message.contains("without --run"), "{message}");
}

#[test]
fn a_run_that_rounded_for_one_file_does_not_export_another() {
    let fixture = Fixture::new();
    let settings = ["train.qat.format=Q8_0", "quantize.recipes=[\"Q8_0\"]"];
    succeeds(&fixture.run(&settings));
    let config = fs::read_to_string(fixture.path("run/config.toml")).unwrap();
    let message = is_refused(&fixture.run(&[&settings[..], &["export.tensor_type=F16"]].concat()));
    assert!(message.contains("export.tensor_type is \"F32\" there and \"F16\" now"), "{message}");
    assert_eq!(fs::read_to_string(fixture.path("run/config.toml")).unwrap(), config);
    assert_eq!(fixture.names("gguf"), ["tiny-F32.gguf", "tiny-Q8_0.gguf"]);
    succeeds(&fixture.run(&settings));
}

#[test]
fn what_later_stages_cannot_use_is_refused_before_the_first_step() {
    let fixture = Fixture::new();
    let tokenizer = r#"{
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
        "decoder": null,
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": false,
                  "vocab": [["<unk>", 0.0], ["the", -1.0], ["clock", -2.0]]}
    }"#;
    fs::write(fixture.path("tokenizer.json"), tokenizer).unwrap();
    let settings = ["data.tokenizer=huggingface", "data.tokenizer_path=tokenizer.json"];
    let message = is_refused(&fixture.run(&settings));
    assert!(message.contains("Unigram") && message.contains("bundle"), "{message}");
    assert!(message.contains("`train`"), "the way out: {message}");
    assert!(!fixture.path("run/checkpoints").exists() && !fixture.path("run/tokens.bin").exists());
    let mut train = vec!["train", "--config", "tiny.toml", "--set", "run.dir=trained"];
    train.extend(settings.iter().flat_map(|setting| ["--set", *setting]));
    succeeds(&fixture.command(&train));

    let prompt = "x ".repeat(80);
    let message = is_refused(&fixture.run(&[&format!("bundle.prompt={prompt}")]));
    assert!(
        message.contains("bundle.prompt has") && message.contains("context of 64"),
        "{message}"
    );
    let message = is_refused(&fixture.run(&["bundle.prompt=\"\""]));
    assert!(message.contains("bundle.prompt"), "{message}");
    let message = is_refused(&fixture.run(&["quantize.recipes=[\"Q9_0\"]"]));
    assert!(message.contains("quantize.recipes = \"Q9_0\": expected one of Q8_0"), "{message}");
    assert!(!fixture.path("run/checkpoints").exists());
}

#[test]
fn a_folder_in_use_is_left_alone() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("run")).unwrap();
    let lock = checkpoint::RunLock::take(&fixture.path("run"), "train").unwrap();
    let holder = format!("in use by train (process {})", std::process::id());
    let commands = [vec!["eval", "--run", "run"], vec!["bundle", "pack", "--run", "run"]];
    for output in
        commands.map(|arguments| fixture.command(&arguments)).iter().chain([&fixture.run(&[])])
    {
        let message = is_refused(output);
        assert!(message.contains(&holder), "{message}");
    }
    assert_eq!(fixture.names(""), [".lock"]);
    drop(lock);
    succeeds(&fixture.run(&[]));
}

/// The pages that have seen the key would ask their users, or refuse.
#[test]
fn a_signed_bundle_stays_signed_or_the_run_says_why_not() {
    let fixture = Fixture::new();
    let settings = ["bundle.release=1", "bundle.zip=true", "quantize.recipes=[\"Q8_0\"]"];
    succeeds(&fixture.run(&settings));
    succeeds(&fixture.command(&["bundle", "keygen", "--output", "k.pem"]));
    let sign = ["bundle", "sign", "--input", "run/bundle", "--key", "k.pem"];
    succeeds(&fixture.command(&sign));
    let signature = || fs::read(fixture.path("run/bundle/bundle.sig")).ok();
    let (signed, archive) = (signature(), fs::read(fixture.path("run/bundle.zip")).unwrap());
    assert!(signed.is_some());

    // Signing changed what the stage wrote, so the first run packs again, and the second does not.
    for expected in ["signature kept", "unchanged"] {
        let output = fixture.run(&settings);
        succeeds(&output);
        let summary = String::from_utf8_lossy(&output.stdout).into_owned();
        let row = summary.lines().find(|line| line.contains("bundle")).unwrap();
        assert!(row.contains(expected), "{expected}: {summary}");
        assert!(signature() == signed, "{expected}");
        assert!(fs::read(fixture.path("run/bundle.zip")).unwrap() == archive, "{expected}");
    }

    let next = ["bundle.release=2", settings[1], settings[2]];
    let message = is_refused(&fixture.run(&next));
    assert!(message.contains("run/bundle is signed"), "{message}");
    assert!(message.contains("bundle sign --input run/bundle"), "the way out: {message}");
    let verify = ["bundle", "verify", "--input", "run/bundle", "--key", "k.pem.pub"];
    succeeds(&fixture.command(&verify));

    // The way out.
    fs::rename(fixture.path("run/bundle"), fixture.path("release-1")).unwrap();
    let message = is_refused(&fixture.run(&next));
    assert!(message.contains("run/bundle.zip is signed"), "{message}");
    fs::remove_file(fixture.path("run/bundle.zip")).unwrap();
    succeeds(&fixture.run(&next));
    assert!(signature().is_none());
    succeeds(&fixture.command(&sign));
    succeeds(&fixture.command(&[&verify[..], &["--at-least", "2"]].concat()));

    // By hand it is replaced, and the loss is said.
    let pack = ["bundle", "pack", "--run", "run", "--release", "3", "--no-app"];
    is_refused(&fixture.command(&pack));
    let message = succeeds(&fixture.command(&[&pack[..], &["--force"]].concat()));
    assert!(message.contains("the signature of run/bundle is gone"), "{message}");
    assert!(signature().is_none());
}
