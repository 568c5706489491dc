//! From a checkpoint to what other programs run: a GGUF with the tokenizer inside, or a folder
//! that `transformers` loads.
//!
//! The checkpoint crate knows how a checkpoint looks as a GGUF; this room copies that view into
//! a file, one tensor at a time, so that the memory it takes does not grow with the model.

mod gguf_file;
mod hugging_face;
mod report;

use std::path::PathBuf;

use anyhow::{Context, bail};
use checkpoint::Checkpoint;
use clap::ValueEnum;
use gguf::TensorType;

pub use gguf_file::{ExportJob, default_output, export_gguf};
pub use hugging_face::{HuggingFaceJob, export_hugging_face};
pub use report::Report;

/// Arguments of `export`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  export --input runs/quickstart --type F16")]
pub struct Args {
    /// Checkpoint or Hugging Face folder, or a run folder for its newest checkpoint
    #[arg(long, value_name = "FOLDER")]
    pub input: PathBuf,

    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Gguf)]
    pub to: Format,

    /// File (GGUF) or folder (Hugging Face) to write [default for GGUF: RUN/gguf/NAME-TYPE.gguf,
    /// or beside the checkpoint if it is in no run folder]
    #[arg(long, value_name = "PATH")]
    pub output: Option<PathBuf>,

    /// Type of the matrices in a GGUF: F32, F16 or BF16; norms, biases and positions stay F32
    #[arg(long = "type", value_name = "TYPE", default_value = "F32")]
    pub tensor_type: TensorType,

    /// Name of the model inside a GGUF [default: name of the run folder or of the checkpoint]
    #[arg(long)]
    pub name: Option<String>,

    /// Replace the output if it exists [default: refuse]
    #[arg(long)]
    pub force: bool,

    /// Print the report as JSON [default: a table]
    #[arg(long)]
    pub json: bool,
}

/// What `export` can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One file for llama.cpp and everything built on it
    Gguf,
    /// A folder for transformers: settings, weights and tokenizer, no state of training
    Huggingface,
}

/// Runs `export` as the command line asks.
///
/// # Errors
/// When the input is no checkpoint of a known architecture, or the output cannot be written.
pub fn run(args: Args) -> anyhow::Result<Report> {
    match args.to {
        Format::Gguf => export_gguf(&ExportJob {
            input: args.input,
            output: args.output,
            tensor_type: args.tensor_type,
            name: args.name,
            overwrite: args.force,
        }),
        Format::Huggingface => {
            if args.tensor_type != TensorType::F32 {
                bail!("--type {} is for GGUF: a Hugging Face folder holds F32", args.tensor_type);
            }
            if args.name.is_some() {
                bail!("--name is for GGUF: a Hugging Face folder is called as --output says");
            }
            let output = args.output.context("--to huggingface needs --output FOLDER")?;
            export_hugging_face(&HuggingFaceJob {
                input: args.input,
                output,
                overwrite: args.force,
            })
        }
    }
}

/// The checkpoint that `input` means.
fn open(input: &std::path::Path) -> anyhow::Result<Checkpoint> {
    if input.is_file() {
        bail!("{} is a file; name the folder of a checkpoint", input.display());
    }
    Ok(Checkpoint::open(&checkpoint::locate(input)?)?)
}
