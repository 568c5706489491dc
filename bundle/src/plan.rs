//! Which variant for which device, before anything is downloaded or even trained.

use std::fmt;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use checkpoint::names::{self, Role, TensorName};
use config::{ModelConfig, RunFile, TokenizerKind, limits};
use fragment::FragmentFolder;
use gguf::{GgufFile, TensorSource, TensorType};
use serde::Serialize;

use crate::manifest::BUNDLE_NAME;
use crate::memory::MemoryNeed;

/// Memory of the devices that are planned for, in GiB.
pub const DEVICES_GIB: [u64; 5] = [1, 2, 4, 6, 8];

/// Share of a device's memory that one app can count on, in percent. iOS ends apps at about half
/// of the memory; Android and browsers are of the same mind.
pub const SHARE_PERCENT: u64 = 50;

/// Tokens of GPT-2's vocabulary, which a run file with that tokenizer implies.
const GPT2_VOCABULARY: usize = 50257;

/// A model in one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// llama.cpp's name of the quantization, or the file's.
    pub recipe: String,
    /// Bytes of its tensors.
    pub weights: u64,
    /// Whether `weights` is computed and not read from a file.
    pub estimated: bool,
}

/// What [`plan`] found out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanReport {
    /// `general.architecture`.
    pub architecture: String,
    /// Weights; a tied head counts once.
    pub parameters: usize,
    /// Tokens of context that this is for.
    pub context: usize,
    /// Largest first.
    pub variants: Vec<PlannedVariant>,
    /// By memory.
    pub devices: Vec<DevicePlan>,
}

/// What one variant takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedVariant {
    /// llama.cpp's name of the quantization, or the file's.
    pub recipe: String,
    /// Whether the weights are computed and not read from a file.
    pub estimated: bool,
    /// Weights, cache and buffers in bytes.
    pub memory: MemoryNeed,
}

/// What one device can take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DevicePlan {
    /// Its memory in GiB.
    pub memory_gib: u64,
    /// Bytes of it that the model may take.
    pub budget: u64,
    /// Variants that fit, largest first.
    pub fits: Vec<String>,
    /// The one to take: the largest that fits.
    pub choice: Option<String>,
}

/// Compares what each candidate takes at `context` tokens with what each device has.
pub fn plan(config: &ModelConfig, candidates: &[Candidate], context: usize) -> PlanReport {
    let mut variants: Vec<PlannedVariant> = candidates
        .iter()
        .map(|candidate| PlannedVariant {
            recipe: candidate.recipe.clone(),
            estimated: candidate.estimated,
            memory: MemoryNeed::of(config, candidate.weights, context),
        })
        .collect();
    variants.sort_by_key(|variant| std::cmp::Reverse(variant.memory.total));
    let device = |memory_gib: u64| {
        let budget = (memory_gib << 30) / 100 * SHARE_PERCENT;
        let fits: Vec<String> = variants
            .iter()
            .filter(|variant| variant.memory.total <= budget)
            .map(|variant| variant.recipe.clone())
            .collect();
        DevicePlan { memory_gib, budget, choice: fits.first().cloned(), fits }
    };
    PlanReport {
        architecture: config.architecture.name().to_owned(),
        parameters: config.parameter_count(),
        context,
        devices: DEVICES_GIB.into_iter().map(device).collect(),
        variants,
    }
}

/// The model and its variants in a run file, a GGUF, a fragments folder or a bundle.
///
/// From a run file, the sizes of F32, F16, Q8_0 and Q4_K_M are computed; `vocab_size` is needed
/// where the tokenizer does not fix it.
///
/// # Errors
/// When `input` is none of these, or is damaged.
pub fn candidates(
    input: &Path,
    vocab_size: Option<usize>,
) -> anyhow::Result<(ModelConfig, Vec<Candidate>)> {
    if input.extension().is_some_and(|extension| extension == "toml") {
        return from_run_file(input, vocab_size);
    }
    if input.join(BUNDLE_NAME).is_file() {
        return from_bundle(input);
    }
    let is_gguf = input.extension().is_some_and(|extension| extension == "gguf");
    let source: Box<dyn TensorSource> =
        if is_gguf { Box::new(GgufFile::open(input)?) } else { fragment::open_source(input)? };
    let name = input.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (config, candidate) = from_source(&*source, name)?;
    Ok((config, vec![candidate]))
}

fn from_run_file(
    path: &Path,
    vocab_size: Option<usize>,
) -> anyhow::Result<(ModelConfig, Vec<Candidate>)> {
    let run_file = RunFile::load(path, &[])?;
    let vocab_size = match (vocab_size, run_file.data.tokenizer) {
        (Some(size), _) => size,
        (None, TokenizerKind::Gpt2) => GPT2_VOCABULARY,
        (None, _) => bail!(
            "{}: the vocabulary of this tokenizer depends on the text; give --vocab-size",
            path.display()
        ),
    };
    ensure!(
        (1..=limits::VOCAB_SIZE).contains(&vocab_size),
        "--vocab-size {vocab_size}: expected 1 to {}",
        limits::VOCAB_SIZE
    );
    let config = run_file.model.config(vocab_size);
    let candidates = ["F32", "F16", "Q8_0", "Q4_K_M"].map(|recipe| Candidate {
        recipe: recipe.to_owned(),
        weights: estimated_weights(&config, recipe),
        estimated: true,
    });
    Ok((config, candidates.to_vec()))
}

fn from_bundle(folder: &Path) -> anyhow::Result<(ModelConfig, Vec<Candidate>)> {
    let manifest = crate::verify::read_manifest(folder)?;
    let mut found = None;
    let mut candidates = Vec::new();
    for variant in &manifest.variants {
        let source = FragmentFolder::open(&folder.join(&variant.manifest))?;
        let (config, candidate) = from_source(&source, variant.recipe.clone())?;
        candidates.push(candidate);
        found = Some(config);
    }
    Ok((found.context("the bundle has no variants")?, candidates))
}

fn from_source(
    source: &dyn TensorSource,
    recipe: String,
) -> anyhow::Result<(ModelConfig, Candidate)> {
    let config = checkpoint::gguf_config(source.metadata(), source.tensors())?;
    let weights = weight_bytes(source);
    Ok((config, Candidate { recipe, weights, estimated: false }))
}

/// Bytes of all tensors, padding not counted.
pub fn weight_bytes(source: &dyn TensorSource) -> u64 {
    source.tensors().iter().fold(0, |sum: u64, tensor| sum.saturating_add(tensor.size))
}

/// What the tensors of a recipe will take, by the table of names.
fn estimated_weights(config: &ModelConfig, recipe: &str) -> u64 {
    let tensors = names::tensors(config);
    let bits = |tensor: &TensorName| tensor.elements() as f64 * bits_of(tensor, config, recipe);
    (tensors.iter().map(bits).sum::<f64>() / 8.0) as u64
}

/// Bits of one weight. `Q4_K_M` keeps the head, or the embedding that serves as one, and about
/// half of the value and down projections in Q6_K: the matrices of a block come to 5 bits.
fn bits_of(tensor: &TensorName, config: &ModelConfig, recipe: &str) -> f64 {
    let block = |tensor_type: TensorType| {
        tensor_type.block_bytes() as f64 * 8.0 / tensor_type.block_len() as f64
    };
    if tensor.role != Role::Matrix {
        return 32.0;
    }
    match (recipe, tensor.gguf.as_str()) {
        ("F16", _) => 16.0,
        ("Q8_0", _) => block(TensorType::Q8_0),
        ("Q4_K_M", "output.weight") => block(TensorType::Q6_K),
        ("Q4_K_M", "token_embd.weight") if config.tie_embeddings => block(TensorType::Q6_K),
        ("Q4_K_M", "token_embd.weight") => block(TensorType::Q4_K),
        ("Q4_K_M", _) => 5.0,
        _ => 32.0,
    }
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = cli::count(self.parameters as u64);
        writeln!(
            f,
            "{} with {parameters} parameters, context {}",
            self.architecture, self.context
        )?;
        writeln!(
            f,
            "\n{:<20} {:>10} {:>10} {:>10} {:>10}",
            "variant, MB", "weights", "KV cache", "compute", "total"
        )?;
        for variant in &self.variants {
            let memory = variant.memory;
            writeln!(
                f,
                "{:<20} {:>10} {:>10} {:>10} {:>10}{}",
                variant.recipe,
                megabytes(memory.weights),
                megabytes(memory.kv_cache),
                megabytes(memory.compute),
                megabytes(memory.total),
                if variant.estimated { "  (estimated)" } else { "" }
            )?;
        }
        write!(f, "\n{:<8} {:>10}  {:<16} also fits", "device", "budget MB", "take")?;
        for device in &self.devices {
            write!(
                f,
                "\n{:<8} {:>10}  {:<16} {}",
                format!("{} GB", device.memory_gib),
                megabytes(device.budget),
                device.choice.as_deref().unwrap_or("none fits"),
                device.fits.iter().skip(1).cloned().collect::<Vec<_>>().join(", ")
            )?;
        }
        Ok(())
    }
}

/// Millions of bytes, with one decimal.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}
