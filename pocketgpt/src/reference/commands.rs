//! The commands as a page of Markdown.

use std::fmt::Write;

use clap::builder::StyledStr;
use clap::{Arg, Command};

use super::escaped;

const HEAD: &str = "\
# Commands

<!-- Written by `pocketgpt reference commands`; change the comments of the arguments instead. -->

Every stage is a subcommand of `pocketgpt`. `pocketgpt links FOLDER` makes links by which the stages are
called alone: `train --config FILE` is then `pocketgpt train --config FILE`; the examples are written that
way. Each command also takes `--help` (`-h` for the short form) and `--version`. What ends a command, and
with which code: [Exit codes](exit-codes.md).
";

/// All commands that `--help` shows, with their subcommands.
pub fn page(mut command: Command) -> String {
    command.build();
    let mut text = HEAD.to_owned();
    for sub in shown(&command) {
        section(sub, &format!("pocketgpt {}", sub.get_name()), &mut text);
    }
    text
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
}

fn section(command: &Command, name: &str, text: &mut String) {
    // Writing to a `String` does not fail.
    let _ = writeln!(text, "\n## {name}\n\n{}.", about(command));
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").lines().map(str::trim).collect::<Vec<_>>();
    let _ = writeln!(text, "\n```text\n{}\n```", usage.join("\n"));
    let arguments: Vec<String> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version"))
        .map(item)
        .collect();
    if !arguments.is_empty() {
        let _ = writeln!(text, "\n{}", arguments.join("\n"));
    }
    if let Some(after) = command.get_after_long_help().or(command.get_after_help()) {
        let _ = writeln!(text, "\n```text\n{}\n```", after.to_string().trim_end());
    }
    for sub in shown(command) {
        section(sub, &format!("{name} {}", sub.get_name()), text);
    }
}

fn about(command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about()).map(StyledStr::to_string);
    escaped(about.unwrap_or_default().trim_end_matches('.'))
}

/// ``- `--flag <VALUE>`: help [default: value]``, with the values that it can have below.
fn item(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    let aliases = arg.get_visible_aliases().unwrap_or_default();
    let aliases: String = aliases.iter().map(|alias| format!(", `--{alias}`")).collect();
    let help = arg.get_long_help().or(arg.get_help()).map(StyledStr::to_string);
    let mut item = format!("- {short}`{arg}`{aliases}: {}", escaped(&help.unwrap_or_default()));
    let takes_values = arg.get_action().takes_values();
    let defaults: Vec<_> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes_values && !defaults.is_empty() && !arg.is_hide_default_value_set() {
        let _ = write!(item, " [default: {}]", escaped(&defaults.join(", ")));
    }
    if takes_values && !arg.is_hide_possible_values_set() {
        for value in arg.get_possible_values().iter().filter(|value| !value.is_hide_set()) {
            let help = value.get_help().map(|help| format!(": {}", escaped(&help.to_string())));
            let _ = write!(item, "\n  - `{}`{}", value.get_name(), help.unwrap_or_default());
        }
    }
    item
}
