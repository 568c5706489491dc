//! The `data` command.

use clap::Parser;

/// Texts and tokens: encode a text, inspect one, fetch a known one.
#[derive(Parser)]
#[command(name = "data", version, after_help = data::EXAMPLES)]
struct Command {
    #[command(flatten)]
    args: data::Args,
}

fn main() -> std::process::ExitCode {
    cli::main(|| {
        let args = Command::parse().args;
        let json = args.json;
        cli::print_report(&data::run(args)?, json)
    })
}
