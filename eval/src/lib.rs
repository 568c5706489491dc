//! Evaluation: compares a quantized model with the trained model.
//!
//! Up to three forward passes read the same tokens, and each is compared with a more trusted one:
//!
//! ```text
//! Burn (golden logits in the checkpoint) <--- reference on the F32 file
//!                                                ^        ^
//!                           llama.cpp on the F32 file    reference and llama.cpp
//!                                                        on every quantized file
//! ```
//!
//! [`metrics`] holds the arithmetic; [`evaluate()`] runs the passes; the limits come from the run
//! file's `[eval.gates]`. A missed gate ends the command with exit code 1, but the report is still
//! printed and saved.
//!
//! [`sweep`] answers another question: not whether one file is good enough, but how any number of
//! files compare in quality, size, speed and memory. [`tasks`] asks questions: what can a model do?
//! [`trace`] shows the intermediate results of one pass, and where two models begin to differ.

mod evaluate;
mod gates;
pub mod metrics;
mod report;
mod run_folder;
pub mod sweep;
pub mod tasks;
mod tokens;
pub mod trace;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use checkpoint::RunLock;
use config::{Eval, RunFile};
use serde::Serialize;

pub use evaluate::{EvalJob, Variant, evaluate};
pub use gates::{Bound, GateResult};
pub use report::{Engine, FORMAT, FileSize, Pair, Pass, Report, Tokens, VERSION};
pub use sweep::{ProbeArgs, Speed, SweepArgs, SweepReport};
pub use tasks::{TasksArgs, TasksReport};
pub use tokens::TextTokens;
pub use trace::{TraceArgs, TraceReport};

/// Shown after the help text.
pub const EXAMPLES: &str = "\
Examples:
  eval --run runs/quickstart
  eval --checkpoint runs/a/checkpoints/step-000090 --f32 a-F32.gguf --quantized a-Q4_K_M.gguf
  eval --f32 model-F32.gguf --quantized model-Q8_0.gguf --tokens-from book.txt
  eval sweep --base model-F32.gguf --text book.txt model-Q8_0.gguf model-Q4_K_M.gguf
  eval tasks --model model-F32.gguf --model model-Q4_K_M.gguf hellaswag.jsonl arc.jsonl
  eval trace --model model-F32.gguf --text 'Once upon a time'

Exit code 1 if a gate is missed: the report is printed and saved all the same.";

/// Compares the forms of a model, logit by logit, and fails if one differs too much.
#[derive(Debug, Clone, clap::Args)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// A command besides checking the gates.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// Run folder: evaluates its latest checkpoint, gguf/*.gguf and fragments/* [default: none]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["checkpoint", "f32", "quantized"])]
    pub run: Option<PathBuf>,
    /// Checkpoint whose golden logits the F32 file is compared with; of a run folder its latest
    /// checkpoint [default: none]
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
    /// Unquantized GGUF (or folder of pieces, or its address) that everything is compared with
    #[arg(long, value_name = "FILE", required_unless_present = "run")]
    pub f32: Option<PathBuf>,
    /// Quantized GGUF (or folder of pieces, or its address); may be repeated [default: none]
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub quantized: Vec<PathBuf>,
    /// Run file with the gates and tasks; with --run, its config.toml [default: built-in gates]
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override a key of the run file; may be repeated, e.g. eval.gates.mean_kl.Q8_0=1e-3
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Read windows of this text instead of the golden ones [default: golden windows]
    #[arg(long, value_name = "TEXT")]
    pub tokens_from: Option<PathBuf>,
    /// Tokens in a window of --tokens-from [default: the model's context, at most 256]
    #[arg(long, value_name = "TOKENS", requires = "tokens_from",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// Windows read from --tokens-from
    #[arg(long, value_name = "COUNT", default_value_t = 4, requires = "tokens_from",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub windows: u32,
    /// File for the report, as JSON; with --run, its report.json [default: not saved]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace an existing report [default: off; a run's own report.json is always replaced]
    #[arg(long)]
    pub force: bool,
    /// Print the report as JSON instead of a table
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands besides evaluating one model's forms.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Verb {
    /// Compare any number of variants in one table: quality, size, speed and memory.
    #[command(after_help = sweep::EXAMPLES)]
    Sweep(SweepArgs),
    /// Measure what models can do: choices by likelihood, generated answers.
    #[command(after_help = tasks::EXAMPLES)]
    Tasks(TasksArgs),
    /// Print the intermediate results of a forward pass, and the first that differs from another's
    #[command(after_help = trace::EXAMPLES)]
    Trace(TraceArgs),
    /// Load one variant and measure it; `sweep` starts this for each variant.
    #[command(hide = true)]
    Probe(ProbeArgs),
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// Of an evaluation.
    Report(Report),
    /// Of `sweep`.
    Sweep(SweepReport),
    /// Of `tasks`.
    Tasks(TasksReport),
    /// Of `trace`.
    Trace(TraceReport),
    /// Of `probe`.
    Probe(Speed),
}

impl Outcome {
    /// Returns missed gates, logits that are not finite, and a stage over its tolerance as an error
    /// that ends a command with exit code 1.
    ///
    /// # Errors
    /// [`cli::GateFailed`].
    pub fn check(&self) -> Result<(), cli::GateFailed> {
        match self {
            Outcome::Report(report) => report.check(),
            Outcome::Sweep(report) => report.check(),
            Outcome::Trace(report) => report.check(),
            Outcome::Tasks(_) | Outcome::Probe(_) => Ok(()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Report(report) => report.fmt(f),
            Outcome::Sweep(report) => report.fmt(f),
            Outcome::Tasks(report) => report.fmt(f),
            Outcome::Trace(report) => report.fmt(f),
            Outcome::Probe(speed) => speed.fmt(f),
        }
    }
}

/// Evaluates. The caller prints the outcome and then calls [`Outcome::check`], which turns a missed
/// gate into the error that ends the command.
///
/// # Errors
/// Those of [`evaluate()`], [`sweep::sweep`], [`tasks::run`] and [`trace::run`].
pub fn run(args: Args) -> Result<Outcome> {
    match args.verb {
        None => {
            let _lock = lock(&args)?;
            Ok(Outcome::Report(evaluate(&job(args)?)?))
        }
        Some(Verb::Sweep(args)) => Ok(Outcome::Sweep(sweep::run(args)?)),
        Some(Verb::Tasks(args)) => Ok(Outcome::Tasks(tasks::run(args)?)),
        Some(Verb::Trace(args)) => Ok(Outcome::Trace(trace::run(&args)?)),
        Some(Verb::Probe(args)) => Ok(Outcome::Probe(sweep::probe(&args)?)),
    }
}

/// The run folder, if the report is written into it.
fn lock(args: &Args) -> Result<Option<RunLock>> {
    let (Some(run), None) = (&args.run, &args.output) else { return Ok(None) };
    if !run.is_dir() {
        return Ok(None); // which is refused later with a longer message
    }
    let lock = RunLock::take(run, "eval");
    lock.map(Some)
        .map_err(|error| anyhow::anyhow!("{error}; --output FILE saves the report elsewhere"))
}

fn job(args: Args) -> Result<EvalJob> {
    let config = args.config.or_else(|| {
        let resolved = args.run.as_ref()?.join("config.toml");
        resolved.exists().then_some(resolved)
    });
    let settings = settings(config.as_deref(), &args.set)?;
    let gates = settings.gates;
    let tokens_from = args.tokens_from.map(|path| TextTokens {
        path,
        context: args.context.map(|context| context as usize),
        windows: args.windows as usize,
    });
    let mut job = match &args.run {
        Some(dir) => EvalJob::from_run(dir, gates)?,
        None => EvalJob {
            checkpoint: args.checkpoint.as_deref().map(checkpoint::locate).transpose()?,
            base: variant(&args.f32.context("--f32 FILE is missing")?)?,
            variants: args.quantized.iter().map(|path| variant(path)).collect::<Result<_>>()?,
            tokens_from: None,
            gates,
            tasks: Vec::new(),
            output: None,
            overwrite: args.force,
            interrupt: cli::Interrupt::default(),
        },
    };
    job.tokens_from = tokens_from;
    job.tasks = settings.task;
    if let Some(output) = args.output {
        job.output = Some(output);
        job.overwrite = args.force;
    }
    Ok(job)
}

/// A variant at a path, or at an address, from which it is fetched into the cache.
fn variant(path: &Path) -> Result<Variant> {
    Ok(Variant::at(&fragment::local(path)?))
}

fn settings(config: Option<&Path>, overrides: &[String]) -> Result<Eval> {
    let run_file = match config {
        Some(path) => RunFile::load(path, overrides)?,
        None => RunFile::parse(Path::new("(defaults)"), "", overrides)?,
    };
    Ok(run_file.eval)
}
