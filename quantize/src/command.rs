//! The command line of this crate.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use gguf::TensorType;
use serde::Serialize;

use crate::importance::{ImatrixJob, ImatrixReport, collect};
use crate::{
    CalibrationText, Override, PlanFile, QuantizeJob, Recipe, Report, Rules, Target, quantize_file,
};

/// Arguments of `quantize`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  quantize --input runs/quickstart/checkpoints/step-000090 --bits 4\n  \
                  quantize imatrix --input model-F32.gguf --text calibration.txt\n  \
                  quantize --input model-F32.gguf --type IQ4_XS --imatrix imatrix.gguf\n  \
                  quantize --input model-F32.gguf --target-size 80MB --calibration text.txt"
)]
pub struct Args {
    /// A command that does not write a smaller file.
    #[command(subcommand)]
    pub verb: Option<Verb>,

    /// A GGUF (its first part, if it has several), a checkpoint folder, or a run folder, of which
    /// the newest checkpoint is read
    #[arg(long, short, value_name = "PATH", required = true)]
    pub input: Option<PathBuf>,

    /// File to write [default: NAME-RECIPE.gguf, beside a GGUF or in the run's gguf folder]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Bits per weight: 8 is Q8_0, 6 is Q6_K, 5 is Q5_K_M, 4 is Q4_K_M, 3 is Q3_K_M, 2 is Q2_K
    /// [no default]
    #[arg(
        long,
        value_name = "2|3|4|5|6|8",
        required_unless_present_any = ["recipe", "target_size", "target_bits", "plan"],
        conflicts_with = "recipe"
    )]
    pub bits: Option<u32>,

    /// llama-quantize's name of a mixture of types: Q8_0, Q6_K, Q5_1, Q5_K_M, Q5_K_S, Q5_0, Q4_1,
    /// Q4_K_M, Q4_K_S, Q4_0, IQ4_NL, IQ4_XS, Q3_K_L, Q3_K_M, Q3_K_S, Q2_K or Q2_K_S; as there,
    /// Q5_K, Q4_K and Q3_K mean the mixtures with _M [no default]
    #[arg(long = "type", value_name = "RECIPE")]
    pub recipe: Option<Recipe>,

    /// Give every matrix the same type, the one in the recipe's name [default: the recipe's
    /// mixture]
    #[arg(long)]
    pub pure: bool,

    /// Set the type of all tensors whose name matches a regular expression, for example
    /// "blk\.0\.=Q8_0"; may be repeated, the first match wins [default: the recipe decides]
    #[arg(long = "override", value_name = "PATTERN=TYPE")]
    pub overrides: Vec<Override>,

    /// Set the type of the tensor that computes the logits (output.weight or, if the head is tied,
    /// token_embd.weight), for example F16 [default: the recipe decides]
    #[arg(long, value_name = "TYPE")]
    pub keep_output: Option<TensorType>,

    /// Limit the size of the whole file, for example to 80MB or 76MiB: each tensor's type follows
    /// from how much the model's predictions depend on it, measured on the calibration text; the
    /// choice is saved as OUTPUT.recipe.toml [default: the recipe decides]
    #[arg(
        long,
        value_name = "SIZE",
        conflicts_with_all = ["bits", "recipe", "pure", "overrides", "keep_output", "imatrix"]
    )]
    pub target_size: Option<Target>,

    /// Limit the bits per weight of the whole file, for example to 4.25 [default: no target]
    #[arg(
        long,
        value_name = "BITS",
        value_parser = Target::from_bits,
        conflicts_with_all =
            ["bits", "recipe", "pure", "overrides", "keep_output", "imatrix", "target_size"]
    )]
    pub target_bits: Option<Target>,

    /// Read the types from a file that --target-size or --target-bits saved [default: none]
    #[arg(
        long,
        alias = "recipe",
        value_name = "FILE",
        conflicts_with_all = [
            "bits", "recipe", "pure", "overrides", "keep_output", "target_size", "target_bits"
        ]
    )]
    pub plan: Option<PathBuf>,

    /// Search for codes whose errors compensate each other on the calibration text: the file has
    /// the same format and size and is nearer to the original, but takes minutes. An eighth of the
    /// text is held back; tensors for which the search is not better on it than rounding with
    /// importance data are rounded. If that holds for the whole file, it is written rounded, and
    /// the exit code is 1 [default: with --bits, --target-size and --target-bits, if there is a
    /// calibration text]
    #[arg(long, conflicts_with_all = ["imatrix", "errors"])]
    pub search: bool,

    /// Round each block separately, as llama-quantize does [default: see --search]
    #[arg(long, conflicts_with = "search")]
    pub no_search: bool,

    /// Calibration text, UTF-8: of the kind that the model will read, but not the text that it is
    /// evaluated on [default: for a checkpoint in a run folder its training text, otherwise none]
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,

    /// Most tokens of the calibration text that a search reads, spread evenly over it
    #[arg(long, value_name = "N", default_value_t = QuantizeJob::CALIBRATION_TOKENS)]
    pub calibration_tokens: usize,

    /// Importance data of `quantize imatrix` or llama-imatrix, used to weight the errors of each
    /// column [default: none]
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<PathBuf>,

    /// Quantize tensors that are quantized already, although both errors add up [default: refuse]
    #[arg(long)]
    pub requantize: bool,

    /// Also measure each tensor's relative RMS error, which takes longer [default: do not]
    #[arg(long)]
    pub errors: bool,

    /// Replace the output if it exists [default: refuse]
    #[arg(long, global = true)]
    pub force: bool,

    /// Print the report as JSON [default: a table]
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands besides writing a smaller file.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Measure on a text how strongly each column of each matrix is used (importance data)
    #[command(after_help = "Example:\n  quantize imatrix --input model-F32.gguf \
                            --text calibration.txt --output imatrix.gguf")]
    Imatrix(ImatrixArgs),
}

/// Arguments of `quantize imatrix`.
#[derive(Debug, Clone, clap::Args)]
pub struct ImatrixArgs {
    /// A GGUF (its first part, if it has several), a checkpoint folder, or a run folder, of which
    /// the newest checkpoint is read
    #[arg(long, short, value_name = "PATH")]
    pub input: PathBuf,

    /// The calibration text, UTF-8: of the kind that the model will read, but not the text that it
    /// is evaluated on
    #[arg(long, value_name = "FILE")]
    pub text: PathBuf,

    /// File to write, in llama.cpp's GGUF format of importance data
    #[arg(long, short, value_name = "FILE", default_value = "imatrix.gguf")]
    pub output: PathBuf,

    /// Tokens that are read together, at most the model's context
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    pub context: usize,

    /// Most tokens to read [default: the whole text]
    #[arg(long, value_name = "N")]
    pub tokens: Option<usize>,

    /// Also measure the tensor that computes the logits [default: do not, as llama-imatrix]
    #[arg(long)]
    pub process_output: bool,
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// A smaller file.
    Quantized(Box<Report>),
    /// Importance data.
    Imatrix(ImatrixReport),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Quantized(report) => report.fmt(f),
            Outcome::Imatrix(report) => report.fmt(f),
        }
    }
}

impl Outcome {
    /// Whether a search failed.
    ///
    /// # Errors
    /// As [`Report::check`].
    pub fn check(&self) -> Result<(), cli::GateFailed> {
        match self {
            Outcome::Quantized(report) => report.check(),
            Outcome::Imatrix(_) => Ok(()),
        }
    }
}

/// Runs `quantize` as the command line asks.
///
/// # Errors
/// Those of [`quantize_file`] and [`collect`], and for a number of bits without a recipe.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    if let Some(Verb::Imatrix(imatrix)) = args.verb {
        let report = collect(&ImatrixJob {
            input: imatrix.input,
            text: imatrix.text,
            output: imatrix.output,
            context: imatrix.context,
            tokens: imatrix.tokens,
            process_output: imatrix.process_output,
            overwrite: args.force,
            interrupt: cli::Interrupt::install()?,
        })?;
        return Ok(Outcome::Imatrix(report));
    }
    Ok(Outcome::Quantized(Box::new(quantize_file(&job(args)?)?)))
}

/// The job that the flags describe.
fn job(args: Args) -> anyhow::Result<QuantizeJob> {
    let input = args.input.clone().ok_or_else(|| anyhow::anyhow!("name --input"))?;
    let target = args.target_size.or(args.target_bits);
    let calibration = match &args.calibration {
        Some(text) => Some(CalibrationText::File(text.clone())),
        None => run_of(&input).map(CalibrationText::Run),
    };
    let by_default = (args.bits.is_some() || target.is_some())
        && calibration.is_some()
        && args.imatrix.is_none()
        && !args.errors;
    let search = args.search || (by_default && !args.no_search);
    anyhow::ensure!(
        args.calibration.is_none() || search || target.is_some(),
        "--calibration is for a search or a target size, and this is neither: add --search or leave it \
         out"
    );
    Ok(QuantizeJob {
        rules: rules(&args, target)?,
        output: args.output,
        importance: args.imatrix,
        requantize: args.requantize,
        search,
        target,
        calibration,
        calibration_tokens: args.calibration_tokens,
        errors: args.errors,
        overwrite: args.force,
        interrupt: cli::Interrupt::install()?,
        input,
    })
}

/// The rules that give each tensor its type; a target replaces them later.
fn rules(args: &Args, target: Option<Target>) -> anyhow::Result<Rules> {
    if let Some(plan) = &args.plan {
        return Ok(Rules::of_plan(PlanFile::read(plan)?));
    }
    let recipe = match (args.recipe, args.bits) {
        (Some(recipe), _) => recipe,
        (None, Some(bits)) => Recipe::from_bits(bits)?,
        (None, None) if target.is_some() => Recipe::Q8_0,
        (None, None) => anyhow::bail!("name --bits, --type, --target-size or --plan"),
    };
    Ok(Rules {
        recipe,
        pure: args.pure,
        overrides: args.overrides.clone(),
        output: args.keep_output,
        plan: None,
    })
}

/// The run of a checkpoint, if it kept its training tokens.
fn run_of(input: &Path) -> Option<PathBuf> {
    let folder = checkpoint::locate(input).ok()?;
    let run = checkpoint::run_dir(&folder)?;
    run.join("tokens.bin").is_file().then(|| run.to_owned())
}
