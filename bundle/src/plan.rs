//! Chooses the variant for each size of device, before a model is downloaded or trained.

use std::fmt;
use std::path::Path;

use anyhow::Context;
use config::ModelConfig;
use fragment::FragmentFolder;
use gguf::{GgufParts, TensorSource};
use serde::Serialize;

use crate::estimate;
use crate::manifest::BUNDLE_NAME;
use crate::memory::{MemoryNeed, megabytes};
use crate::planned::{Candidate, Planned};
use crate::training::TrainingNeed;

/// Memory of the devices in a plan, in GiB.
pub const DEVICES_GIB: [u64; 6] = [1, 2, 4, 6, 8, 16];

/// Share of a device's memory that one app can use, in percent. iOS ends apps at about half of the
/// memory; Android and browsers do about the same.
pub const SHARE_PERCENT: u64 = 50;

/// The recipe to use on a device with `memory_gib` GiB of which the model may use `budget` bytes.
/// Each size is a recipe and the bytes that the running model needs.
///
/// The rule is that of the web chat (`bundle/app/src/choose.ts`), and both are held to
/// `bundle/tests/golden/proposals.json`: of those that fit, the largest with at most 4 bits a
/// weight up to 4 GiB, at most 8 bits up to 8 GiB and at most 16 above. More bits take longer for
/// each token, and the device runs other things. Where all that fit have more bits, the smallest.
pub fn proposed<'a>(sizes: &[(&'a str, u64)], memory_gib: u64, budget: u64) -> Option<&'a str> {
    let bits = match memory_gib {
        0..=4 => 4,
        5..=8 => 8,
        _ => 16,
    };
    let mut fitting: Vec<(&str, u64)> =
        sizes.iter().copied().filter(|(_, total)| *total <= budget).collect();
    fitting.sort_by_key(|(_, total)| std::cmp::Reverse(*total));
    let few_bits = fitting.iter().find(|(recipe, _)| recipe_bits(recipe) <= bits);
    few_bits.or(fitting.last()).map(|(recipe, _)| *recipe)
}

/// Bytes that a model may take on a device with `memory_gib` GiB.
pub fn budget(memory_gib: u64) -> u64 {
    (memory_gib << 30) * SHARE_PERCENT / 100
}

/// Bits of a weight in the recipe's main format, as its name says: 4 for `Q4_K_M`.
fn recipe_bits(recipe: &str) -> u32 {
    let number = recipe.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().unwrap_or(32)
}

/// The result of [`plan`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanReport {
    /// `general.architecture`.
    pub architecture: String,
    /// Weights; a tied head counts once.
    pub parameters: usize,
    /// Tokens of context that this is for.
    pub context: usize,
    /// Memory of training, if there is a run file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingNeed>,
    /// Largest first.
    pub variants: Vec<PlannedVariant>,
    /// By memory.
    pub devices: Vec<DevicePlan>,
}

/// The memory of one variant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedVariant {
    /// llama.cpp's name of the quantization, or the file's.
    pub recipe: String,
    /// Whether the weights are computed and not read from a file.
    pub estimated: bool,
    /// Weights, cache and buffers in bytes.
    pub memory: MemoryNeed,
}

/// The variants for one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DevicePlan {
    /// Its memory in GiB.
    pub memory_gib: u64,
    /// Bytes of it that the model may take.
    pub budget: u64,
    /// Variants that fit, largest first.
    pub fits: Vec<String>,
    /// The one to take, as [`proposed`] says.
    pub choice: Option<String>,
}

impl DevicePlan {
    /// The variants that fit besides the one to take.
    fn others(&self) -> Vec<&str> {
        let fits = self.fits.iter().map(String::as_str);
        fits.filter(|recipe| self.choice.as_deref() != Some(recipe)).collect()
    }
}

/// Compares what each candidate takes at `context` tokens with what each device has.
pub fn plan(model: &Planned, context: usize) -> PlanReport {
    let Planned { config, candidates, training } = model;
    let mut variants: Vec<PlannedVariant> = candidates
        .iter()
        .map(|candidate| PlannedVariant {
            recipe: candidate.recipe.clone(),
            estimated: candidate.estimated,
            memory: MemoryNeed::of(config, candidate.weights, context),
        })
        .collect();
    variants.sort_by_key(|variant| std::cmp::Reverse(variant.memory.total));
    let sizes: Vec<(&str, u64)> =
        variants.iter().map(|variant| (variant.recipe.as_str(), variant.memory.total)).collect();
    let device = |memory_gib: u64| {
        let budget = budget(memory_gib);
        let fits: Vec<String> = variants
            .iter()
            .filter(|variant| variant.memory.total <= budget)
            .map(|variant| variant.recipe.clone())
            .collect();
        let choice = proposed(&sizes, memory_gib, budget).map(str::to_owned);
        DevicePlan { memory_gib, budget, choice, fits }
    };
    let devices = DEVICES_GIB.into_iter().map(device).collect();
    PlanReport {
        architecture: config.architecture.name().to_owned(),
        parameters: config.parameter_count(),
        context,
        training: *training,
        devices,
        variants,
    }
}

/// The model and its variants in a run file, a GGUF, a fragments folder or a bundle.
///
/// From a run file, everything is computed; `vocab_size` is needed where neither the tokenizer
/// nor `train.init_from` fixes it.
///
/// # Errors
/// When `input` is another kind of file, or is damaged.
pub fn candidates(input: &Path, vocab_size: Option<usize>) -> anyhow::Result<Planned> {
    if input.extension().is_some_and(|extension| extension == "toml") {
        return estimate::from_run_file(input, vocab_size);
    }
    if input.join(BUNDLE_NAME).is_file() {
        return from_bundle(input);
    }
    let is_gguf = input.extension().is_some_and(|extension| extension == "gguf");
    let source: Box<dyn TensorSource> =
        if is_gguf { Box::new(GgufParts::open(input)?) } else { fragment::open_source(input)? };
    let recipe = gguf::recipe_of(input, source.metadata());
    let (config, candidate) = from_source(&*source, recipe)?;
    Ok(Planned { config, candidates: vec![candidate], training: None })
}

fn from_bundle(folder: &Path) -> anyhow::Result<Planned> {
    let manifest = crate::verify::read_manifest(folder)?;
    let mut found = None;
    let mut candidates = Vec::new();
    for variant in &manifest.variants {
        let source = FragmentFolder::open(&folder.join(&variant.manifest))?;
        let (config, candidate) = from_source(&source, variant.recipe.clone())?;
        candidates.push(candidate);
        found = Some(config);
    }
    let config = found.context("the bundle has no variants")?;
    Ok(Planned { config, candidates, training: None })
}

fn from_source(
    source: &dyn TensorSource,
    recipe: String,
) -> anyhow::Result<(ModelConfig, Candidate)> {
    let config = checkpoint::gguf_config(source)?;
    let weights = weight_bytes(source);
    Ok((config, Candidate { recipe, weights, estimated: false }))
}

/// Bytes of all tensors, padding not counted.
pub fn weight_bytes(source: &dyn TensorSource) -> u64 {
    source.tensors().iter().fold(0, |sum: u64, tensor| sum.saturating_add(tensor.size))
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = cli::count(self.parameters as u64);
        writeln!(
            f,
            "{} with {parameters} parameters, context {}",
            self.architecture, self.context
        )?;
        if let Some(training) = &self.training {
            writeln!(f, "\n{training}")?;
        }
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
                if variant.estimated { "  (computed)" } else { "" }
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
                device.others().join(", ")
            )?;
        }
        Ok(())
    }
}
