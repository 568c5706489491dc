//! The `fragment` command.

use clap::Parser;

/// Cuts a GGUF into pieces, joins, verifies and describes them
#[derive(Parser)]
#[command(name = "fragment", version)]
struct Command {
    #[command(flatten)]
    args: fragment::Args,
}

fn main() -> std::process::ExitCode {
    cli::main(|| {
        let Command { args } = Command::parse();
        let json = args.json;
        cli::print_report(&fragment::run(args)?, json)
    })
}
