//! The `pocketgpt` command: every stage by its name, and `run` for all of them in order.
//!
//! A link to the program that bears the name of a stage is that stage's command, as in busybox:
//! `train --config FILE` is `pocketgpt train --config FILE`. `pocketgpt links` makes the links.

mod doctor;
mod links;
mod pipeline;
mod prospect;
mod record;
mod reference;
mod serve;
mod shell;
mod summary;
mod versions;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Training frees and allocates the same large buffers at each step.
#[global_allocator]
static ALLOCATOR: train::PageAllocator = train::PageAllocator;

/// From a text file to a GPT that runs on a phone, with proof that nothing was lost on the way.
#[derive(Parser)]
#[command(name = "pocketgpt", version, long_version = versions::LONG.as_str(), propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    verbosity: cli::Verbosity,
    #[command(subcommand)]
    stage: Stage,
}

#[derive(Subcommand)]
enum Stage {
    /// Run every stage that a run file asks for, and end with a bundle.
    #[command(after_help = pipeline::EXAMPLES)]
    Run(pipeline::Args),
    /// Text to tokens: encode, inspect, fetch a known corpus.
    #[command(after_help = data::EXAMPLES)]
    Data(data::Args),
    /// Train a model.
    #[command(after_help = train::EXAMPLES)]
    Train(train::Args),
    /// Write a checkpoint as a GGUF file or a Hugging Face folder.
    Export(export::Args),
    /// Make a GGUF smaller.
    Quantize(quantize::Args),
    /// Cut a GGUF into pieces, join, verify or inspect them.
    Fragment(fragment::Args),
    /// Compare Burn, the reference and llama.cpp on the same tokens.
    #[command(after_help = eval::EXAMPLES)]
    Eval(eval::Args),
    /// Continue a text.
    Generate(generate::Args),
    /// Pack, verify or plan what goes onto the device.
    Bundle(bundle::Args),
    /// Answer OpenAI's clients with a model on this machine.
    #[command(after_help = serve::EXAMPLES)]
    Serve(serve::Args),
    /// Say what this machine has, and what that means for each stage.
    Doctor(doctor::Args),
    /// Print a script that completes commands and flags in a shell.
    #[command(after_help = "Example:\n  pocketgpt completions bash > \
                            ~/.local/share/bash-completion/completions/pocketgpt")]
    Completions(shell::CompletionsArgs),
    /// Write a manual page for each command.
    #[command(after_help = "Example: pocketgpt man ~/.local/share/man/man1")]
    Man(shell::ManArgs),
    /// Print the commands or the run file's keys as a page, or the run file's JSON Schema.
    #[command(after_help = reference::EXAMPLES)]
    Reference(reference::Args),
    /// Make links to this program, so that each stage has a command of its own: train, quantize, ...
    Links(links::Args),
}

/// Runs a stage and prints its report as a table or as JSON.
macro_rules! report {
    ($run:path, $args:expr) => {{
        let args = $args;
        let json = args.json;
        cli::print_report(&$run(args)?, json)
    }};
}

fn main() -> ExitCode {
    cli::main(|| {
        let program: Cli = cli::parse(links::arguments(std::env::args_os()))?;
        program.verbosity.start_log();
        run(program.stage)
    })
}

fn run(stage: Stage) -> anyhow::Result<()> {
    match stage {
        Stage::Links(args) => links::run(&args),
        Stage::Serve(args) => report!(serve::run, args),
        Stage::Doctor(args) => report!(doctor::run, args),
        Stage::Completions(args) => shell::completions(Cli::command(), &args),
        Stage::Man(args) => shell::man(Cli::command(), &args),
        Stage::Reference(args) => reference::run(Cli::command(), &args),
        Stage::Run(args) => report!(pipeline::run, args),
        Stage::Data(args) => report!(data::run, args),
        Stage::Train(args) => report!(train::run, args),
        Stage::Export(args) => report!(export::run, args),
        Stage::Quantize(args) => {
            let json = args.json;
            let outcome = quantize::run(args)?;
            cli::print_judged(&outcome, json, outcome.check().map_err(Into::into))
        }
        Stage::Fragment(args) => report!(fragment::run, args),
        Stage::Generate(args) => report!(generate::run, args),
        Stage::Bundle(args) => report!(bundle::run, args),
        Stage::Eval(args) => {
            let json = args.json;
            let report = eval::run(args)?;
            cli::print_judged(&report, json, report.check().map_err(Into::into))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails says where")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Of each long flag of a command and of those below it, the short one.
    fn flags(command: &clap::Command, found: &mut BTreeMap<String, Vec<(String, Option<char>)>>) {
        for flag in command.get_arguments().filter(|arg| arg.get_long().is_some()) {
            let name = flag.get_long().unwrap().to_owned();
            let of = (command.get_name().to_owned(), flag.get_short());
            found.entry(name).or_default().push(of);
        }
        command.get_subcommands().for_each(|below| flags(below, found));
    }

    #[test]
    fn a_flag_has_the_same_short_form_in_every_command() {
        let mut found = BTreeMap::new();
        flags(&Cli::command(), &mut found);
        for (long, short) in [("input", 'i'), ("output", 'o'), ("config", 'c'), ("model", 'm')] {
            assert!(
                found[long].iter().all(|(_, of)| *of == Some(short)),
                "{long}: {:?}",
                found[long]
            );
        }
        for (long, commands) in found {
            let (_, first) = &commands[0];
            assert!(commands.iter().all(|(_, short)| short == first), "--{long}: {commands:?}");
        }
    }
}
