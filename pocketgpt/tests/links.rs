//! A link that bears the name of a stage is that stage's command.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::process::Command;

#[test]
fn a_stage_runs_by_its_link_as_by_its_subcommand() {
    let folder = tempfile::tempdir().unwrap();
    // What lies there under the name of a stage is replaced, also a link to nothing.
    std::fs::write(folder.path().join("train"), "an older program").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("/no/such/program", folder.path().join("eval")).unwrap();
    for _ in 0..2 {
        assert!(crate::program::stage("links").arg(folder.path()).status().unwrap().success());
    }
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    let stages = ["bundle", "data", "eval", "export", "fragment", "generate", "quantize", "train"];
    assert_eq!(names, stages);
    for stage in stages {
        let link = folder.path().join(format!("{stage}{}", std::env::consts::EXE_SUFFIX));
        for argument in ["--help", "--version"] {
            let by_link = Command::new(&link).arg(argument).output().unwrap();
            let by_name = crate::program::stage(stage).arg(argument).output().unwrap();
            assert!(by_link.status.success(), "{stage} {argument}");
            assert_eq!(by_link.stdout, by_name.stdout, "{stage} {argument}");
        }
    }
}

#[test]
fn a_folder_that_is_none_is_named() {
    let output = crate::program::stage("links").arg("/no/such/folder").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("/no/such/folder"), "{error}");
}
