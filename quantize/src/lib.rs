//! A model in fewer bits: reads a GGUF (or a checkpoint, seen as one) and writes a smaller GGUF.
//!
//! A [`Recipe`] says which tensor gets which type, `gguf::blocks` turns weights into bytes, and
//! [`quantize_file`] streams one tensor after another through both. The result equals, tensor by
//! tensor and byte by byte, what `llama-quantize` makes of the same file.

mod job;
mod recipe;
mod report;
mod role;

use std::path::PathBuf;

pub use job::{QuantizeJob, quantize_file};
pub use recipe::{Choice, Recipe};
pub use report::{Fallback, Report, TensorReport, TypeReport};
pub use role::{Role, TensorContext, contexts};

/// Arguments of `quantize`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  quantize --input runs/quickstart/checkpoints/step-000090 --bits 4"
)]
pub struct Args {
    /// A GGUF of F32, F16 or BF16, a checkpoint folder, or a run folder for its newest checkpoint
    #[arg(long, value_name = "PATH")]
    pub input: PathBuf,

    /// File to write [default: NAME-RECIPE.gguf, beside a GGUF or in the run's gguf folder]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Bits per weight: 8 is Q8_0, 4 is Q4_K_M [no default]
    #[arg(long, value_name = "4|8", required_unless_present = "recipe", conflicts_with = "recipe")]
    pub bits: Option<u32>,

    /// Recipe: Q8_0, Q6_K, Q5_1, Q5_0, Q4_1, Q4_K_M, Q4_0 or Q4_K (all tensors Q4_K) [no default]
    #[arg(long = "type", value_name = "RECIPE")]
    pub recipe: Option<Recipe>,

    /// Also measure each tensor's relative RMS error, at the price of time [default: do not]
    #[arg(long)]
    pub errors: bool,

    /// Replace the output if it exists [default: refuse]
    #[arg(long)]
    pub force: bool,

    /// Print the report as JSON [default: a table]
    #[arg(long)]
    pub json: bool,
}

/// Runs `quantize` as the command line asks.
///
/// # Errors
/// Those of [`quantize_file`], and for a number of bits that stands for no recipe.
pub fn run(args: Args) -> anyhow::Result<Report> {
    let recipe = match (args.recipe, args.bits) {
        (Some(recipe), _) => recipe,
        (None, Some(bits)) => Recipe::from_bits(bits)?,
        (None, None) => anyhow::bail!("name --bits or --type"),
    };
    quantize_file(&QuantizeJob {
        input: args.input,
        output: args.output,
        recipe,
        errors: args.errors,
        overwrite: args.force,
    })
}
