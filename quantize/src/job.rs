//! From one file to the smaller one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use checkpoint::atomic;
use cli::memory::peak_resident;
use cli::{Interrupt, Meter, Progress};
use gguf::{TensorInfo, TensorSource, TensorType};

use crate::budget::{self, Target};
use crate::encode::Rounding;
use crate::input::Input;
use crate::plan::Plan;
use crate::report::{ImportanceReport, PlanReport, SearchReport};
use crate::search::{Overlay, SearchJob, search_model};
use crate::{Calibration, Importance, Recipe, Report, Rules, output};

/// Tokens of a calibration window: as many as `quantize imatrix` reads together.
const WINDOW: usize = 512;

/// Tokens on which each tensor's sensitivity is measured. The divergence is that of a pass with
/// everything else as it was, so few are enough to rank tensors.
const PROBE_TOKENS: usize = 1024;

/// What [`quantize_file`] is to do.
#[derive(Debug, Clone)]
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
    /// Whether to search for codes that make up for each other's errors.
    pub search: bool,
    /// Types chosen for a file of this size, instead of the rules' own.
    pub target: Option<Target>,
    /// What a search and a target read.
    pub calibration: Option<CalibrationText>,
    /// Most tokens of it that a search reads.
    pub calibration_tokens: usize,
    /// Whether to measure each tensor's error.
    pub errors: bool,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// Asked now and then during a search.
    pub interrupt: Interrupt,
}

/// A text of the kind that the model will read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CalibrationText {
    /// A text file, UTF-8.
    File(PathBuf),
    /// What the run in this folder trained on.
    Run(PathBuf),
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
            search: false,
            target: None,
            calibration: None,
            calibration_tokens: QuantizeJob::CALIBRATION_TOKENS,
            errors: false,
            overwrite: false,
            interrupt: Interrupt::default(),
        }
    }

    /// Tokens that a search reads if nobody says otherwise. Four times as many were no better for a
    /// model of 260,000 parameters.
    pub const CALIBRATION_TOKENS: usize = 16_384;
}

/// Writes `job.input` as a smaller GGUF.
///
/// # Errors
/// When the input is no GGUF or checkpoint, is quantized already, is a model that the rules do not
/// cover, or has a weight that is not finite or too large for its new type (with the name of the
/// tensor); when the importance data cannot be read or is another model's; when a search or a target
/// lacks a calibration text, or the model is none that the reference pass knows; when the output
/// exists and may not be replaced, is the input, or cannot be written.
pub fn quantize_file(job: &QuantizeJob) -> anyhow::Result<Report> {
    let start = Instant::now();
    let input = Input::open(&job.input)?;
    let output = job.output.clone().unwrap_or_else(|| input.default_output(&job.file_suffix()));
    if input.consists_of(&output) {
        bail!("{} is the input itself or a part of it; name another --output", output.display());
    }
    ensure!(
        job.overwrite || !output.exists(),
        "{} exists already; use --force to replace it",
        output.display()
    );
    let importance = job.importance.as_deref().map(Importance::open).transpose()?;
    let importance = importance.as_ref();
    let source = input.source();
    let calibration = job.calibration(&input)?;
    let scratch = output.parent().filter(|folder| !folder.as_os_str().is_empty());
    let scratch = scratch.unwrap_or(Path::new("."));
    std::fs::create_dir_all(scratch)
        .with_context(|| format!("cannot make {}", scratch.display()))?;

    let (rules, plan_report) = job.rules(source, calibration.as_ref(), &output, scratch)?;
    let mut plan = Plan::new(source, &rules, importance, job.requantize)
        .with_context(|| format!("cannot quantize {}", job.input.display()))?;
    let importance_report =
        importance.map(|data| ImportanceReport::new(data, &plan)).transpose()?;
    let (bytes_before, fallbacks) = (plan.bytes_before(), plan.fallbacks());

    let mut overlay = Overlay::new(source, scratch)?;
    let mut search_report = None;
    if let (true, Some(calibration)) = (job.search, &calibration) {
        search(job, &plan, calibration, &mut overlay)?;
        plan.describe_search(calibration);
        search_report = Some(SearchReport::new(calibration));
    }
    let plan = plan.reading(&overlay)?;
    let encoder = Rounding { importance };
    let (mut tensors, peak) = output::write(&plan, &encoder, &output, job.overwrite, job.errors)
        .with_context(|| format!("cannot write {}", output.display()))?;
    for (report, tensor) in tensors.iter_mut().zip(source.tensors()) {
        report.from = tensor.tensor_type.name();
    }
    Ok(Report {
        input: job.input.clone(),
        recipe: rules.recipe,
        plan: plan_report,
        search: search_report,
        bytes_before,
        bytes_after: plan.bytes_after(),
        weights: source.tensors().iter().map(TensorInfo::elements).sum(),
        fallbacks,
        importance: importance_report,
        types: Report::by_type(&tensors),
        tensors,
        seconds: start.elapsed().as_secs_f64(),
        peak_resident_bytes: peak_resident(),
        peak_anonymous_bytes: peak.bytes(),
        output,
    })
}

impl QuantizeJob {
    /// What the output's name ends with.
    fn file_suffix(&self) -> String {
        match (&self.target, &self.rules.plan) {
            (None, None) => self.rules.recipe.name().to_owned(),
            _ => "planned".to_owned(),
        }
    }

    fn calibration(&self, input: &Input) -> anyhow::Result<Option<Calibration>> {
        if !self.search && self.target.is_none() {
            return Ok(None);
        }
        let calibration = match &self.calibration {
            Some(CalibrationText::File(text)) => {
                let metadata = input.source().metadata();
                Calibration::read(text, metadata, input.folder(), WINDOW, None)?
                    .thinned(self.calibration_tokens)
            }
            Some(CalibrationText::Run(run)) => {
                Calibration::of_run(run, WINDOW, self.calibration_tokens)?
            }
            None => bail!(
                "a search and a target size read a text of the kind that the model will read: \
                 give --calibration FILE"
            ),
        };
        Ok(Some(calibration))
    }

    /// The rules and, where a target asks for one, a new plan, which is kept beside the output.
    fn rules(
        &self,
        source: &dyn TensorSource,
        calibration: Option<&Calibration>,
        output: &Path,
        scratch: &Path,
    ) -> anyhow::Result<(Rules, Option<PlanReport>)> {
        let (Some(target), Some(calibration)) = (self.target, calibration) else {
            return Ok((self.rules.clone(), None));
        };
        let windows = calibration.clone().thinned(PROBE_TOKENS).windows;
        let progress = Progress::new("measure", source.tensors().len() as u64, Meter::Items);
        let planned = budget::plan(source, target, &windows, scratch, &|name| {
            progress.message(name);
            progress.advance(1);
        });
        progress.finish();
        let planned =
            planned.with_context(|| format!("cannot plan for {}", self.input.display()))?;
        let path = output.with_extension("recipe.toml");
        let divergence = planned.divergence;
        let note = format!("KL divergence expected of rounding alone: {divergence:.5} nats");
        let text = planned.plan.to_text(&note)?;
        atomic::write_file(&path, self.overwrite, |out| {
            std::io::Write::write_all(out, text.as_bytes()).map_err(anyhow::Error::from)
        })
        .with_context(|| format!("cannot write {}", path.display()))?;
        Ok((Rules::of_plan(planned.plan), Some(PlanReport { path, divergence })))
    }
}

/// Fills the overlay with what the search finds.
fn search(
    job: &QuantizeJob,
    plan: &Plan<'_>,
    calibration: &Calibration,
    overlay: &mut Overlay<'_>,
) -> anyhow::Result<()> {
    let wanted: HashMap<&str, TensorType> =
        plan.tensors().map(|(tensor, to)| (tensor.name.as_str(), to)).collect();
    let matrices = wanted.values().filter(|to| to.is_quantized()).count();
    let progress = Progress::new("search", matrices as u64, Meter::Items);
    let found = search_model(
        overlay,
        &SearchJob {
            wanted: &|name| wanted.get(name).copied(),
            windows: &calibration.windows,
            done: &|name| {
                progress.message(name);
                progress.advance(1);
            },
            interrupt: &job.interrupt,
        },
    );
    progress.finish();
    found.with_context(|| format!("cannot search for the codes of {}", job.input.display()))
}
