//! Training: reads a run file and a text, writes a run folder with checkpoints.
//!
//! ```text
//! corpus ------> batches --\
//!                           loop -> optimizer -> weights --> checkpoints/step-N
//! schedule -> learning rate/   \--> metrics.jsonl --> loss.pdf, samples.txt
//! ```
//!
//! [`train`] is the whole stage. A run depends only on its run file and its text: all random
//! numbers follow from the seed and the step ([`kernels::random`]). A run that was stopped and
//! resumed therefore ends with the same bits as one that was not, on the same kind of device and
//! CPU.

mod allocator;
mod chart;
mod chat_tokenizer;
mod corpus;
mod device;
mod evaluate;
mod folder;
mod init_from;
mod journal;
mod metrics;
mod objective;
mod optimizer;
mod passes;
mod plan;
mod qat;
mod reference;
mod report;
mod rewards;
mod sample;
mod schedule;
mod session;
mod state;
mod teacher;
mod tensors;

use std::path::Path;

use checkpoint::RunLock;
use cli::Interrupt;
use config::{ModelConfig, RunFile};
use data::Tokenizer;

pub use device::check as check_device;
pub use folder::claim;
pub use report::{Losses, Report};
pub use rewards::Rewards;
pub use session::train;
pub use teacher::{RecordReport, record};

/// Shown below the help text.
pub const EXAMPLES: &str = "\
Example:
  train --config configs/quickstart.toml --set train.batch_size=4";

/// The command's arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the settings come from.
    #[command(flatten)]
    pub run_file: cli::RunFileArgs,
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
    #[arg(long)]
    pub json: bool,
}

/// Settings of the caller that are not in the run file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Go on from the last checkpoint even if the settings have changed.
    pub resume: bool,
    /// Delete what an earlier run left in the run folder.
    pub overwrite: bool,
    /// Checked after every step; once requested, a checkpoint is written and training ends.
    pub interrupt: Interrupt,
    /// The run folder's lock, if the caller holds it already ([`claim`]).
    pub lock: Option<RunLock>,
    /// A further check of the model before its first step, for what later stages need.
    pub requirement: Option<Requirement>,
}

/// Refuses a model that the caller cannot use, before it is trained.
pub type Requirement = fn(&Prospect<'_>) -> anyhow::Result<()>;

/// What is known of a model before its first step.
#[derive(Debug, Clone, Copy)]
pub struct Prospect<'a> {
    /// The settings.
    pub run_file: &'a RunFile,
    /// The model's shape.
    pub config: &'a ModelConfig,
    /// The tokenizer of the run.
    pub tokenizer: &'a Tokenizer,
    /// The text of the `tokenizer.json` that its checkpoints will have.
    pub tokenizer_json: &'a str,
    /// The folder whose other files are copied with `tokenizer.json`.
    pub tokenizer_folder: Option<&'a Path>,
}

/// The result of the command.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// Of training.
    Trained(Box<Report>),
    /// Of `--record`.
    Recorded(RecordReport),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Trained(report) => report.fmt(f),
            Outcome::Recorded(report) => report.fmt(f),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// As [`train`] and [`record`], and when the run file is invalid.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let run_file = RunFile::load(&args.run_file.config, &args.run_file.overrides)?;
    let interrupt = Interrupt::install()?;
    let options =
        Options { resume: args.resume, overwrite: args.force, interrupt, ..Options::default() };
    match args.record {
        true => record(&run_file, &options).map(Outcome::Recorded),
        false => train(&run_file, &options).map(Box::new).map(Outcome::Trained),
    }
}
