//! The command line of this crate.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use gguf::TensorType;
use serde::Serialize;

use crate::inspect::{InspectArgs, Inspection, inspect};
use crate::{
    AdapterJob, ExportJob, HuggingFaceJob, Input, Report, export_adapter, export_gguf,
    export_hugging_face,
};

/// Arguments of `export`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  export --input runs/quickstart --type F16"
)]
pub struct Args {
    /// A command other than an export.
    #[command(subcommand)]
    pub verb: Option<Verb>,

    /// What to export, if no command is given.
    #[command(flatten)]
    pub convert: Option<ConvertArgs>,

    /// Print the report as JSON [default: a table]
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands besides exporting.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Show the contents of a GGUF of any program: keys, tensors, sizes by number format
    #[command(after_help = "Example:\n  export inspect model-00001-of-00005.gguf --tensors")]
    Inspect(InspectArgs),
}

/// The input and the output format of an export.
#[derive(Debug, Clone, clap::Args)]
pub struct ConvertArgs {
    /// Checkpoint or Hugging Face folder, a run folder (its newest checkpoint), or the file of a
    /// llama2.c model or nanoGPT's ckpt.pt
    #[arg(long, short, value_name = "PATH")]
    pub input: PathBuf,

    /// Tokenizer of a model in one file: llama2.c's own, or the tokenizer.json of a nanoGPT; for a
    /// folder, a tokenizer.json or folder that replaces its own, or none [default: GPT-2's for a
    /// nanoGPT with the same number of tokens, the folder's own]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,

    /// LoRA adapter to merge into the weights: a folder of peft or of a run [default: none]
    #[arg(long, value_name = "FOLDER")]
    pub merge_lora: Option<PathBuf>,

    /// Write a LoRA adapter by itself, as a GGUF for llama.cpp's --lora: the folder of one, whose model
    /// --input is, or nothing for the one that the checkpoint was trained with [default: the model]
    #[arg(
        long, value_name = "FOLDER",
        conflicts_with_all = ["merge_lora", "tokenizer", "to"]
    )]
    pub adapter: Option<Option<PathBuf>>,

    /// Format to write
    #[arg(long, value_enum, default_value_t = Format::Gguf)]
    pub to: Format,

    /// File (GGUF) or folder (Hugging Face) to write [default for GGUF: RUN/gguf/NAME-TYPE.gguf, or
    /// beside the input if it is not in a run folder]
    #[arg(long, short, value_name = "PATH")]
    pub output: Option<PathBuf>,

    /// Type of the matrices in a GGUF: F32, F16 or BF16; norms, biases and positions stay F32
    #[arg(long = "type", value_name = "TYPE", default_value = "F32")]
    pub tensor_type: TensorType,

    /// Name of the model inside a GGUF [default: name of the run folder or of the input]
    #[arg(long)]
    pub name: Option<String>,

    /// Replace the output if it exists [default: refuse]
    #[arg(long)]
    pub force: bool,
}

/// The formats that `export` can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One file for llama.cpp and programs based on it
    Gguf,
    /// A folder for transformers: settings, weights and tokenizer, without training state
    Huggingface,
}

/// The result of a command.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// An export.
    Export(Report),
    /// The contents of a file.
    Inspection(Box<Inspection>),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Export(report) => report.fmt(f),
            Outcome::Inspection(inspection) => inspection.fmt(f),
        }
    }
}

/// Runs `export` as the command line asks.
///
/// # Errors
/// When the input is not a model of a known architecture, or the output cannot be written.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    match (args.verb, args.convert) {
        (Some(Verb::Inspect(args)), _) => Ok(Outcome::Inspection(Box::new(inspect(&args)?))),
        (None, Some(args)) => convert(args).map(Outcome::Export),
        (None, None) => bail!("nothing to do: pass --input PATH, or inspect FILE"),
    }
}

fn convert(args: ConvertArgs) -> anyhow::Result<Report> {
    if let Some(adapter) = args.adapter {
        return export_adapter(&AdapterJob {
            input: args.input,
            adapter,
            output: args.output,
            tensor_type: args.tensor_type,
            name: args.name,
            overwrite: args.force,
        });
    }
    let input = Input { path: args.input, tokenizer: args.tokenizer, adapter: args.merge_lora };
    match args.to {
        Format::Gguf => export_gguf(&ExportJob {
            input,
            output: args.output,
            tensor_type: args.tensor_type,
            name: args.name,
            overwrite: args.force,
        }),
        Format::Huggingface => {
            if args.tensor_type != TensorType::F32 {
                bail!(
                    "--type {} is for GGUF: a Hugging Face folder keeps the types of the input",
                    args.tensor_type
                );
            }
            if args.name.is_some() {
                bail!("--name is for GGUF: a Hugging Face folder is called as --output says");
            }
            let output = args.output.context("--to huggingface needs --output FOLDER")?;
            export_hugging_face(&HuggingFaceJob { input, output, overwrite: args.force })
        }
    }
}
