//! A LoRA adapter by itself as a GGUF, which llama.cpp adds to a model that it has loaded (`--lora`).
//!
//! Source: `convert_lora_to_gguf.py` and `llama_adapter_lora_init_impl` (`src/llama-adapter.cpp`) of
//! llama.cpp. A tensor `NAME` of the model has `NAME.lora_a [in, rank]` and `NAME.lora_b [rank, out]`,
//! fastest dimension first, and is used as `W + alpha / rank * B A`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use checkpoint::hash::hash_file;
use checkpoint::lora::{ADAPTER_FOLDER, Adapter};
use checkpoint::{Checkpoint, atomic};
use gguf::{Metadata, TensorType, Value, Writer};

use crate::Report;

/// The settings of [`export_adapter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterJob {
    /// The model that it adapts, or another of the same shape: a checkpoint, Hugging Face or run folder.
    pub input: PathBuf,
    /// The folder of the adapter; that of the checkpoint itself if not given.
    pub adapter: Option<PathBuf>,
    /// The file to write; `NAME-lora-TYPE.gguf` in `RUN/gguf` or beside the input if not given.
    pub output: Option<PathBuf>,
    /// Type of the factors: F32, F16 or BF16.
    pub tensor_type: TensorType,
    /// `general.name`; the name of the run or of the input if not given.
    pub name: Option<String>,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
}

/// Writes an adapter as a GGUF.
///
/// # Errors
/// When there is no adapter, it is for another model or for experts, a factor is not finite or too
/// large for the type, or the file cannot be written.
pub fn export_adapter(job: &AdapterJob) -> Result<Report> {
    let start = Instant::now();
    ensure!(
        !job.tensor_type.is_quantized(),
        "--type {}: expected F32, F16 or BF16 for the factors of an adapter",
        job.tensor_type
    );
    let base = Checkpoint::open(&checkpoint::locate(&job.input)?)?;
    let adapter = open(&base, job)?;
    let name = job.name.clone().unwrap_or_else(|| base.default_name());
    let folder = || match base.run_dir() {
        Some(run) => run.join("gguf"),
        None => base.dir().parent().map(Path::to_owned).unwrap_or_default(),
    };
    let file_name = || crate::gguf_file::file_name(&format!("{name}-lora"), job.tensor_type);
    let output = job.output.clone().unwrap_or_else(|| folder().join(file_name()));
    ensure!(
        !base.consists_of(&output),
        "{} is part of the checkpoint itself; name another --output",
        output.display()
    );
    let tensors = write(&base, &adapter, &name, job, &output)
        .with_context(|| format!("cannot export the adapter of {}", job.input.display()))?;
    let digests =
        hash_file(&output).with_context(|| format!("cannot read {}", output.display()))?;
    Ok(Report {
        format: format!("GGUF {} (LoRA adapter)", job.tensor_type),
        tokenizer: None,
        tensors,
        size: digests.size,
        seconds: start.elapsed().as_secs_f64(),
        peak_rss_bytes: cli::memory::peak_resident(),
        sha256: digests.sha256,
        blake3: digests.blake3,
        output,
    })
}

fn open(base: &Checkpoint, job: &AdapterJob) -> Result<Adapter> {
    let own = base.dir().join(ADAPTER_FOLDER);
    let dir = match &job.adapter {
        Some(dir) => dir,
        None if own.is_dir() => &own,
        None => bail!(
            "{} has no adapter of its own; name the folder of one: --adapter FOLDER",
            job.input.display()
        ),
    };
    Adapter::open(dir, base.config()).with_context(|| format!("cannot export {}", dir.display()))
}

fn write(
    base: &Checkpoint,
    adapter: &Adapter,
    name: &str,
    job: &AdapterJob,
    output: &Path,
) -> Result<usize> {
    let factors = adapter.gguf_factors(base.config())?;
    let plan: Vec<_> = factors
        .iter()
        .map(|factor| (factor.name.clone(), factor.shape.to_vec(), job.tensor_type))
        .collect();
    let metadata = metadata(base, adapter, name);
    atomic::write_file::<_, anyhow::Error>(output, job.overwrite, |out| {
        let mut writer = Writer::new(&mut *out, &metadata, &plan)?;
        for factor in &factors {
            let bytes = adapter.gguf_bytes(factor, job.tensor_type)?;
            writer.write_tensor(&factor.name, &bytes)?;
        }
        writer.finish()?.flush()?;
        Ok(())
    })?;
    Ok(factors.len())
}

fn metadata(base: &Checkpoint, adapter: &Adapter, name: &str) -> Metadata {
    let text = |value: &str| Value::String(value.to_owned());
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", text(base.config().architecture.name()));
    metadata.set("general.type", text("adapter"));
    metadata.set("general.name", text(name));
    metadata.set("adapter.type", text("lora"));
    // llama.cpp divides by the rank; rsLoRA by its root.
    metadata.set("adapter.lora.alpha", Value::F32(adapter.settings().alpha_over_rank()));
    metadata
}
