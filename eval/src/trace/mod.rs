//! `eval trace`: the intermediate results of one forward pass, and the first one that differs from
//! another model's. For whoever adds a family: [`config::ForwardStage`] names the results, and
//! `tests/peers/trace_hf.py` writes those of transformers.

mod report;
mod source;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use config::StageValues;

pub use report::{TraceReport, TracedStage};
use source::{Other, read_ids, stages_of, tokenize};

/// Shown after the help text.
pub const EXAMPLES: &str = "\
Examples:
  eval trace --model model-F32.gguf --text 'Once upon a time'
  eval trace --model a-Q8_0.gguf --against a-F32.gguf --text 'Once upon a time' --tolerance 0.05
  python tests/peers/trace_hf.py FOLDER transformers.safetensors --text 'Once upon a time'
  eval trace --model FOLDER --against transformers.safetensors

Exit code 1 if a stage differs by more than the tolerance: the report is printed all the same.";

/// Most tokens of a trace, which holds every intermediate result in memory.
const MAX_TOKENS: usize = 512;

/// Arguments of `eval trace`.
#[derive(Debug, Clone, clap::Args)]
pub struct TraceArgs {
    /// Model to trace: a GGUF, a folder of pieces, a checkpoint or a Hugging Face folder
    #[arg(long, short, value_name = "PATH")]
    pub model: PathBuf,
    /// Model to compare with, or the trace of one (*.safetensors) [default: compare with nothing]
    #[arg(long, value_name = "PATH")]
    pub against: Option<PathBuf>,
    /// Text to read [default: the tokens of the trace that --against names]
    #[arg(long, value_name = "TEXT", conflicts_with = "tokens")]
    pub text: Option<String>,
    /// File with the ids of tokens to read, separated by white space or commas [default: as --text]
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Largest difference of a stage: root mean square of the difference, relative to that of
    /// --against
    #[arg(long, value_name = "RATIO", default_value_t = 1e-4, requires = "against")]
    pub tolerance: f64,
}

/// Traces, and compares if there is something to compare with.
///
/// # Errors
/// When a model or a file cannot be read, the tokens do not fit, or the two traces have no stage in
/// common.
pub fn run(args: &TraceArgs) -> Result<TraceReport> {
    ensure!(
        args.tolerance >= 0.0 && args.tolerance.is_finite(),
        "--tolerance {}: expected a number from 0",
        args.tolerance
    );
    let other = args.against.as_deref().map(Other::open).transpose()?;
    let tokens = tokens(args, other.as_ref())?;
    ensure!(
        tokens.len() <= MAX_TOKENS,
        "{} tokens: a trace holds every intermediate result in memory; give at most {MAX_TOKENS}",
        tokens.len()
    );
    let stages = stages_of(&args.model, &tokens)?;
    let Some(other) = other else { return Ok(TraceReport::alone(tokens, &stages)) };
    let expected = other.stages(&tokens)?;
    compare(args.tolerance, tokens, &stages, &expected)
        .with_context(|| format!("--against {}", other.path().display()))
}

/// The tokens that the arguments name.
fn tokens(args: &TraceArgs, other: Option<&Other>) -> Result<Vec<u32>> {
    let recorded = other.map(Other::tokens).transpose()?.flatten();
    let given = match (&args.text, &args.tokens) {
        (Some(text), _) => Some(tokenize(&args.model, text)?),
        (None, Some(path)) => Some(read_ids(path)?),
        (None, None) => None,
    };
    match (given, recorded) {
        (Some(given), Some(recorded)) => {
            ensure!(
                given == recorded,
                "the trace is of the tokens {recorded:?}, but {given:?} are to be read; leave \
                 --text and --tokens out to read those of the trace"
            );
            Ok(given)
        }
        (Some(tokens), None) | (None, Some(tokens)) => Ok(tokens),
        (None, None) => anyhow::bail!("nothing to read: give --text TEXT or --tokens FILE"),
    }
}

/// The report on `stages` beside those of the other source, which are found by name.
fn compare(
    tolerance: f64,
    tokens: Vec<u32>,
    stages: &[StageValues],
    expected: &source::Expected,
) -> Result<TraceReport> {
    let mut report = TraceReport::alone(tokens, stages);
    report.tolerance = Some(tolerance);
    for (row, stage) in report.stages.iter_mut().zip(stages) {
        match expected.find(&row.name)? {
            Some(other) => row.compare(&stage.values, &other),
            None => report.only_in_model.push(row.name.clone()),
        }
    }
    let ours = |name: &&str| report.stages.iter().any(|row| row.name == **name);
    report.only_in_other = expected.names().filter(|name| !ours(name)).map(str::to_owned).collect();
    ensure!(
        report.only_in_model.len() < report.stages.len(),
        "no stage in common: found {}; expected names such as {}",
        report.only_in_other.iter().take(3).cloned().collect::<Vec<_>>().join(", "),
        report.only_in_model.iter().take(3).cloned().collect::<Vec<_>>().join(", ")
    );
    report.first_over =
        report.stages.iter().find(|row| row.is_over(tolerance)).map(|row| row.name.clone());
    Ok(report)
}
