use std::fs;

use super::*;

/// A folder with these files, all of them empty.
fn folder(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    folder
}

/// The files that `path` stands for in a folder with `names`, relative to it.
fn found(names: &[&str], path: &str) -> Result<Vec<String>, String> {
    let folder = folder(names);
    let inputs = Inputs::open(&[folder.path().join(path)], None);
    let inputs = inputs.map_err(|error| format!("{error:#}"))?;
    let relative = |file: &InputFile| {
        file.path().unwrap().strip_prefix(folder.path()).unwrap().display().to_string()
    };
    Ok(inputs.files().iter().map(relative).collect())
}

#[test]
fn names_known_corpora_and_what_is_missing() {
    let corpora = folder(&["the-verdict.txt"]);
    let open = |name: &str| Inputs::open_in(&[name], None, corpora.path());
    assert_eq!(open("builtin").unwrap().files()[0].place, FilePlace::Builtin(BUILTIN_STORY));
    let file = corpora.path().join("the-verdict.txt");
    assert_eq!(open("the-verdict").unwrap().files()[0].path(), Some(file.as_path()));
    let error = open("tinyshakespeare").unwrap_err().to_string();
    assert!(error.contains("data fetch tinyshakespeare"), "{error}");
    fs::write(&file, "version https://git-lfs.github.com/spec/v1\noid sha256:4d").unwrap();
    for name in ["the-verdict", file.to_str().unwrap()] {
        let error = open(name).unwrap_err().to_string();
        assert!(error.contains("the-verdict.txt: a Git LFS pointer"), "{error}");
    }
    let error = open("no/such.txt").unwrap_err().to_string();
    assert!(error.contains("no/such.txt") && error.contains("tinyshakespeare"), "{error}");
    let error = open("-").unwrap_err().to_string();
    assert!(error.contains("--format"), "{error}");
}

#[test]
fn a_folder_is_all_of_its_files_in_order_without_hidden_ones() {
    let names = ["b.txt", "a/2.md", "a/10.txt.gz", ".hidden.txt", ".git/x.txt", "c.txt.zst"];
    assert_eq!(found(&names, "").unwrap(), ["a/10.txt.gz", "a/2.md", "b.txt", "c.txt.zst"]);
}

/// The layout of a data set of Hugging Face, and of what `datasets` writes.
#[test]
fn a_data_set_is_its_training_split() {
    let names = [
        "README.md",
        "LICENSE",
        ".gitattributes",
        "dataset_infos.json",
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "data/test-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
        "dev/0.parquet",
        "squad-val.parquet",
    ];
    let training = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"];
    assert_eq!(found(&names, "").unwrap(), training);
    assert_eq!(found(&names, "data").unwrap(), training);
    // What is named is read.
    let test = "data/test-00000-of-00001.parquet";
    assert_eq!(found(&names, test).unwrap(), [test]);
    assert_eq!(found(&names, "data/te*.parquet").unwrap(), [test]);
    let left_out = Inputs::open(&[folder(&names).path()], None).unwrap().left_out().len();
    assert_eq!(left_out, 7);
    // A text is no split for having such a word in its name, and a README beside texts is one.
    let names = ["latest.txt", "test-notes.txt", "README.md"];
    assert_eq!(found(&names, "").unwrap(), ["README.md", "latest.txt", "test-notes.txt"]);
    let error = found(&["test.jsonl", "dev.jsonl"], "").unwrap_err();
    assert!(error.contains("only files of test or validation splits"), "{error}");
}

#[test]
fn patterns_match_files_and_folders() {
    let names = ["a/1.jsonl", "a/2.jsonl", "b/3.jsonl", "b/.4.jsonl", "b/c/5.jsonl"];
    assert_eq!(found(&names, "*/*.jsonl").unwrap(), ["a/1.jsonl", "a/2.jsonl", "b/3.jsonl"]);
    assert_eq!(found(&names, "**/*.jsonl").unwrap().len(), 4);
    assert_eq!(found(&names, "[b-z]*").unwrap(), ["b/3.jsonl", "b/c/5.jsonl"]);
    assert_eq!(found(&names, "?/1.jsonl").unwrap(), ["a/1.jsonl"]);
    assert!(found(&names, "*.csv").unwrap_err().contains("no file matches"));
    assert!(found(&names, "a[").unwrap_err().contains("not a valid pattern"));
    // A file that is called like a pattern is that file.
    assert_eq!(found(&["a[1].txt", "a1.txt"], "a[1].txt").unwrap(), ["a[1].txt"]);
}

#[test]
fn what_cannot_be_read_together_or_at_all_is_refused() {
    for (names, path, expected) in [
        (&["a.txt", "b.jsonl"][..], "", "a.txt is a text and"),
        (&["a.txt", "b.xyz"], "", "b.xyz: .xyz is not a known ending; expected .txt, .md"),
        (&["a.txt", "Makefile"], "", "Makefile: a file without an ending"),
        (&["a.pdf"], "a.pdf", ".pdf files are not read"),
        (&["a.jsonl.xz"], "a.jsonl.xz", "unpack it first"),
        (&["data-00000-of-00001.arrow", "state.json"], "", "to_parquet"),
        (&["a.parquet.gz"], "a.parquet.gz", "Parquet is read out of order"),
        (&["a/.hidden"], "a", "a folder without files"),
    ] {
        let error = found(names, path).unwrap_err();
        assert!(error.contains(expected), "{names:?}: {error}");
    }
    let folder = folder(&["a.jsonl"]);
    let path = folder.path().join("a.jsonl");
    let error = Inputs::open(&[&path, &path], None).unwrap_err().to_string();
    assert!(error.contains("is named twice"), "{error}");
    let error = Inputs::open::<&Path>(&[], None).unwrap_err().to_string();
    assert!(error.contains("no input is named"), "{error}");
    // A file that the user named is a text unless its ending says something else.
    assert_eq!(found(&["wiki.test.raw"], "wiki.test.raw").unwrap(), ["wiki.test.raw"]);
}

#[cfg(unix)]
#[test]
fn a_named_pipe_is_refused_and_not_waited_for() {
    let folder = folder(&["a.txt"]);
    let pipe = folder.path().join("b.txt");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.as_path(), folder.path()] {
        let error = format!("{:#}", Inputs::open(&[path], None).unwrap_err());
        assert!(error.contains("b.txt") && error.contains("a named pipe"), "{error}");
    }
}
