//! From one file to the smaller one.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use cli::memory::peak_resident;
use gguf::TensorInfo;

use crate::encode::Rounding;
use crate::input::Input;
use crate::plan::Plan;
use crate::report::ImportanceReport;
use crate::{Importance, Recipe, Report, Rules, output};

/// What [`quantize_file`] is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizeJob {
    /// A GGUF (of one part or several), a checkpoint folder, or a run folder.
    pub input: PathBuf,
    /// The file to write. If not given, `NAME-RECIPE.gguf`: beside a GGUF, or in the `gguf` folder
    /// of a checkpoint's run.
    pub output: Option<PathBuf>,
    /// Which tensor gets which type.
    pub rules: Rules,
    /// A file of importance data, to weigh errors with.
    pub importance: Option<PathBuf>,
    /// Whether tensors that are quantized already may be quantized again.
    pub requantize: bool,
    /// Whether to measure each tensor's error.
    pub errors: bool,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
}

impl QuantizeJob {
    /// The file that `recipe` makes of `input`, in its usual place, if there is none yet.
    pub fn new(input: impl Into<PathBuf>, recipe: Recipe) -> Self {
        QuantizeJob {
            input: input.into(),
            output: None,
            rules: Rules::of(recipe),
            importance: None,
            requantize: false,
            errors: false,
            overwrite: false,
        }
    }
}

/// Writes `job.input` as a smaller GGUF.
///
/// # Errors
/// When the input is no GGUF or checkpoint, is quantized already, is a model that the rules do not
/// cover, or has a weight that is not finite or too large for its new type (with the name of the
/// tensor); when the importance data cannot be read or is another model's; when the output exists
/// and may not be replaced, is the input, or cannot be written.
pub fn quantize_file(job: &QuantizeJob) -> anyhow::Result<Report> {
    let start = Instant::now();
    let input = Input::open(&job.input)?;
    let recipe = job.rules.recipe;
    let output = job.output.clone().unwrap_or_else(|| input.default_output(recipe));
    if input.consists_of(&output) {
        bail!("{} is the input itself or a part of it; name another --output", output.display());
    }
    let importance = job.importance.as_deref().map(Importance::open).transpose()?;
    let importance = importance.as_ref();
    let source = input.source();
    let plan = Plan::new(source, &job.rules, importance, job.requantize)
        .with_context(|| format!("cannot quantize {}", job.input.display()))?;
    let importance_report =
        importance.map(|data| ImportanceReport::new(data, &plan)).transpose()?;

    let encoder = Rounding { importance };
    let (tensors, peak) = output::write(&plan, &encoder, &output, job.overwrite, job.errors)
        .with_context(|| format!("cannot write {}", output.display()))?;
    Ok(Report {
        input: job.input.clone(),
        recipe,
        bytes_before: plan.bytes_before(),
        bytes_after: plan.bytes_after(),
        weights: source.tensors().iter().map(TensorInfo::elements).sum(),
        fallbacks: plan.fallbacks(),
        importance: importance_report,
        types: Report::by_type(&tensors),
        tensors,
        seconds: start.elapsed().as_secs_f64(),
        peak_resident_bytes: peak_resident(),
        peak_anonymous_bytes: peak.bytes(),
        output,
    })
}
