//! The `bundle` command.

use clap::Parser;

/// Plans, packs and verifies what goes onto the device
#[derive(Parser)]
#[command(name = "bundle", version)]
struct Command {
    #[command(flatten)]
    args: bundle::Args,
}

fn main() -> std::process::ExitCode {
    cli::main(|| {
        let Command { args } = Command::parse();
        let json = args.json;
        cli::print_report(&bundle::run(args)?, json)
    })
}
