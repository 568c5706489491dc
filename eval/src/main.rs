//! The `eval` command.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "eval", version)]
struct Command {
    #[command(flatten)]
    args: eval::Args,
}

fn main() -> ExitCode {
    cli::main(|| {
        let args = Command::parse().args;
        let json = args.json;
        cli::print_report(&eval::run(args)?, json)
    })
}
