//! The command line of this crate.

use std::fmt;
use std::path::PathBuf;

use clap::Subcommand;
use cli::Interrupt;
use config::RunFile;
use serde::Serialize;

use crate::curves::{self, CurvesReport};
use crate::{Options, RecordReport, Report, record, train};

/// Shown below the help text.
pub const EXAMPLES: &str = "\
Examples:
  train --config configs/quickstart.toml --set train.batch_size=4
  train --config run.toml --record
  train plot runs/adamw runs/wsd --output curves.pdf";

/// The command's arguments.
#[derive(Debug, Clone, clap::Args)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// A command other than training.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// Where the settings of a training come from.
    #[command(flatten)]
    pub run_file: Option<cli::RunFileArgs>,
    /// Resume from the run folder's last checkpoint, also with changed settings [default: off; an
    /// unfinished run with the same settings resumes automatically].
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Start over: delete what an earlier run left in the run folder; with --record, replace the
    /// recording [default: off].
    #[arg(long)]
    pub force: bool,
    /// Write what train.teacher.model predicts on the training windows to train.teacher.recorded, and
    /// do not train [default: train].
    #[arg(long, conflicts_with = "resume")]
    pub record: bool,
    /// Print the report as JSON [default: a table].
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands besides training.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Draw the curves of several runs beside each other as a PDF.
    #[command(after_help = "Example: train plot runs/adamw runs/wsd --output curves.pdf")]
    Plot(PlotArgs),
}

/// Arguments of `train plot`.
#[derive(Debug, Clone, clap::Args)]
pub struct PlotArgs {
    /// Run folders; a curve bears the name of its folder.
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// File to write.
    #[arg(long, short, value_name = "FILE", default_value = "curves.pdf")]
    pub output: PathBuf,
    /// Replace the output if it exists [default: off].
    #[arg(long)]
    pub force: bool,
}

/// The result of a command.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// A trained model.
    Trained(Box<Report>),
    /// A teacher's predictions.
    Recorded(RecordReport),
    /// A picture.
    Plotted(CurvesReport),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Trained(report) => report.fmt(f),
            Outcome::Recorded(report) => report.fmt(f),
            Outcome::Plotted(report) => report.fmt(f),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// As [`train`] or [`record`], when a picture cannot be drawn, and when the run file is invalid.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    if let Some(Verb::Plot(plot)) = args.verb {
        return curves::plot(&plot.runs, &plot.output, plot.force).map(Outcome::Plotted);
    }
    let Some(settings) = args.run_file else {
        anyhow::bail!("--config is missing: name the run file");
    };
    let run_file = RunFile::load(&settings.config, &settings.overrides)?;
    let interrupt = Interrupt::install()?;
    let options =
        Options { resume: args.resume, overwrite: args.force, interrupt, ..Options::default() };
    if args.record {
        return record(&run_file, &options).map(Outcome::Recorded);
    }
    train(&run_file, &options).map(|report| Outcome::Trained(Box::new(report)))
}
