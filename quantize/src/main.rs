//! The `quantize` command.

use clap::Parser;

/// Quantizes a model: converts a GGUF or checkpoint into a GGUF with fewer bits per weight
#[derive(Parser)]
#[command(name = "quantize", version)]
struct Command {
    #[command(flatten)]
    args: quantize::Args,
}

fn main() -> std::process::ExitCode {
    cli::main(|| {
        let Command { args } = Command::parse();
        let json = args.json;
        let outcome = quantize::run(args)?;
        cli::print_judged(&outcome, json, outcome.check().map_err(Into::into))
    })
}
