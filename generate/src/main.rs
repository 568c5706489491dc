//! The `generate` command.

use std::process::ExitCode;

use clap::Parser;

/// Write text with a model
#[derive(Parser)]
#[command(name = "generate", version)]
struct Command {
    #[command(flatten)]
    args: generate::Args,
}

fn main() -> ExitCode {
    cli::main(|| {
        let args = Command::parse().args;
        let json = args.json;
        cli::print_report(&generate::run(args)?, json)
    })
}
