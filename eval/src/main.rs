//! The `eval` command.

use std::process::ExitCode;

use clap::Parser;

/// Compare Burn, the reference and llama.cpp on the same tokens.
#[derive(Parser)]
#[command(name = "eval", version, after_help = eval::EXAMPLES)]
struct Command {
    #[command(flatten)]
    args: eval::Args,
}

fn main() -> ExitCode {
    cli::main(|| {
        let args = Command::parse().args;
        let json = args.json;
        let report = eval::run(args)?;
        cli::print_judged(&report, json, report.check().map_err(Into::into))
    })
}
