//! Completions for shells and manual pages, made from the definitions of the arguments.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Command;

#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// The shell they are for.
    shell: clap_complete::Shell,
}

#[derive(clap::Args)]
pub struct ManArgs {
    /// Where the pages are written, one for each command; the folder is made.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Prints a script that completes the commands and flags of `command`.
pub fn completions(mut command: Command, args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "pocketgpt", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(())
}

/// Writes `pocketgpt.1`, `pocketgpt-train.1`, `pocketgpt-eval-sweep.1`, ...
pub fn man(mut command: Command, args: &ManArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.folder)
        .with_context(|| format!("cannot make the folder {}", args.folder.display()))?;
    command.build();
    page(&command, "pocketgpt", &args.folder)
}

fn page(command: &Command, name: &str, folder: &Path) -> anyhow::Result<()> {
    let mut text = Vec::new();
    let title = name.replace(' ', "-");
    clap_mangen::Man::new(command.clone()).title(title.clone()).render(&mut text)?;
    let path = folder.join(format!("{title}.1"));
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let shown = |sub: &&Command| !sub.is_hide_set() && sub.get_name() != "help";
    command
        .get_subcommands()
        .filter(shown)
        .try_for_each(|sub| page(sub, &format!("{name} {}", sub.get_name()), folder))
}
