//! From one file to the smaller one, a tensor at a time.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use checkpoint::{Checkpoint, GgufView, atomic};
use cli::memory::{AnonymousPeak, peak_resident};
use cli::{Meter, Progress};
use gguf::{
    GgufFile, Layout, Metadata, TensorInfo, TensorSource, TensorType, Value, Writer, blocks,
};

use crate::report::{Fallback, TensorReport};
use crate::{Choice, Recipe, Report, contexts};

/// The layout of the blocks, `GGML_QNT_VERSION` of `ggml.h`.
const QUANTIZATION_VERSION: u32 = 2;

/// Weights whose error is measured at a time.
const SLAB: usize = 1 << 20;

/// What [`quantize_file`] is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizeJob {
    /// A GGUF of plain floats, a checkpoint folder, or a run folder.
    pub input: PathBuf,
    /// The file to write. If not given, `NAME-RECIPE.gguf`: beside a GGUF, or in the `gguf` folder
    /// of a checkpoint's run.
    pub output: Option<PathBuf>,
    /// Which tensor gets which type.
    pub recipe: Recipe,
    /// Whether to measure each tensor's error.
    pub errors: bool,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
}

/// Writes `job.input` as a smaller GGUF.
///
/// # Errors
/// When the input is no GGUF or checkpoint, is quantized already, is a model that the recipes do
/// not cover, or has a weight that is not finite or too large for its new type (with the name of
/// the tensor); when the output exists and may not be replaced, is the input, or cannot be written.
pub fn quantize_file(job: &QuantizeJob) -> anyhow::Result<Report> {
    let start = Instant::now();
    let input = Input::open(&job.input)?;
    let output = job.output.clone().unwrap_or_else(|| default_output(&input, job.recipe));
    if input.consists_of(&output) {
        bail!("{} is the input itself or a part of it; name another --output", output.display());
    }
    let source = input.source();
    refuse_unsuitable(source)
        .with_context(|| format!("cannot quantize {}", job.input.display()))?;
    let work = Work::plan(source, job.recipe)?;
    let (tensors, peak) =
        work.write(&output, job).with_context(|| format!("cannot write {}", output.display()))?;
    Ok(Report {
        input: job.input.clone(),
        recipe: job.recipe,
        bytes_before: work.layout_before.file_size,
        bytes_after: work.layout_after.file_size,
        weights: source.tensors().iter().map(TensorInfo::elements).sum(),
        fallbacks: work.fallbacks(),
        types: Report::by_type(&tensors),
        tensors,
        seconds: start.elapsed().as_secs_f64(),
        peak_resident_bytes: peak_resident(),
        peak_anonymous_bytes: peak.bytes(),
        output,
    })
}

/// What was opened: the file's place decides where the output goes.
enum Input {
    /// A GGUF file.
    File(GgufFile),
    /// A checkpoint, seen as an F32 GGUF.
    Checkpoint(Box<GgufView>),
}

impl Input {
    /// Opens a GGUF file, a checkpoint folder, or the newest checkpoint of a run folder.
    fn open(path: &Path) -> anyhow::Result<Self> {
        if !path.is_dir() {
            return Ok(Input::File(GgufFile::open(path)?));
        }
        let checkpoint = Checkpoint::open(&checkpoint::locate(path)?)?;
        let name = checkpoint.default_name();
        let view = GgufView::new(checkpoint, TensorType::F32, &name)
            .with_context(|| format!("cannot read {} as a GGUF", path.display()))?;
        Ok(Input::Checkpoint(Box::new(view)))
    }

    fn consists_of(&self, path: &Path) -> bool {
        match self {
            Input::File(file) => atomic::same_place(file.path(), path),
            Input::Checkpoint(view) => view.checkpoint().consists_of(path),
        }
    }

    fn source(&self) -> &dyn TensorSource {
        match self {
            Input::File(file) => file,
            Input::Checkpoint(view) => view.as_ref(),
        }
    }
}

/// `NAME-RECIPE.gguf`: beside a GGUF, with the type in its name replaced; in the `gguf` folder of
/// a checkpoint's run; beside a checkpoint that is in no run.
fn default_output(input: &Input, recipe: Recipe) -> PathBuf {
    match input {
        Input::File(file) => {
            let stem = file.path().file_stem().unwrap_or_default().to_string_lossy();
            let plain = ["-F32", "-F16", "-BF16", "-f32", "-f16", "-bf16"];
            let name = plain.iter().find_map(|suffix| stem.strip_suffix(suffix)).unwrap_or(&stem);
            file.path().with_file_name(format!("{name}-{recipe}.gguf"))
        }
        Input::Checkpoint(view) => {
            let checkpoint = view.checkpoint();
            let folder = match checkpoint.run_dir() {
                Some(run) => run.join("gguf"),
                None => checkpoint.dir().parent().map(Path::to_owned).unwrap_or_default(),
            };
            folder.join(format!("{}-{recipe}.gguf", checkpoint.default_name()))
        }
    }
}

/// Refuses what would give a bad file, or another one than `llama-quantize` makes.
fn refuse_unsuitable(source: &dyn TensorSource) -> anyhow::Result<()> {
    if let Some(tensor) = source.tensors().iter().find(|t| t.tensor_type.is_quantized()) {
        bail!(
            "tensor {} is {} already, and quantizing twice adds up both errors; start from the \
             F32, F16 or BF16 file",
            tensor.name,
            tensor.tensor_type
        );
    }
    let metadata = source.metadata();
    let number = |key: &str| metadata.unsigned(key).unwrap_or(0);
    if number("split.count") > 1 {
        bail!("this is one part of a model in several files; merge them first");
    }
    let architecture = metadata.string("general.architecture").unwrap_or_default();
    let of_model = |key: &str| number(&format!("{architecture}.{key}"));
    let grouped = of_model("attention.head_count") != of_model("attention.head_count_kv");
    if of_model("expert_count") > 1 {
        bail!("models with experts have rules of their own, which are not built in");
    }
    let has_70b_rules = match architecture {
        "llama" => of_model("block_count") == 80 && grouped,
        "qwen2" => of_model("block_count") == 80,
        _ => false,
    };
    if architecture == "falcon" || has_70b_rules {
        bail!("the rules for this {architecture} need Q5_K, which is not built in");
    }
    Ok(())
}

/// What becomes of every tensor.
struct Work<'a> {
    source: &'a dyn TensorSource,
    metadata: Metadata,
    choices: Vec<Choice>,
    layout_before: Layout,
    layout_after: Layout,
}

impl<'a> Work<'a> {
    fn plan(source: &'a dyn TensorSource, recipe: Recipe) -> anyhow::Result<Self> {
        let choices: Vec<Choice> = contexts(source.metadata(), source.tensors())?
            .iter()
            .map(|tensor| recipe.tensor_type(tensor))
            .collect();
        let mut metadata = Metadata::new();
        for (key, value) in source.metadata().iter().filter(|(key, _)| !key.starts_with("split.")) {
            metadata.set(key, value.clone());
        }
        metadata.set("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
        metadata.set("general.file_type", Value::U32(recipe.file_type()));
        let stored: Vec<_> = source.tensors().iter().map(|t| t.tensor_type).collect();
        let chosen: Vec<_> = choices.iter().map(|choice| choice.tensor_type).collect();
        Ok(Work {
            layout_before: Layout::plan(source.metadata(), &described(source, &stored))?,
            layout_after: Layout::plan(&metadata, &described(source, &chosen))?,
            source,
            metadata,
            choices,
        })
    }

    fn fallbacks(&self) -> Vec<Fallback> {
        let tensors = self.source.tensors().iter().zip(&self.choices);
        tensors
            .filter_map(|(tensor, choice)| {
                let wanted = choice.instead_of?;
                Some(Fallback {
                    tensor: tensor.name.clone(),
                    wanted: wanted.name(),
                    got: choice.tensor_type.name(),
                    row_len: tensor.row_len(),
                    block_len: wanted.block_len(),
                })
            })
            .collect()
    }

    fn write(
        &self,
        output: &Path,
        job: &QuantizeJob,
    ) -> anyhow::Result<(Vec<TensorReport>, AnonymousPeak)> {
        let total = self.source.tensors().iter().map(|tensor| tensor.size).sum();
        let progress = Progress::new("quantize", total, Meter::Bytes);
        let chosen: Vec<_> = self.choices.iter().map(|choice| choice.tensor_type).collect();
        let written = atomic::write_file(output, job.overwrite, |out| {
            let mut writer = Writer::new(out, &self.metadata, &described(self.source, &chosen))?;
            let mut reports = Vec::new();
            let mut peak = AnonymousPeak::default();
            for (tensor, &tensor_type) in self.source.tensors().iter().zip(&chosen) {
                progress.message(&tensor.name);
                let bytes = self.source.read(tensor)?;
                let (converted, error) = convert(tensor, tensor_type, bytes, job.errors)
                    .with_context(|| format!("tensor {}", tensor.name))?;
                writer.write_tensor(&tensor.name, &converted)?;
                peak.sample();
                self.source.release(tensor);
                progress.advance(tensor.size);
                reports.push(TensorReport::new(tensor, tensor_type, converted.len(), error));
            }
            writer.finish()?;
            Ok::<_, anyhow::Error>((reports, peak))
        });
        progress.finish();
        written
    }
}

fn described(
    source: &dyn TensorSource,
    types: &[TensorType],
) -> Vec<(String, Vec<u64>, TensorType)> {
    let tensors = source.tensors().iter().zip(types);
    tensors.map(|(tensor, &to)| (tensor.name.clone(), tensor.shape.clone(), to)).collect()
}

/// The tensor's bytes in its new type, and its relative RMS error if that is asked for.
fn convert<'a>(
    tensor: &TensorInfo,
    to: TensorType,
    bytes: Cow<'a, [u8]>,
    errors: bool,
) -> anyhow::Result<(Cow<'a, [u8]>, Option<f64>)> {
    if to == tensor.tensor_type {
        blocks::check_scales(to, &bytes)?;
        return Ok((bytes, errors.then_some(0.0)));
    }
    let weights = floats(tensor.tensor_type, &bytes)?;
    let size = weights.len() / to.block_len() * to.block_bytes();
    let mut out = vec![0; size];
    blocks::quantize(to, &weights, tensor.row_len(), None, &mut out)?;
    blocks::check_scales(to, &out)?;
    let error = if errors { Some(relative_rms(to, &weights, &out)?) } else { None };
    Ok((Cow::Owned(out), error))
}

/// The weights as floats: borrowed if they are that already.
fn floats(tensor_type: TensorType, bytes: &[u8]) -> anyhow::Result<Cow<'_, [f32]>> {
    if tensor_type == TensorType::F32
        && let Ok(weights) = bytemuck::try_cast_slice(bytes)
    {
        return Ok(Cow::Borrowed(weights));
    }
    let mut weights = vec![0.0; bytes.len() / tensor_type.block_bytes()];
    blocks::dequantize(tensor_type, bytes, &mut weights)?;
    Ok(Cow::Owned(weights))
}

/// Square root of Σ (w' - w)² / Σ w²; 0 for a tensor of zeros.
fn relative_rms(tensor_type: TensorType, weights: &[f32], bytes: &[u8]) -> anyhow::Result<f64> {
    let slab_bytes = SLAB / tensor_type.block_len() * tensor_type.block_bytes();
    let mut read = vec![0.0; SLAB.min(weights.len())];
    let (mut error, mut norm) = (0.0, 0.0);
    for (weights, bytes) in weights.chunks(SLAB).zip(bytes.chunks(slab_bytes)) {
        let read = &mut read[..weights.len()];
        blocks::dequantize(tensor_type, bytes, read)?;
        for (w, r) in weights.iter().zip(&*read) {
            error += f64::from(r - w).powi(2);
            norm += f64::from(*w).powi(2);
        }
    }
    Ok(if norm == 0.0 { 0.0 } else { (error / norm).sqrt() })
}
