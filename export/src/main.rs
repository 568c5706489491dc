//! The `export` command.

use clap::Parser;

/// Converts a checkpoint into a GGUF that llama.cpp runs, or into a clean Hugging Face folder
#[derive(Parser)]
#[command(name = "export", version)]
struct Command {
    #[command(flatten)]
    args: export::Args,
}

fn main() -> std::process::ExitCode {
    cli::main(|| {
        let Command { args } = Command::parse();
        let json = args.json;
        cli::print_report(&export::run(args)?, json)
    })
}
