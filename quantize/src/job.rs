//! The whole job: reads one file and writes the smaller one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use checkpoint::atomic;
use cli::memory::{AnonymousPeak, peak_resident};
use cli::{Interrupt, Interrupted, Meter, Progress};
use gguf::{TensorInfo, TensorSource, TensorType};

use crate::budget::{self, Target};
use crate::encode::Rounding;
use crate::experts;
use crate::input::Input;
use crate::plan::{ColumnWeights, FilePlan};
use crate::report::{ImportanceReport, PlanReport, SearchReport};
use crate::search::{Overlay, SearchJob, Verdict, search_model};
use crate::{Calibration, Importance, Recipe, Report, Rules, output};

/// Tokens of a calibration window, the same number as in `quantize imatrix`.
const WINDOW: usize = 512;

/// Tokens on which each tensor's sensitivity is measured. Everything else in the pass is the
/// original, so few tokens are enough to rank the tensors.
const PROBE_TOKENS: usize = 1024;

/// The settings of [`quantize_file`].
#[derive(Debug, Clone)]
pub struct QuantizeJob {
    /// A GGUF (of one part or several), a checkpoint folder, or a run folder.
    pub input: PathBuf,
    /// The file to write. If not given, `NAME-RECIPE.gguf`: beside a GGUF, or in the `gguf` folder
    /// of a checkpoint's run.
    pub output: Option<PathBuf>,
    /// Which tensor gets which type.
    pub rules: Rules,
    /// A file of importance data, to weight errors with.
    pub importance: Option<PathBuf>,
    /// Whether tensors that are quantized already may be quantized again.
    pub requantize: bool,
    /// Whether to search for codes whose errors compensate each other.
    pub search: bool,
    /// A file size that types are chosen for, instead of the types of the rules.
    pub target: Option<Target>,
    /// The calibration text of a search and a target.
    pub calibration: Option<CalibrationText>,
    /// Most tokens of it that a search reads.
    pub calibration_tokens: usize,
    /// Whether to measure each tensor's error.
    pub errors: bool,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// Checked before each tensor, and more often during a search.
    pub interrupt: Interrupt,
}

/// A text of the kind that the model will read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CalibrationText {
    /// A text file, UTF-8.
    File(PathBuf),
    /// The training tokens of the run in this folder.
    Run(PathBuf),
}

impl QuantizeJob {
    /// The job that quantizes `input` by `recipe` to its default output, if that does not exist
    /// yet.
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

    /// The default number of tokens that a search reads. With 2,560 of them, SmolLM2-135M took two
    /// minutes on two cores (BENCHMARKS.md).
    pub const CALIBRATION_TOKENS: usize = 4_096;
}

/// Writes `job.input` as a smaller GGUF.
///
/// # Errors
/// When the input is not a GGUF or checkpoint, is quantized already, is a model that the rules do
/// not cover, or has a weight that is not finite or too large for its new type (with the name of
/// the tensor); when the importance data cannot be read or belongs to another model; when a search
/// or a target has no calibration text, or the reference pass does not know the model; when the
/// output exists and may not be replaced, is the input, or cannot be written.
pub fn quantize_file(job: &QuantizeJob) -> anyhow::Result<Report> {
    let (start, peak) = (Instant::now(), AnonymousPeak::default());
    let input = Input::open(&job.input)?;
    let output = job.output.clone().unwrap_or_else(|| input.default_output(&job.file_suffix()));
    if input.consists_of(&output) {
        bail!("{} is the input itself or a part of it; name another --output", output.display());
    }
    let plan_path = job.target.map(|_| plan_path(&output));
    for path in [Some(&output), plan_path.as_ref()].into_iter().flatten() {
        ensure!(
            job.overwrite || path.symlink_metadata().is_err(),
            "{} exists already; use --force to replace it",
            path.display()
        );
    }
    let importance = job.importance.as_deref().map(Importance::open).transpose()?;
    let importance = importance.as_ref();
    let source = input.source();
    experts::refuse(job.search, job.target.is_some(), source)
        .with_context(|| format!("cannot quantize {}", job.input.display()))?;
    let calibration = job.calibration(&input)?;
    let scratch = output.parent().filter(|folder| !folder.as_os_str().is_empty());
    let scratch = scratch.unwrap_or(Path::new("."));
    atomic::create_folders(scratch)
        .with_context(|| format!("cannot make {}", scratch.display()))?;

    let (rules, new_plan) = job.rules(source, calibration.as_ref(), scratch, &peak)?;
    let weights = match importance {
        Some(importance) => ColumnWeights::Imported(importance),
        None if job.search => ColumnWeights::Measured,
        None => ColumnWeights::Equal,
    };
    let mut plan = FilePlan::new(source, &rules, weights, job.requantize)
        .with_context(|| format!("cannot quantize {}", job.input.display()))?;
    if let Some(NewPlan { most_bytes, .. }) = new_plan {
        let bytes = plan.bytes_after();
        ensure!(bytes <= most_bytes, "the chosen types make {bytes} bytes of {most_bytes} at most");
    }
    let importance_report =
        importance.map(|data| ImportanceReport::new(data, &plan)).transpose()?;
    let (bytes_before, fallbacks) = (plan.bytes_before(), plan.fallbacks());

    let mut overlay = Overlay::new(source, scratch)?;
    let mut rounded = Overlay::new(source, scratch)?;
    let mut search_report = None;
    if let (true, Some(calibration)) = (job.search, &calibration) {
        let verdict = search(job, &plan, calibration, &mut overlay, &mut rounded, &peak)?;
        plan.describe_search(calibration);
        if !verdict.holds() {
            overlay = rounded;
        }
        search_report = Some(SearchReport::new(calibration, verdict));
    }
    let plan = plan.reading(&overlay)?;
    let encoder = Rounding { importance };
    let mut tensors = output::write(&plan, &encoder, &output, job, &peak)
        .with_context(|| format!("cannot quantize {}", job.input.display()))?;
    let written = new_plan.zip(plan_path).map(|(plan, path)| plan.write(path, job.overwrite));
    let plan_report = written.transpose()?;
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
    /// The suffix of the output's name.
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

    /// The rules, or those of a new plan if there is a target.
    fn rules(
        &self,
        source: &dyn TensorSource,
        calibration: Option<&Calibration>,
        scratch: &Path,
        peak: &AnonymousPeak,
    ) -> anyhow::Result<(Rules, Option<NewPlan>)> {
        let (Some(target), Some(calibration)) = (self.target, calibration) else {
            return Ok((self.rules.clone(), None));
        };
        let windows = calibration.clone().thinned(PROBE_TOKENS).windows;
        let progress = Progress::new("measure", source.tensors().len() as u64, Meter::Items);
        let planned = budget::plan(source, target, &windows, scratch, &|name| {
            progress.message(name);
            progress.advance(1);
            peak.sample();
            if self.interrupt.requested() { Err(Interrupted.into()) } else { Ok(()) }
        });
        progress.finish();
        let planned =
            planned.with_context(|| format!("cannot plan for {}", self.input.display()))?;
        let divergence = planned.divergence;
        let note = format!("KL divergence expected of rounding alone: {divergence:.5} nats");
        let text = planned.plan.to_text(&note)?;
        let plan = NewPlan { text, divergence, most_bytes: planned.most_bytes };
        Ok((Rules::of_plan(planned.plan), Some(plan)))
    }
}

/// A choice of types that is not on disk yet.
struct NewPlan {
    text: String,
    divergence: f64,
    /// The largest size of the file, in bytes.
    most_bytes: u64,
}

impl NewPlan {
    /// Saves the choice beside the file that was made with it.
    fn write(self, path: PathBuf, overwrite: bool) -> anyhow::Result<PlanReport> {
        atomic::write_file(&path, overwrite, |out| {
            std::io::Write::write_all(out, self.text.as_bytes()).map_err(anyhow::Error::from)
        })?;
        Ok(PlanReport { path, divergence: self.divergence })
    }
}

/// `OUTPUT.recipe.toml`, without `.gguf` in the middle.
fn plan_path(output: &Path) -> PathBuf {
    let stem = match output.extension() {
        Some(extension) if extension == "gguf" => output.with_extension(""),
        _ => output.to_owned(),
    };
    let mut name = stem.into_os_string();
    name.push(".recipe.toml");
    name.into()
}

/// Fills one overlay with the result of the search, and the other with rounded weights.
fn search<'a>(
    job: &QuantizeJob,
    plan: &FilePlan<'_>,
    calibration: &Calibration,
    overlay: &mut Overlay<'a>,
    rounded: &mut Overlay<'a>,
    peak: &AnonymousPeak,
) -> anyhow::Result<Verdict> {
    // Tensors that have the wanted type already stay: after a new search both errors would add up.
    let stays = |tensor: &TensorInfo, to: TensorType| to.is_quantized() && tensor.tensor_type == to;
    let changing = plan.tensors().filter(|(tensor, to)| !stays(tensor, *to));
    let wanted: HashMap<&str, TensorType> =
        changing.map(|(tensor, to)| (tensor.name.as_str(), to)).collect();
    let matrices = wanted.values().filter(|to| to.is_quantized()).count();
    let progress = Progress::new("search", matrices as u64, Meter::Items);
    let found = search_model(
        overlay,
        rounded,
        &SearchJob {
            wanted: &|name| wanted.get(name).copied(),
            windows: &calibration.windows,
            done: &|name| {
                progress.message(name);
                progress.advance(1);
                peak.sample();
            },
            interrupt: &job.interrupt,
        },
    );
    progress.finish();
    found.with_context(|| format!("cannot search for the codes of {}", job.input.display()))
}
