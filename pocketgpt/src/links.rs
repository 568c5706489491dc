//! One program with several names: a link that bears the name of a stage is that stage's command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The stages that may be called by a link: the subcommands that have crates of their own.
const STAGES: [&str; 8] =
    ["data", "train", "export", "quantize", "fragment", "eval", "generate", "bundle"];

#[derive(clap::Args)]
pub struct Args {
    /// Where the links are made [default: the folder of the program].
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// The arguments as `pocketgpt` takes them: `train ARGUMENTS` is `pocketgpt train ARGUMENTS`.
pub fn arguments(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let called = arguments.first().and_then(|program| Path::new(program).file_stem()?.to_str());
    if let Some(&stage) = STAGES.iter().find(|&&stage| called == Some(stage)) {
        arguments.splice(..1, ["pocketgpt".into(), stage.into()]);
    }
    arguments
}

/// Makes a link for each stage; a link or program of that name is replaced.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("where this program lies is unknown")?;
    let beside = program.parent().unwrap_or(Path::new("."));
    let folder = args.folder.as_deref().unwrap_or(beside);
    // Beside the program its name is enough, and the folder may be moved.
    let target = match (folder.canonicalize().ok(), beside.canonicalize().ok()) {
        (Some(folder), Some(beside)) if folder == beside => {
            PathBuf::from(program.file_name().unwrap_or(program.as_os_str()))
        }
        _ => program.clone(),
    };
    for stage in STAGES {
        let link = folder.join(format!("{stage}{}", std::env::consts::EXE_SUFFIX));
        replace(&target, &program, &link)
            .with_context(|| format!("cannot make the link {}", link.display()))?;
    }
    Ok(())
}

#[cfg(unix)]
fn replace(target: &Path, _program: &Path, link: &Path) -> std::io::Result<()> {
    let mut temporary = link.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    std::os::unix::fs::symlink(target, &temporary)?;
    // A rename replaces what was there at once: the command exists at every moment.
    std::fs::rename(&temporary, link).inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

/// Symbolic links need a privilege on Windows; a hard link does not.
#[cfg(not(unix))]
fn replace(_target: &Path, program: &Path, link: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::hard_link(program, link),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails says where")]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn called(words: &[&str]) -> Vec<String> {
        let words = arguments(words.iter().map(OsString::from));
        words.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn a_link_that_bears_the_name_of_a_stage_is_its_command() {
        assert_eq!(called(&["/bin/train", "-h"]), ["pocketgpt", "train", "-h"]);
        assert_eq!(called(&["quantize.exe"]), ["pocketgpt", "quantize"]);
        assert_eq!(called(&["./pocketgpt", "train"]), ["./pocketgpt", "train"]);
        assert_eq!(called(&["trainer"]), ["trainer"]);
        assert!(called(&[]).is_empty());
    }

    #[test]
    fn every_stage_is_a_subcommand() {
        let command = crate::Cli::command();
        let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let others = ["run", "serve", "doctor", "completions", "man", "reference", "links"];
        let (mut expected, mut found) = (STAGES.to_vec(), names);
        found.retain(|name| !others.contains(name));
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
    }
}
