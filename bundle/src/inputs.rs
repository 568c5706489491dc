//! Collects the input of [`pack`](crate::pack()) from a run folder or from files named one by one.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use checkpoint::{Checkpoint, atomic};
use config::RunFile;
use data::Tokenizer;

use crate::license::License;
use crate::manifest::{Generation, Provenance, Quality};
use crate::pack::{AppChoice, PackJob, VariantInput};
use crate::quality::{Measured, MeasuredFile};

/// Files named one by one.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Recipe and path of each variant.
    pub variants: Vec<(String, PathBuf)>,
    /// `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// `report.json` of `eval`; without one, no quality is claimed.
    pub report: Option<PathBuf>,
    /// Shown to the user.
    pub name: String,
    /// SPDX expression for the weights; without one, that of `license_sources`.
    pub license: Option<String>,
    /// The file with the text of a licence that is not on SPDX's list.
    pub license_file: Option<PathBuf>,
    /// Folders that the weights come from.
    pub license_sources: Vec<PathBuf>,
    /// Text that the self-test continues.
    pub prompt: String,
    /// Tokens that the self-test expects.
    pub self_test_tokens: usize,
    /// Most bytes in one fragment.
    pub max_bytes: u64,
}

impl PackJob {
    /// A job for files named one by one, with empty provenance.
    ///
    /// # Errors
    /// When the weights' licence is not known, the tokenizer or the report cannot be read or is
    /// inside of the output, or a gate of the report was missed.
    pub fn from_inputs(inputs: Inputs, output: PathBuf) -> anyhow::Result<Self> {
        let license = License::of(
            inputs.license.as_deref(),
            inputs.license_file.as_deref(),
            &inputs.license_sources,
        )?;
        for input in std::iter::once(&inputs.tokenizer).chain(&inputs.report) {
            atomic::ensure_outside(input, &output)?;
        }
        let tokenizer_json = plain_file::read_to_string(&inputs.tokenizer)
            .with_context(|| format!("cannot read {}", inputs.tokenizer.display()))?;
        let tokenizer = open_tokenizer(&inputs.tokenizer)?;
        ensure!(!inputs.prompt.is_empty(), "the self-test's prompt is empty: give it some text");
        let prompt_tokens =
            tokenizer.encode_prompt(&inputs.prompt).context("the self-test's prompt")?;
        let measured = inputs.report.as_deref().map(Measured::load).transpose()?;
        let variant = |(recipe, source): (String, PathBuf)| -> anyhow::Result<VariantInput> {
            let (quality, measured) = match &measured {
                Some(report) => (report.quality(&recipe), report.file(&recipe)?),
                None => (Quality::default(), MeasuredFile::default()),
            };
            let source = fragment::local(&source)?;
            Ok(VariantInput { recipe, source, quality, measured })
        };
        Ok(PackJob {
            output,
            zip: false,
            force: false,
            replace_signed: false,
            app: AppChoice::default(),
            variants: inputs.variants.into_iter().map(variant).collect::<anyhow::Result<_>>()?,
            name: inputs.name,
            license,
            release: None,
            expires: None,
            max_bytes: inputs.max_bytes,
            tokenizer_json,
            generation: Generation::default(),
            prompt: inputs.prompt,
            prompt_tokens,
            self_test_tokens: inputs.self_test_tokens,
            provenance: Provenance {
                program_version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Provenance::default()
            },
        })
    }

    /// A job for a run folder: one variant for each recipe of its run file, from
    /// `fragments/RECIPE` or else `gguf/*-RECIPE.gguf`, measured by `report.json`.
    ///
    /// # Errors
    /// When something is missing, or a gate of the report was missed.
    pub fn from_run(run: &Path, output: Option<PathBuf>) -> anyhow::Result<Self> {
        let run_file = RunFile::load(&run.join("config.toml"), &[])?;
        let checkpoint = Checkpoint::open(&checkpoint::latest(run)?)?;
        let variants = run_file
            .quantize
            .recipes
            .iter()
            .map(|recipe| Ok((recipe.clone(), find_variant(run, recipe)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let inputs = Inputs {
            variants,
            tokenizer: checkpoint.dir().join(checkpoint::TOKENIZER_FILE),
            report: Some(run.join("report.json")),
            name: run_file.bundle.name.clone(),
            license: run_file.bundle.license.clone(),
            license_file: run_file.bundle.license_file.clone(),
            license_sources: run_file.train.init_from.iter().cloned().collect(),
            prompt: run_file.bundle.prompt.clone(),
            self_test_tokens: run_file.bundle.self_test_tokens,
            max_bytes: run_file.fragment.max_bytes,
        };
        let mut job = PackJob::from_inputs(inputs, output.unwrap_or_else(|| run.join("bundle")))?;
        job.zip = run_file.bundle.zip;
        job.release = run_file.bundle.release;
        job.expires.clone_from(&run_file.bundle.expires);
        job.provenance.run_file = Some(run_file.without_folders().to_toml()?);
        let tokens_hash = checkpoint.trainer()?.map(|trainer| trainer.tokens_hash);
        job.provenance.data_blake3 = tokens_hash.filter(|hash| !hash.is_empty());
        Ok(job)
    }
}

fn find_variant(run: &Path, recipe: &str) -> anyhow::Result<PathBuf> {
    let fragments = run.join("fragments").join(recipe);
    if fragments.join(fragment::manifest::MANIFEST_NAME).is_file() {
        return Ok(fragments);
    }
    let folder = run.join("gguf");
    let suffix = format!("-{recipe}.gguf");
    let mut found: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(&suffix))
        .collect();
    found.sort();
    found.into_iter().next().with_context(|| {
        format!("{} has neither fragments/{recipe} nor gguf/*{suffix}: run quantize", run.display())
    })
}

/// A `tokenizer.json` with the files beside it, which name the token that begins a text.
fn open_tokenizer(path: &Path) -> anyhow::Result<Tokenizer> {
    match path.parent() {
        Some(folder) if path.ends_with(checkpoint::TOKENIZER_FILE) => {
            Tokenizer::from_folder(folder)
        }
        _ => Tokenizer::open(path),
    }
}
