//! The one command: every stage by its name, and `run` for all of them in a row.

mod pipeline;
mod record;
mod summary;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// From a text file to a GPT that runs on a phone, with proof that nothing was lost on the way.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
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
}

fn main() -> ExitCode {
    cli::main(|| match Cli::parse().stage {
        Stage::Run(args) => {
            let json = args.json;
            cli::print_report(&pipeline::run(&args)?, json)
        }
        Stage::Data(args) => {
            let json = args.json;
            cli::print_report(&data::run(args)?, json)
        }
        Stage::Train(args) => {
            let json = args.json;
            cli::print_report(&train::run(args)?, json)
        }
        Stage::Export(args) => {
            let json = args.json;
            cli::print_report(&export::run(args)?, json)
        }
        Stage::Quantize(args) => {
            let json = args.json;
            cli::print_report(&quantize::run(args)?, json)
        }
        Stage::Fragment(args) => {
            let json = args.json;
            cli::print_report(&fragment::run(args)?, json)
        }
        Stage::Eval(args) => {
            let json = args.json;
            let report = eval::run(args)?;
            cli::print_report(&report, json)?;
            Ok(report.check()?)
        }
        Stage::Generate(args) => {
            let json = args.json;
            cli::print_report(&generate::run(args)?, json)
        }
        Stage::Bundle(args) => {
            let json = args.json;
            cli::print_report(&bundle::run(args)?, json)
        }
    })
}
