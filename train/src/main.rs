//! The `train` command.

use clap::Parser;

/// Trains the model of a run file and leaves checkpoints that every other stage reads.
#[derive(Parser)]
#[command(name = "train", version, after_help = train::EXAMPLES)]
struct Command {
    #[command(flatten)]
    args: train::Args,
}

fn main() -> std::process::ExitCode {
    cli::main(|| {
        let args = Command::parse().args;
        let json = args.json;
        cli::print_report(&train::run(args)?, json)
    })
}
